"""A database that is full, takes our password away, or loses its power; and clocks of supervisors that are wrong."""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from pymongo.write_concern import WriteConcern

from tests.support.mongo import RunningMongod, faked_clock, start_mongod
from tests.support.small_disks import small_disk, write_all
from tests.support.supervising import Document, Jobs, RunningSupervisor, configuration, jobs_in
from tests.support.until import until

DISK_MB = 450
SECRET = "hunter2"  # a test's


def ends(jobs: Jobs, job_id: object) -> tuple[str, int, int]:
    job = jobs.wait(job_id, within_s=40)
    return job["status"], job["attempt"], len(job["attempts"])


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that is small."""
    with small_disk(tmp_path / "disk", f"size={DISK_MB}m") as folder:
        yield folder


def test_a_full_disk_pauses_the_claims_and_is_over_when_there_is_space(
    disk: Path, tmp_path: Path, mongod: RunningMongod
) -> None:
    full = start_mongod(disk)
    supervisor = RunningSupervisor(
        tmp_path / "supervisor", configuration(full.uri, "full", lease={"seconds": 60})
    ).start()
    try:
        with jobs_in(full.uri, "full") as jobs:
            running = jobs.insert("waits_for_file", {"path": str(tmp_path / "go")})
            supervisor.wait_for("job.started")
            ballast = disk / "ballast"
            until(lambda: is_refused(full, ballast), 20, "mongod to have no room")
            (tmp_path / "go").touch()
            supervisor.wait_for("database.unavailable", timeout_s=20)
            assert psutil.Process(supervisor.pid).cpu_percent(1) < 50, "it does not run in circles"
            ballast.unlink()
            if not full.alive():  # mongod ends itself when its journal finds no room
                full.restart()
            assert ends(jobs, running) == ("completed", 1, 1)
            assert jobs.run("ok", within_s=10)["status"] == "completed"
    finally:
        supervisor.end()
        full.stop()


def is_refused(full: RunningMongod, ballast: Path) -> bool:
    """Fill the disk and write; tell whether mongod refuses even a little, or has ended.

    It frees a little now and then, and its journal has room for small writes when there is none for large ones.
    """
    with contextlib.suppress(OSError):
        write_all(ballast)
    return all(not write(full, size) for size in (1 << 20, 1 << 20, 100)) or not full.alive()


def write(full: RunningMongod, size: int) -> bool:
    """Write so many bytes; tell whether they stand in the journal."""
    try:
        with full.client() as client:
            journalled = client["full"].get_collection("ballast", write_concern=WriteConcern(w="majority", j=True))
            journalled.insert_one({"text": os.urandom(size)})
    except PyMongoError:
        return False
    return True


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[RunningMongod]:
    """A mongod that asks for a password; `root` has one."""
    key = tmp_path / "key"
    key.write_text("k" * 32)
    key.chmod(0o400)
    running = start_mongod(tmp_path, ["--auth", "--keyFile", str(key)])
    with running.client() as client:
        client.admin.command("createUser", "root", pwd=SECRET, roles=["root"])
    yield running
    running.stop()


def test_a_password_that_is_taken_away_stops_the_claims_and_then_the_supervisor(
    guarded: RunningMongod, tmp_path: Path
) -> None:
    root, me = (f"mongodb://{user}:{SECRET}@{guarded.address}/?directConnection=true" for user in ("root", "me"))
    supervisor = RunningSupervisor(tmp_path / "supervisor", configuration(me, "guarded", mongo={"give_up_s": 4}))
    with MongoClient[Document](root, timeoutMS=10_000) as client:
        client.admin.command("createUser", "me", pwd=SECRET, roles=["readWriteAnyDatabase"])
        supervisor.start()
        try:
            jobs = Jobs(client["guarded"]["jobs"])
            assert jobs.run("ok")["status"] == "completed"
            client.admin.command("dropUser", "me")
            supervisor.wait_for("database.unavailable", timeout_s=20)
            waiting = jobs.insert("ok")
            assert psutil.Process(supervisor.pid).cpu_percent(1) < 50, "it does not run in circles"
            assert supervisor.process.wait(30) == 3
            assert jobs.get(waiting)["status"] == "pending"
            *logged, said = supervisor.output().splitlines()
            assert said.startswith("error: MongoDB at mongodb://me:***@")
            assert said.endswith("requires authentication")
            assert all(json.loads(line) for line in logged), "also what the driver says of it"
            assert SECRET not in supervisor.output()
        finally:
            supervisor.end()


def certify(folder: Path, name: str) -> Path:
    """Make a key and a certificate for this machine that nobody but itself vouches for; return the certificate."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    made = ["-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", *made, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    (folder / f"{name}.pem").write_text(key.read_text() + certificate.read_text())
    return certificate


