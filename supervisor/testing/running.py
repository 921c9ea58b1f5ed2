"""A real supervisor beside a test, and the faults to try it with."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from pymongo import AsyncMongoClient, MongoClient

from supervisor.client.queue import Queue
from supervisor.core.job import ENDED, Status
from supervisor.store import schema

Document = dict[str, Any]
READY_S = 60.0
STOP_S = 30.0
_LOOK_EVERY_S = 0.02


class SupervisorEndedError(AssertionError):
    """The supervisor of a test is not there: its log tells why."""


class RunningSupervisor:
    """`python -m supervisor` on the database of a test, started when it is first needed."""

    def __init__(self, folder: Path, uri: str, database: str, modules: Sequence[str], workers: int) -> None:
        self.log_path = folder / "supervisor.log"
        self._config = folder / "config.toml"
        self._config.write_text(_configuration(uri, database, modules, workers), encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id. Raises SupervisorEndedError."""
        return self._running().pid

    def start(self) -> None:
        """Start it and wait until it claims jobs; nothing happens if it runs. Raises SupervisorEndedError."""
        if self.is_running:
            return
        with self.log_path.open("ab") as log:
            begun = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "supervisor", "--config", str(self._config)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + READY_S
        while b'"supervisor.ready"' not in self.log_path.read_bytes()[begun:]:
            self._running()
            if time.monotonic() > deadline:
                raise SupervisorEndedError(f"the supervisor is not ready after {READY_S:g} s; its log:\n{self.log()}")
            time.sleep(_LOOK_EVERY_S)

    def stop(self) -> None:
        """Drain it, as TERM does, and wait for its end."""
        if self._process is not None and self.is_running:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def kill(self) -> None:
        """SIGKILL it: its workers go with it, and its jobs wait for another one. `start` starts one."""
        process = self._running()
        process.kill()
        process.wait()

    def log(self) -> str:
        """Return what it has logged."""
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise SupervisorEndedError("the supervisor has not been started; run_until_idle() or start() does that")
        if self._process.poll() is not None:
            raise SupervisorEndedError(
                f"the supervisor has ended with {self._process.returncode}; its log:\n{self.log()}"
            )
        return self._process


class JobQueue(Queue):
    """A queue of a test's own with a supervisor that works it off."""

    supervisor: RunningSupervisor

    def run_until_idle(self, timeout_s: float = 60.0) -> None:
        """Start the supervisor if it does not run, and wait until no job runs, is due, or waits for a retry.

        A job that is wished for later (`run_at`) and has not been tried is not waited for. Raises TimeoutError naming
        jobs that are left, SupervisorEndedError.
        """
        self.supervisor.start()
        deadline = time.monotonic() + timeout_s
        while left := self._left():
            if not self.supervisor.is_running:
                raise SupervisorEndedError(f"the supervisor has ended; its log:\n{self.supervisor.log()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {timeout_s:g} s there are still: {', '.join(map(_told, left))}")
            time.sleep(_LOOK_EVERY_S)

    def _left(self) -> list[Document]:
        due = {"$or": [{"run_at": None}, {"attempt": {"$gt": 0}}, {"$expr": {"$lte": ["$run_at", "$$NOW"]}}]}
        waiting = {"status": Status.PENDING.value, **due}
        fields = {"handler": 1, "status": 1, "error.message": 1}
        return list(self._jobs.find({"$or": [{"status": Status.PROCESSING.value}, waiting]}, fields, limit=5))

    def crash_worker(self, job_id: Any, timeout_s: float = 30.0) -> None:
        """SIGKILL the worker that runs the job, once it runs.

        Raises TimeoutError if it does not, AssertionError if it has ended or is a coroutine, which has no worker.
        """
        job = self._running(job_id, timeout_s)
        if job["lease"]["slot"] < 0:
            raise AssertionError(f"job {job_id} is a coroutine; what it dies with is the supervisor: kill_supervisor()")
        for child in psutil.Process(self.supervisor.pid).children(recursive=True):
            if child.pid == job["lease"]["pid"]:  # else it has ended at this moment
                child.kill()

    def kill_supervisor(self, job_id: Any = None, timeout_s: float = 30.0) -> None:
        """SIGKILL the supervisor, with a `job_id` once it runs that job. Its workers go with it.

        `run_until_idle` starts another one. Raises TimeoutError and AssertionError as `crash_worker` does.
        """
        if job_id is None:
            self.supervisor.start()
        else:
            self._running(job_id, timeout_s)
        self.supervisor.kill()

    def _running(self, job_id: Any, timeout_s: float) -> Document:
        """Start the supervisor if it does not run, and return the job when that runs."""
        self.supervisor.start()
        deadline = time.monotonic() + timeout_s
        while (job := self.get(job_id)).get("status") != Status.PROCESSING:
            if job.get("status") in ENDED:
                raise AssertionError(f"job {job_id} is {job['status']} already; nothing runs that could be killed")
            if time.monotonic() > deadline:
                raise TimeoutError(f"job {job_id} has not begun to run within {timeout_s:g} s")
            time.sleep(_LOOK_EVERY_S)
        return job


@contextmanager
def job_queue(uri: str, database: str, supervisor: RunningSupervisor, registry: Any) -> Iterator[JobQueue]:
    """Open a queue on a database of its own, which is dropped at the end with its supervisor stopped before."""
    _prepare(uri, database)
    client: MongoClient[Document] = MongoClient(uri, tz_aware=True)
    with client:
        queue = JobQueue(client, database, registry=registry)
        queue.supervisor = supervisor
        try:
            yield queue
        finally:
            supervisor.stop()
            client.drop_database(database)


def _prepare(uri: str, database: str) -> None:
    """Make indexes and validator, as `init` does: without them no `unique_key` is unique, and no mistake is refused."""

    async def prepare() -> None:
        async with AsyncMongoClient[Document](uri) as client:
            await schema.ensure(client[database], "jobs")

    with ThreadPoolExecutor(1) as thread:  # this one may have an event loop, of a test that is a coroutine
        thread.submit(lambda: asyncio.run(prepare())).result()


def _configuration(uri: str, database: str, modules: Sequence[str], workers: int) -> str:
    tables: dict[str, Mapping[str, Any]] = {
        "mongo": {"uri": uri, "database": database},
        "pool": {"workers": workers, "modules": list(modules), "kill_grace_s": 0.5},
        "lease": {"seconds": 5, "reap_every_s": 0.5},
        "shutdown": {"drain_s": 0},
        "retry": {"backoff_s": 0.05},
        "log": {"format": "json"},
    }
    lines = []
    for name, keys in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]
    return "\n".join(lines) + "\n"


def _told(job: Document) -> str:
    error = (job.get("error") or {}).get("message")
    return f"{job.get('handler')} {job['_id']} ({job.get('status')}{f', last error: {error}' if error else ''})"
