"""The real thing: a systemd, booted for the test, runs the unit that `systemd-unit` prints."""

import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gridfs
import pytest
from pymongo import MongoClient

from tests.support.booted_systemd import BootedSystemd, booted_systemd
from tests.support.documents import encoded, picture
from tests.support.mongo import RunningMongod
from tests.support.supervising import MISBEHAVING, Jobs, configuration, jobs_in, toml
from tests.support.until import until

pytestmark = pytest.mark.slow

DATABASE = "test_under_systemd"
FOLDER = '/srv/50% of $HOME "jobs"'
"""All that has to be quoted in a unit."""
HASTE = """\
[Service]
WatchdogSec=5
TimeoutAbortSec=5
TimeoutStopSec=2
RestartSec=1
StandardOutput=append:/var/log/%N
"""
LINES = ["Minutes of the harbour council", "The meeting was opened at noon"]


@pytest.fixture(scope="module")
def systemd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootedSystemd]:
    with booted_systemd(tmp_path_factory.mktemp("systemd")) as booted:
        yield booted


@pytest.fixture
def jobs(mongod: RunningMongod) -> Iterator[Jobs]:
    with jobs_in(mongod.uri, DATABASE) as found:
        yield found
        found.collection.database.client.drop_database(DATABASE)


def install(systemd: BootedSystemd, name: str, config: dict[str, Any], *options: str) -> Path:
    """Print the unit there and hand it to systemd; return the configuration's path, as seen from here."""
    folder = systemd.path(FOLDER) / name
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(toml(config))
    done = systemd.python("systemd-unit", "--name", name, *options, folder=f"{FOLDER}/{name}")
    assert (done.returncode, done.stderr) == (0, "")
    units = systemd.path("/etc/systemd/system")
    (units / f"{name}.service").write_text(done.stdout)
    (units / f"{name}.service.d").mkdir()
    (units / f"{name}.service.d" / "haste.conf").write_text(HASTE)
    systemd.systemctl("daemon-reload")
    return folder / "config.toml"


def log_of(systemd: BootedSystemd, name: str) -> str:
    path = systemd.path(f"/var/log/{name}")
    return path.read_text() if path.exists() else ""


def test_the_service_starts_reloads_is_watched_and_stops(
    systemd: BootedSystemd, jobs: Jobs, mongod: RunningMongod
) -> None:
    modules = [MISBEHAVING, "handlers"]
    config = configuration(mongod.uri, DATABASE, pool={"workers": 2, "modules": modules}, shutdown={"drain_s": 30})
    path = install(systemd, "jobs", config)
    systemd.systemctl("start", "jobs")
    assert systemd.property("jobs", "ActiveState") == "active", "it says itself when it is ready"
    assert '"supervisor.ready"' in log_of(systemd, "jobs")
    jobs.wait(jobs.insert("ok"))
    status = "0/2 busy, 0 pending, 0 quarantined"
    until(lambda: systemd.property("jobs", "StatusText") == status, 15, "its status")

    # behind the hardening
    assert jobs.run("environment")["result"]["names"].count("NOTIFY_SOCKET") == 0
    page = gridfs.GridFSBucket(jobs.collection.database, "files").upload_from_stream(
        "page.png", encoded(picture(LINES), "PNG")
    )
    read = jobs.run("ocr", {"source": {"file_id": page}}, within_s=60)
    assert LINES[0] in str(read.get("result")), read.get("error")
    healthy = systemd.python("health", folder="/")
    assert (healthy.returncode, healthy.stderr) == (0, "")

    # reload
    config["retry"]["max_attempts"] = 7
    path.write_text(toml(config))
    systemd.systemctl("reload", "jobs")
    until(lambda: "retry.max_attempts" in log_of(systemd, "jobs"), 10, "the edit to apply")
    path.write_text("[pool\n")
    systemd.systemctl("reload", "jobs")
    path.write_text(toml(config))
    assert systemd.property("jobs", "ActiveState") == "active"

    # watchdog
    stopped = int(systemd.property("jobs", "MainPID"))
    kept = jobs.insert("sleeps", {"seconds": 600})
    jobs.wait(kept, "processing")
    systemd.run("kill", "-STOP", str(stopped))
    until(lambda: systemd.property("jobs", "NRestarts") == "1", 30, "a restart by the watchdog")
    until(lambda: systemd.property("jobs", "SubState") == "running", 30, "the successor")
    assert int(systemd.property("jobs", "MainPID")) != stopped
    until(lambda: len(jobs.get(kept).get("attempts", [])) == 1, 20, "the predecessor's job to be taken over")
    jobs.collection.update_one({"_id": kept}, {"$set": {"cancel_requested": True}})
    assert jobs.wait(kept)["attempts"][0]["outcome"] == "lost"

    # stop: what runs may finish, and while it does more time is asked for than TimeoutStopSec=
    last = jobs.insert("sleeps", {"seconds": 5})
    jobs.wait(last, "processing")
    systemd.systemctl("stop", "jobs")
    assert jobs.get(last)["status"] == "completed"
    assert (systemd.property("jobs", "ActiveState"), systemd.property("jobs", "Result")) == ("inactive", "success")
    assert systemd.run("systemctl", "show", "--property", "ControlGroup", "jobs").stdout.strip() == "ControlGroup="
    gone = systemd.python("health", folder="/")
    assert (gone.returncode, "no supervisor runs here" in gone.stderr) == (1, True)


def test_a_mistake_in_the_configuration_is_not_restarted(systemd: BootedSystemd) -> None:
    config = configuration("mongodb://127.0.0.1:1/", DATABASE)
    path = install(systemd, "mistaken", config)
    path.write_text("[pool]\nworkers = -1\n")
    assert systemd.run("systemctl", "start", "mistaken").returncode != 0
    assert systemd.property("mistaken", "ExecMainStatus") == "2"
    assert systemd.property("mistaken", "ActiveState") == "failed"
    assert systemd.property("mistaken", "NRestarts") == "0"


def test_the_embedded_database_is_left_in_order(systemd: BootedSystemd) -> None:
    config = configuration("embedded", DATABASE, pool={"workers": 1})
    install(systemd, "own", config, "--user", "daemon")
    systemd.systemctl("start", "own")
    data = systemd.path("/var/lib/own/mongodb")
    assert data.stat().st_uid == pwd.getpwnam("daemon").pw_uid
    with MongoClient[Any](f"mongodb://{quote(str(data / 'mongo.sock'), safe='')}/?directConnection=true") as client:
        megabyte = os.urandom(1_000_000)
        client["test"]["data"].insert_many([{"n": n, "data": megabyte} for n in range(60)])  # to be written at its end
    systemd.systemctl("stop", "own")
    assert "ended with exit code 0" in (data / "keeper.log").read_text(), "mongod was not killed"