def test_a_certificate_that_cannot_be_trusted_is_not_and_its_successor_is(tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    trusted, served = certify(tmp_path, "trusted"), tmp_path / "served.pem"
    certify(tmp_path, "stranger")
    shutil.copy(tmp_path / "trusted.pem", served)
    mongod = start_mongod(tmp_path, ["--tlsMode", "preferTLS", "--tlsCertificateKeyFile", str(served)])
    config = configuration(f"{mongod.uri}&tls=true&tlsCAFile={trusted}", "encrypted", mongo={"wait_s": 1})
    supervisor, late = (RunningSupervisor(tmp_path / name, config) for name in ("supervisor", "late"))
    supervisor.start()
    try:
        with jobs_in(mongod.uri, "encrypted") as jobs:
            assert jobs.run("ok")["status"] == "completed"
            shutil.copy(tmp_path / "stranger.pem", served)
            mongod.restart()
            waiting = jobs.insert("ok")
            until(lambda: "certificate verify failed" in supervisor.output(), 30, "the reason, sooner or later")
            assert late.start(ready=False).process.wait(20) == 3
            assert "certificate verify failed" in late.output().splitlines()[-1]
            assert jobs.get(waiting)["status"] == "pending"
            assert psutil.Process(supervisor.pid).cpu_percent(1) < 50, "it does not run in circles"
            shutil.copy(tmp_path / "trusted.pem", served)
            mongod.restart()
            assert ends(jobs, waiting) == ("completed", 1, 1)
        assert supervisor.stop() == 0
    finally:
        supervisor.end()
        mongod.stop()


def test_after_a_loss_of_power_everything_goes_on_whatever_comes_back_first(tmp_path: Path) -> None:
    mongod = start_mongod(tmp_path)
    config = configuration(mongod.uri, "power", lease={"seconds": 120}, mongo={"wait_s": 60})
    first, second = (RunningSupervisor(tmp_path / name, config) for name in ("first", "second"))
    first.start()
    try:
        with jobs_in(mongod.uri, "power") as jobs:
            done, running = jobs.run("ok")["_id"], jobs.insert("sleeps", {"seconds": 60})
            first.wait_for("job.started", count=2)
            mongod.kill()
            first.kill()
            second.start(ready=False)
            until(lambda: psutil.Process(second.pid).cpu_percent(0.5) < 50, 20, "it to wait without running in circles")
            mongod.restart()
            second.wait_for("supervisor.ready")
            assert jobs.get(done)["status"] == "completed"
            entry = second.wait_for("job.orphaned")
            assert (entry["job_id"], entry["cause"]) == (str(running), "its supervisor died")
            jobs.collection.update_one({"_id": running}, {"$set": {"cancel_requested": True}})
            assert jobs.wait(running)["status"] == "cancelled"
    finally:
        for supervisor in (first, second):
            if hasattr(supervisor, "process"):
                supervisor.end()
        mongod.stop()


def test_a_supervisor_s_clock_may_be_an_hour_off(
    mongo_uri: str, database_name: str, jobs: Jobs, tmp_path: Path
) -> None:
    config = configuration(mongo_uri, database_name, lease={"seconds": 3})
    running = []
    for ahead in ("+3600", "-3600"):
        offset = tmp_path / f"clock{ahead}"
        offset.write_text(ahead)
        if not (environ := faked_clock(offset)):
            pytest.skip("libfaketime is not installed (the Debian package libfaketime)")
        running.append(RunningSupervisor(tmp_path / ahead, config, environ=environ))
    try:
        for supervisor in running:
            supervisor.start()
        longer_than_its_lease = jobs.insert("busy", {"seconds": 4})  # libfaketime breaks Python's sleep
        for job_id in [longer_than_its_lease, *(jobs.insert("ok") for _ in range(20))]:
            assert ends(jobs, job_id) == ("completed", 1, 1)
        assert len({supervisor.output()[15:28] for supervisor in running}) == 2, "their clocks do differ"
        for supervisor in running:
            assert not supervisor.events("job.orphaned")
            assert not supervisor.events("database.clock_doubted")
            assert supervisor.stop() == 0
    finally:
        for supervisor in running:
            if hasattr(supervisor, "process"):
                supervisor.end()
