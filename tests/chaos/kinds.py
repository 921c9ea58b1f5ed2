"""The kinds of jobs: what the producer writes, and how such a job may end while everything around it is killed."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

from bson import ObjectId

from tests.chaos.handlers import CRASHES

Document = dict[str, Any]
MAX_CRASHES = 6
"""Enough that kills from outside do not quarantine a job that is well."""
INLINE_KB = 16
TOP = 2**31 - 1

COMPLETED = frozenset({"completed"})
FROM_OUTSIDE = frozenset({"crash", "timeout", "lost"})
"""What a killed worker, a stopped worker and a dead supervisor can make of a job's last attempt."""

MALFORMED: list[Document] = [
    {"handler": 7},
    {"handler": None},
    {"handler": ["short"]},
    {"status": "processing"},
    {"claims": "7"},
    {"claims": math.nan},
    {"attempt": "three"},
    {"crashes": 2**63 - 1},
    {"priority": "high"},
    {"run_at": "yesterday"},
    {"payload": [1]},
    {"lease": "mine"},
    {"max_attempts": 1.5},
    {"then": [{"payload": {}}]},
]


@dataclass(frozen=True)
class Kind:
    """One kind of job."""

    name: str
    share: int
    """How many of a thousand jobs are of this kind."""
    fields: Callable[[Random], Document]
    ends: frozenset[str] = COMPLETED
    """The allowed endings: `completed`, or the `error.kind`."""
    runs: bool = True
    """False for jobs that no handler may ever see."""

    def document(self, rng: Random) -> Document:
        """Return a job of this kind, due now, with an id of its own so that its insert may be repeated.

        One without `run_at` would be claimed before all that have one: retries would wait for the queue to run dry.
        """
        due = {"_id": ObjectId(), "status": "pending", "run_at": datetime.now(UTC)}
        return {**due, "handler": "short", "payload": {}, **self.fields(rng)}


def _crash(rng: Random) -> Document:
    return {"crash": rng.choice(list(CRASHES))}


def _chain(_rng: Random) -> Document:
    last = {"handler": "short", "payload": {}}
    return {"then": [{"handler": "short", "payload": {}, "then": [last]}, last]}


KINDS = [
    Kind("short", 360, lambda _: {}),
    Kind("slow", 60, lambda rng: {"handler": "slow", "payload": {"seconds": rng.uniform(1, 4)}}),
    Kind("busy", 250, lambda rng: {"handler": "busy", "payload": {"cpu_s": rng.uniform(0.005, 0.2)}}),
    Kind("raises", 60, lambda _: {"handler": "raises", "max_attempts": 2}, FROM_OUTSIDE | {"exception"}),
    Kind("retries", 60, lambda _: {"handler": "retries"}),
    Kind("overruns", 20, lambda _: {"handler": "overruns", "max_attempts": 2}, FROM_OUTSIDE),
    Kind("crashes", 25, lambda rng: {"payload": _crash(rng), "max_attempts": 2}, FROM_OUTSIDE),
    Kind("poison", 5, lambda rng: {"payload": _crash(rng)}, frozenset({"poison"})),
    Kind("large", 40, lambda rng: {"handler": "large", "payload": {"bytes": rng.randint(20_000, 200_000)}}),
    Kind("chain", 50, _chain),
    Kind("progress", 50, lambda _: {"handler": "progress"}),
    Kind("malformed", 10, lambda rng: {"priority": TOP, **rng.choice(MALFORMED)}, frozenset({"invalid"}), runs=False),
    Kind("cancelled", 10, lambda _: {"cancel_requested": True}, frozenset({"cancelled"}), runs=False),
]
FOLLOWER = Kind("follower", 0, lambda _: {})
"""A job that a supervisor enqueued for the `then` of another."""


def draw(rng: Random, count: int) -> list[Kind]:
    """Return `count` kinds in random order, at least one of each, the rest by their shares."""
    kinds = [*KINDS, *rng.choices(KINDS, [kind.share for kind in KINDS], k=max(0, count - len(KINDS)))]
    rng.shuffle(kinds)
    return kinds
