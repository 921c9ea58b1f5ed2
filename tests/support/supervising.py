"""Supervisors as real processes, driven from outside: through files, signals and documents."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from pymongo import MongoClient
from pymongo.collection import Collection

from tests.support.until import until

ROOT = Path(__file__).resolve().parents[2]
MISBEHAVING = "tests.support.misbehaving"
Document = dict[str, Any]


def toml(tables: dict[str, Any]) -> str:
    """Write tables of plain values, and arrays of such tables, as TOML."""
    lines = []
    for name, table in tables.items():
        for keys in table if isinstance(table, list) else [table]:
            lines.append(f"[[{name}]]" if isinstance(table, list) else f"[{name}]")
            lines += [f"{key} = {toml_value(value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


def configuration(uri: str, database: str, **tables: Document) -> dict[str, Document]:
    """Return a configuration for tests: two workers, the misbehaving handlers, short waits; `tables` adds and wins.

    The lease is not short: a busy machine may hold up renewals for seconds, and only tests about leases want one lost.
    """
    merged: dict[str, Document] = {
        "mongo": {"uri": uri, "database": database, "wait_s": 10},
        "pool": {"workers": 2, "modules": [MISBEHAVING], "kill_grace_s": 0.5},
        "lease": {"seconds": 20, "reap_every_s": 0.5},
        "shutdown": {"drain_s": 5},
        "retry": {"backoff_s": 0.05},
        "log": {"level": "debug", "format": "json"},
    }
    for name, keys in tables.items():
        table = name.replace("__", ".")
        merged[table] = {**merged.get(table, {}), **keys}
    return merged


@dataclass
class RunningSupervisor:
    """`python -m supervisor` as a subprocess; its log is a file of JSON lines."""

    folder: Path
    config: dict[str, Document]
    arguments: tuple[str, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)
    module: str = "supervisor"
    """What is run; a program of a test's own ends in supervisor.__main__.run."""
    within: tuple[str, ...] = ()
    """A command that ends by becoming the one that follows it: it starts in surroundings of its own."""
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write_config(self.config)

    @property
    def config_path(self) -> Path:
        return self.folder / "config.toml"

    @property
    def pid(self) -> int:
        return self.process.pid

    def write_config(self, config: dict[str, Document]) -> None:
        """Save the whole file at once, as an editor does that renames."""
        draft = self.config_path.with_suffix(".new")
        draft.write_text(toml(config))
        draft.replace(self.config_path)

    def edit(self, table: str, **keys: Any) -> None:
        """Change keys of one table and save."""
        self.config[table] = {**self.config.get(table, {}), **keys}
        self.write_config(self.config)

    def start(self, *, ready: bool = True) -> "RunningSupervisor":
        command = [*self.within, sys.executable, "-m", self.module]
        command += ["--config", str(self.config_path), *self.arguments]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), **self.environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if ready:
            self.wait_for("supervisor.ready", timeout_s=60)
        return self

    def output(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def log(self) -> list[Document]:
        """The lines of the log; one that is no JSON object fails the test, but for one that is just being written."""
        return [json.loads(line) for line in self.output().rpartition("\n")[0].splitlines()]

    def events(self, name: str) -> list[Document]:
        return [entry for entry in self.log() if entry["event"] == name]

    def wait_for(self, event: str, timeout_s: float = 10, count: int = 1) -> Document:
        """Wait for the `count`-th line of this event."""

        def seen() -> Document | None:
            found = self.events(event)
            if len(found) < count and self.process.poll() is not None:
                raise AssertionError(f"it ended with {self.process.returncode} instead:\n{self.output()}")
            return found[count - 1] if len(found) >= count else None

        return until(seen, timeout_s, f"the log line {event}")

    def family(self) -> list[psutil.Process]:
        """Everything below the supervisor, workers' children included."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid).children(recursive=True)
        return []

    def stop(self, timeout_s: float = 20) -> int:
        """TERM, and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def end(self) -> None:
        """End it somehow, at the end of a test that may have failed."""
        family = self.family()
        if self.process.poll() is None:
            self.kill()
        gone(family)


def gone(processes: list[psutil.Process], timeout_s: float = 5) -> None:
    """Wait until none of `processes` lives; fail naming those that do."""

    def alive() -> list[str]:
        return [
            f"{process.pid} {process.name()}"
            for process in processes
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        ]

    def none_alive() -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return not alive()
        return False

    until(none_alive, timeout_s, f"the end of {[process.pid for process in processes]}")


@dataclass
class Jobs:
    """A producer without our library: plain documents in the collection."""

    collection: Collection[Document]

    def insert(self, handler: str, payload: Document | None = None, **fields: Any) -> Any:
        document = {"handler": handler, "status": "pending", **fields}
        if payload is not None:
            document["payload"] = payload
        return self.collection.insert_one(document).inserted_id

    def get(self, job_id: Any) -> Document:
        found = self.collection.find_one({"_id": job_id})
        assert found is not None, f"job {job_id} is gone"
        return found

    def wait(self, job_id: Any, *statuses: str, within_s: float = 20) -> Document:
        """Wait until the job has one of `statuses` (ended, if none is named) and return it."""
        wanted = statuses or ("completed", "failed", "cancelled")

        def reached() -> Document | None:
            job = self.get(job_id)
            return job if job["status"] in wanted else None

        return until(reached, within_s, f"job {job_id} to be {' or '.join(wanted)}")

    def run(self, handler: str, payload: Document | None = None, within_s: float = 20, **fields: Any) -> Document:
        """Insert a job and wait for its end."""
        return self.wait(self.insert(handler, payload, **fields), within_s=within_s)

    def wait_for_all(self, timeout_s: float = 60) -> None:
        """Wait until nothing is pending or processing."""
        waiting = {"status": {"$in": ["pending", "processing"]}}
        until(lambda: self.collection.count_documents(waiting) == 0, timeout_s, "all jobs to end")


@contextlib.contextmanager
def jobs_in(uri: str, database: str) -> Iterator[Jobs]:
    with MongoClient[Document](uri, tz_aware=True) as client:
        yield Jobs(client[database]["jobs"])


StartSupervisor = Callable[..., RunningSupervisor]
