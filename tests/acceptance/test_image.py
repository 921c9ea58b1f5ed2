"""The image of deploy/Dockerfile, really built and really run, as Compose and Kubernetes would run it."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handlers._ocr.sample import make_sample
from tests.support.containers import TOOLS, Container, Image, built_image
from tests.support.deployment import DEPLOY, container
from tests.support.mongo import RunningMongod
from tests.support.supervising import Jobs
from tests.support.until import until

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]

START_S = 60.0
HANDLERS = """
import os, time
from supervisor import handler

@handler("waits")
def waits(payload: dict) -> dict:
    while not os.path.exists(payload["path"]):
        time.sleep(0.05)
    return {"uid": os.getuid()}
"""
CONFIG = (DEPLOY / "config" / "config.toml").read_text().replace('["handlers"]', '["handlers", "own_handlers"]')


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        reason = f"needs root and the Debian packages {', '.join(TOOLS)}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with built_image(tmp_path_factory.mktemp("image")) as built:
        yield built


@pytest.fixture(scope="module")
def jobs(module_jobs: Jobs) -> Jobs:
    return module_jobs


@pytest.fixture
def pod(image: Image, mongod: RunningMongod, jobs: Jobs, tmp_path: Path) -> Iterator[Container]:
    """A running container, its configuration mounted as the kubelet does: through a link to a directory by its date."""
    started = Container(image, tmp_path / "pod", mongod.uri, jobs.collection.database.name)
    (started.app / "own_handlers.py").write_text(HANDLERS)
    make_sample(started.config / "page.png")
    (started.config / "config.toml").symlink_to("..data/config.toml")
    update(started, CONFIG)
    started.start()
    until(lambda: phase(jobs) == "running" or started.process.poll(), START_S, "a supervisor in the container")
    assert started.process.poll() is None, started.log()
    yield started
    started.end()
    jobs.collection.delete_many({})
    for name in ("supervisors", "controls"):
        jobs.collection.database[name].delete_many({})


def update(pod: Container, config: str) -> None:
    """Change the configuration as the kubelet does: a new directory, and the link to it replaced."""
    name = f"..{len(list(pod.config.iterdir()))}"
    (pod.config / name).mkdir()
    (pod.config / name / "config.toml").write_text(config)
    (pod.config / "..new").symlink_to(name)
    (pod.config / "..new").rename(pod.config / "..data")


def heartbeat(jobs: Jobs) -> dict[str, Any]:
    return jobs.collection.database["supervisors"].find_one() or {}


def phase(jobs: Jobs) -> str:
    return str(heartbeat(jobs).get("phase"))


def test_it_holds_nothing_that_builds_and_no_database(image: Image) -> None:
    names = {path.name for folder in ("usr/bin", "opt/supervisor/bin") for path in (image.root / folder).iterdir()}
    assert {"python3", "tini"} <= names
    assert names & {"pip", "pip3", "gcc", "cc", "make", "git", "curl", "mongod"} == set()
    print(f"{image.added_mb} MB on top of the base")
    assert image.added_mb < 300


def test_it_reads_a_page_without_privileges_and_without_writing_to_its_files(pod: Container, jobs: Jobs) -> None:
    init = pod.init()
    assert init.name() == "tini"
    (program,) = init.children()
    assert {each.uids().effective for each in [init, program, *program.children(recursive=True)]} == {10001}
    assert pod.execute("touch", "/etc/supervisor/x").returncode != 0
    assert pod.execute("touch", "/opt/supervisor/x").returncode != 0
    read = pod.execute("python", "-m", "supervisor", "enqueue", "ocr", "--file", "page.png", "--wait")
    assert read.returncode == 0, read.stdout + read.stderr + pod.log()
    assert "Northgate Marine Supplies" in read.stdout


def test_an_edit_of_the_mounted_configuration_is_applied(pod: Container, jobs: Jobs) -> None:
    update(pod, CONFIG.replace('workers = "auto"', "workers = 3"))
    until(lambda: heartbeat(jobs)["workers"] == 3, what="three workers")
    assert heartbeat(jobs)["workers_from"] == "file"


def test_every_probe_fails_when_the_supervisor_is_stopped(pod: Container) -> None:
    said = container()
    probes = [pod.image.config["Healthcheck"]["Test"][1:]]
    probes += [said[f"{name}Probe"]["exec"]["command"] for name in ("startup", "liveness", "readiness")]

    def passing() -> int:
        return [pod.execute(*probe).returncode for probe in probes].count(0)

    until(lambda: passing() == len(probes), START_S, "all probes to pass")
    (program,) = pod.init().children()
    program.suspend()
    until(lambda: passing() == 0, 120, "all probes to fail")
    program.resume()
    until(lambda: passing() == len(probes), START_S, "all probes to pass again")


def test_the_hook_before_the_stop_lets_jobs_finish_and_leaves_nothing(pod: Container, jobs: Jobs) -> None:
    running = jobs.insert("waits", {"path": "/tmp/finish"})
    jobs.wait(running, "processing")
    hook = pod.begin(*container()["lifecycle"]["preStop"]["exec"]["command"])
    until(lambda: phase(jobs) == "draining", START_S)
    late = jobs.insert("waits", {"path": "/tmp/finish"})
    assert pod.execute("touch", "/tmp/finish").returncode == 0
    out, _ = hook.communicate(timeout=START_S)
    assert (hook.returncode, out.splitlines()[-1]) == (0, "no job runs there")
    assert jobs.get(running)["result"] == {"uid": 10001}
    assert jobs.get(late)["status"] == "pending"
    pod.signal(signal.SIGTERM)
    assert pod.process.wait(START_S) == 0, pod.log()
    assert heartbeat(jobs) == {}
    (drain,) = jobs.collection.database["controls"].find({"kind": "drain"})
    assert drain["until"] is not None, "it ends by itself"


def test_a_stop_without_the_hook_lets_jobs_finish_too(pod: Container, jobs: Jobs) -> None:
    running = jobs.insert("waits", {"path": "/tmp/finish"})
    jobs.wait(running, "processing")
    pod.signal(signal.SIGTERM)
    until(lambda: phase(jobs) == "draining", START_S)
    assert pod.execute("touch", "/tmp/finish").returncode == 0
    assert pod.process.wait(START_S) == 0, pod.log()
    assert jobs.get(running)["status"] == "completed"
    log = [json.loads(line) for line in pod.log().splitlines()]
    assert log[-1]["event"] == "supervisor.stopped"


def test_nothing_is_left_when_the_container_is_killed(pod: Container, jobs: Jobs) -> None:
    jobs.wait(jobs.insert("waits", {"path": "/tmp/never"}), "processing")
    family = pod.init().children(recursive=True)
    assert len(family) > 2
    pod.signal(signal.SIGKILL)
    until(lambda: not any(each.is_running() for each in family), what="the end of all processes")
