"""What every part of a run shares: its plan, its database, its supervisors, and the record of what was done to them."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from pymongo import MongoClient
from pymongo.read_concern import ReadConcern

from supervisor.codec import TOLERANT
from tests.chaos.fleet import DATABASE, Fleet
from tests.chaos.plan import Plan
from tests.support.mongo import RunningReplicaSet

ASK_MS = 2000


@dataclass(frozen=True)
class Fault:
    """Something that was done to the run; `at` is wall time just before it, in seconds."""

    kind: str
    at: float
    pid: int = 0
    """The worker's or the supervisor's."""
    how: str = ""


@dataclass
class World:
    """One run."""

    plan: Plan
    folder: Path
    replica_set: RunningReplicaSet
    fleet: Fleet
    faults: list[Fault] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    """What went wrong besides what the audit finds."""
    over: threading.Event = field(default_factory=threading.Event)
    started_at: float = field(default_factory=time.monotonic)

    def random(self, purpose: str) -> Random:
        """Return a source of random numbers that depends on nothing but the seed and its purpose."""
        return Random(f"{self.plan.seed}/{purpose}")

    def elapsed(self) -> float:
        """Return the seconds since the faults began."""
        return time.monotonic() - self.started_at

    def wait(self, seconds: float) -> None:
        """Wait, or return early when the run is over."""
        self.over.wait(max(0.0, seconds))

    def record(self, kind: str, pid: int = 0, how: str = "", at: float | None = None) -> None:
        """Note a fault that is about to be injected, or that was at `at`."""
        self.faults.append(Fault(kind, time.time() if at is None else at, pid, how))

    def count(self, kind: str) -> int:
        """Return how often a fault has been injected so far."""
        return sum(fault.kind == kind for fault in self.faults)

    def client(self, timeout_ms: int = ASK_MS) -> MongoClient[dict[str, Any]]:
        """Open a client for questions of the run's own; the caller closes it."""
        return MongoClient(
            self.replica_set.uri, timeoutMS=timeout_ms, serverSelectionTimeoutMS=timeout_ms, tz_aware=True
        )

    def jobs(self, client: MongoClient[dict[str, Any]]) -> Any:
        """Return the jobs collection, to be read without stumbling over malformed documents."""
        return client.get_database(DATABASE, TOLERANT, read_concern=ReadConcern("majority"))["jobs"]
