"""`Supervisor` in the lifespan of a FastAPI application: a real uvicorn, a real mongod, signals to real processes."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support.supervising import ROOT, Jobs, gone, jobs_in
from tests.support.until import until

COROUTINES, WORKERS = "tests.support.coroutines", "tests.support.worker_facts"
Document = dict[str, Any]


@dataclass
class RunningApplication:
    """The application of tests.support.application as a subprocess."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def get(self, path: str, **params: Any) -> Document:
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30, trust_env=False) as client:
            found: Document = client.get(path, params=params).raise_for_status().json()
            return found

    def said(self, *words: str) -> list[str]:
        """The lines of its log that have all these words."""
        return [line for line in self.log.read_text().splitlines() if all(word in line for word in words)]

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(httpx.TransportError):
            return bool(self.get("/state")["is_running"])
        return False

    def stop(self) -> None:
        """TERM, as an orchestrator sends it; uvicorn ends by that signal when its lifespan has."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) in (0, -signal.SIGTERM), self.log.read_text()


StartApplication = Callable[..., RunningApplication]


@pytest.fixture
def start(mongo_uri: str, database_name: str, tmp_path: Path) -> Iterator[StartApplication]:
    """Start an application; keyword arguments are tables of its supervisor's configuration."""
    running: list[RunningApplication] = []

    def start_one(*, up: bool = True, environ: dict[str, str] | None = None, **tables: Document) -> RunningApplication:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        pool = {"workers": 0, "modules": [COROUTINES], "kill_grace_s": 0.5, **tables.pop("pool", {})}
        merged = {"pool": pool, "lease": {"seconds": 5, "reap_every_s": 0.5}, **tables}
        names = {"MONGO": mongo_uri, "DATABASE": database_name, "TABLES": json.dumps(merged), "PYTHONPATH": str(ROOT)}
        log = tmp_path / f"application-{len(running)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", "tests.support.application:app", "--port", str(port)],
                cwd=tmp_path,
                env={**os.environ, **names, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        made = RunningApplication(process, port, log)
        running.append(made)
        if up:
            until(made.is_up, 60, "the application to be up")
        return made

    yield start_one
    for each in running:
        with contextlib.suppress(psutil.NoSuchProcess):
            family = each.family()
            each.process.kill()
            gone(family)
        each.process.wait(10)


@pytest.fixture
def jobs(mongo_uri: str, database_name: str) -> Iterator[Jobs]:
    with jobs_in(mongo_uri, database_name) as found:
        yield found


def test_jobs_run_in_the_application_while_it_answers(start: StartApplication, jobs: Jobs, tmp_path: Path) -> None:
    application = start(lease={"seconds": 20})
    assert application.family() == [], "without workers, there is no other process"
    enough = tmp_path / "enough"
    ids = [jobs.insert("c_waits", {"until": str(enough)}) for _ in range(200)]
    until(lambda: jobs.collection.count_documents({"status": "processing"}) == 200, 60, "all of them at once")
    assert application.get("/state") == {"pid": application.process.pid, "is_running": True, "failure": None}
    enough.touch()
    assert {jobs.wait(job_id, within_s=60)["status"] for job_id in ids} == {"completed"}
    assert jobs.run("c_whoami")["result"]["pid"] == application.process.pid
    assert application.said("app INFO supervisor.job attempt.ended", "handler='c_whoami'"), "in the application's log"
    assert application.said("Uvicorn running on"), "whose own lines are as they were"


def test_http_is_left_to_the_application(start: StartApplication) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    application = start(http={"enabled": True, "port": port})
    assert application.said("config.warning", "[http] enabled = true has no effect in an application")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/health/live", trust_env=False)


def test_the_end_of_the_application_drains(start: StartApplication, jobs: Jobs, tmp_path: Path) -> None:
    application = start(shutdown={"drain_s": 1})
    long = jobs.insert("c_cleans_up", {"folder": str(tmp_path)})
    jobs.wait(long, "processing")
    short = jobs.insert("c_sleeps", {"seconds": 0.7})
    jobs.wait(short, "processing")
    application.stop()
    assert jobs.get(short)["status"] == "completed"
    job = jobs.get(long)
    assert (job["status"], job["attempt"], job.get("lease")) == ("pending", 0, None)
    assert (tmp_path / "stop").read_text() == "JobInterrupted"
    assert jobs.collection.database["supervisors"].count_documents({}) == 0


def test_a_second_signal_hurries_the_end_of_the_application(
    start: StartApplication, jobs: Jobs, tmp_path: Path
) -> None:
    application = start(shutdown={"drain_s": 600})
    job_id = jobs.insert("c_waits", {"until": str(tmp_path / "never")})
    jobs.wait(job_id, "processing")
    application.process.send_signal(signal.SIGINT)
    until(lambda: application.said("supervisor.draining"), 30, "it to drain")
    application.process.send_signal(signal.SIGINT)
    application.process.wait(60)
    assert application.said("Application shutdown complete"), application.log.read_text()
    job = jobs.get(job_id)
    assert (job["status"], job["attempt"], job.get("lease")) == ("pending", 0, None)


def test_one_process_is_an_application_with_its_supervisor_and_the_embedded_database(
    start: StartApplication, tmp_path: Path
) -> None:
    application = start(environ={"MONGO": "embedded", "DATA_DIR": str(tmp_path / "data")})
    with httpx.Client(base_url=f"http://127.0.0.1:{application.port}/api", timeout=30, trust_env=False) as client:
        job_id = client.post("/jobs", json={"handler": "c_whoami"}).raise_for_status().json()["job_id"]
        until(lambda: client.get(f"/jobs/{job_id}").json()["status"] == "completed", 30, "the job to be completed")
        assert client.get(f"/jobs/{job_id}").json()["result"]["pid"] == application.process.pid
    application.stop()


def test_after_a_sigkill_of_the_application_its_jobs_run_elsewhere(start: StartApplication, jobs: Jobs) -> None:
    victim, other = start(), None
    ids = [jobs.insert("c_sleeps", {"seconds": 600}) for _ in range(10)]
    for job_id in ids:
        jobs.wait(job_id, "processing")
    other = start()
    jobs.collection.update_many({}, {"$set": {"payload.seconds": 0}})
    victim.process.kill()
    for job_id in ids:
        job = jobs.wait(job_id, within_s=40)
        assert (job["status"], job["attempt"], job["attempts"][0]["outcome"]) == ("completed", 2, "lost")
        assert job["attempts"][1]["pid"] == other.process.pid


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_workers_of_an_application_are_like_others_and_end_with_it(
    end: signal.Signals, start: StartApplication, jobs: Jobs
) -> None:
    environ = {"SUPERVISOR_RETRY__MAX_ATTEMPTS": "1", "INHERITED": "yes"}
    application = start(pool={"workers": 1, "modules": [COROUTINES, WORKERS]}, environ=environ)
    facts = jobs.run("worker_facts")["result"]
    assert facts["pid"] in [process.pid for process in application.family()]
    assert facts == {"pid": facts["pid"], "main_imported": False, "ours": [], "threads": "1", "inherited": "yes"}
    assert jobs.run("c_whoami")["result"]["pid"] == application.process.pid
    # the resource tracker of `multiprocessing` serves all forks of a process, and may outlive it
    family = [each for each in application.family() if "resource_tracker" not in " ".join(each.cmdline())]
    assert len(family) == 2, "the fork server and a worker"
    fork = psutil.Process(application.get("/forks", seconds=60)["pid"])
    application.process.send_signal(end)
    application.process.wait(30)
    gone(family)
    assert fork.is_running(), "a fork of the application, of which workers know nothing, may outlive it"
    fork.kill()


def test_the_application_s_own_blocking_is_named_too(start: StartApplication, jobs: Jobs) -> None:
    application = start(lease={"seconds": 20})
    jobs.wait(jobs.insert("c_sleeps", {"seconds": 60}), "processing")
    application.get("/blocks", seconds=2.5)
    until(lambda: application.said("loop.blocked", "handler=None", "in blocks"), 10, "the endpoint to be named")
    until(lambda: application.said("loop.unblocked", "in blocks"), 10)


def test_an_application_that_is_blocked_until_leases_end_loses_its_workers_and_goes_on(
    start: StartApplication, jobs: Jobs
) -> None:
    modules = [COROUTINES, WORKERS, "tests.support.misbehaving"]
    application = start(pool={"workers": 1, "modules": modules}, lease={"seconds": 3})
    job_id = jobs.insert("sleeps", {"seconds": 600})
    worker = psutil.Process(jobs.wait(job_id, "processing")["lease"]["pid"])
    blocked = threading.Thread(target=application.get, args=("/blocks",), kwargs={"seconds": 10})
    blocked.start()
    gone([worker], timeout_s=20)
    assert blocked.is_alive(), "it is gone while nobody but the watching thread can have ended it"
    blocked.join()
    assert application.said("loop.given_up")
    jobs.collection.update_one({"_id": job_id}, {"$set": {"payload.seconds": 0}})
    job = jobs.wait(job_id, within_s=40)
    assert (job["status"], job["crashes"]) == ("completed", 0)
    assert application.get("/state")["is_running"]


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"pool": {"workers": -1}}, ["ConfigError", "Supervisor(pool=…): [pool] workers"]),
        ({"pool": {"modules": ["nowhere"]}}, ["HandlerImportError", "module nowhere cannot be imported"]),
        ({"poool": {"workers": 1}}, ["ConfigError", "did you mean [pool]?"]),
    ],
)
def test_what_is_wrong_at_the_start_keeps_the_application_from_starting(
    tables: dict[str, Document], words: list[str], start: StartApplication
) -> None:
    application = start(up=False, **tables)
    assert application.process.wait(30) == 3, "uvicorn's code for a startup that has failed"
    assert application.said(*words), application.log.read_text()


def test_a_supervisor_that_dies_is_seen_by_the_application_which_goes_on(
    start: StartApplication, jobs: Jobs, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    application = start(pool={"workers": 0, "modules": [COROUTINES, WORKERS]}, environ={"NO_WORKERS_IF": str(broken)})
    resize = {"_id": "resize:*", "kind": "resize", "host": "*", "workers": 1, "by": "a test"}
    jobs.collection.database["controls"].insert_one(resize)
    until(lambda: not application.get("/state")["is_running"], 60, "the supervisor to give up")
    assert "no worker could be started" in application.get("/state")["failure"]
    assert application.said("app ERROR supervisor supervisor.lost", "WorkersCannotStartError")
    application.process.send_signal(signal.SIGTERM)
    application.process.wait(30)
    assert application.said("WorkersCannotStartError: no worker could be started")
