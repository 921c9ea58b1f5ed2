"""What a claim for two slots costs with 10³, 10⁵ and 10⁶ jobs pending, most of which may not run.

Of each ten jobs, five of a higher priority are due tomorrow, two are of a handler that is at its cap on this machine,
two are of one that is at its cap across machines, and one may run. *Grouped* is the hardest case of a cap:
the first half of the queue is of one group, and that group is full; the others are of a hundred groups.

Claims are made by the supervisor's own code, without a supervisor around it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import MongoClient

from bench.measuring import Bench, BenchError, Figures, Ratio, Surroundings, percentile
from supervisor.core.gate import FleetLimits
from supervisor.core.lookahead import Place
from supervisor.store import schema
from supervisor.store.claims import ClaimStore
from supervisor.store.connection import connect
from supervisor.store.taking import Owner

SIZES = {"10³": 10**3, "10⁵": 10**5, "10⁶": 10**6}
PLACES = [Place(0, 1), Place(1, 1)]
CLAIMS = 40
"""Each takes two of the jobs that may run; they are put back after every round."""
PER_GROUP = 2
TOMORROW = datetime.now(UTC) + timedelta(days=1)
Document = dict[str, Any]


@dataclass(frozen=True)
class Queue:
    """Which jobs are pending, what holds the others' places, and the limits that a claim is made with."""

    job: Callable[[int, int], Document]
    """The job number n of so many."""
    running: tuple[Document, ...]
    room: Mapping[str, int]
    fleet: Mapping[str, FleetLimits]


def mixed(number: int, _count: int) -> Document:
    """Return one of ten kinds of jobs by turns, of which one may run."""
    later = {"handler": "runs", "priority": 5, "run_at": TOMORROW}
    return [*[later] * 5, *[{"handler": "capped"}] * 2, *[{"handler": "capped_in_all"}] * 2, {"handler": "runs"}][
        number % 10
    ]


def grouped(number: int, count: int) -> Document:
    """Return a job of the full group, or, in the second half of the queue, of one of a hundred others."""
    return {"handler": "runs", "group_key": "full" if number < count / 2 else f"group {number % 100}"}


QUEUES = {
    "": Queue(
        mixed,
        ({"handler": "capped_in_all"},),
        {"runs": 2, "capped_in_all": 2},
        {"capped_in_all": FleetLimits(total=1)},
    ),
    " grouped": Queue(
        grouped,
        ({"handler": "runs", "group_key": "full"},) * PER_GROUP,
        {"runs": 2},
        {"runs": FleetLimits(per_group=PER_GROUP)},
    ),
}


def measure(surroundings: Surroundings, rounds: int) -> Figures:
    """Return the median and the 99th percentile of a claim in milliseconds, for each size and queue."""
    figures, sizes = Figures(), dict(list(SIZES.items())[: 2 if surroundings.quick else 3])
    for kind, (name, queue) in enumerate(QUEUES.items()):
        for count in sizes.values():
            asyncio.run(_prepare(surroundings.uri, f"claims_{kind}_{count}"))
            fill(surroundings.uri, f"claims_{kind}_{count}", queue, count)
        for _ in range(rounds):
            for size, count in sizes.items():
                found = asyncio.run(_claims(surroundings.uri, f"claims_{kind}_{count}", queue))
                figures.add(f"{size} p50{name}", percentile(found, 0.5), "ms")
                figures.add(f"{size} p99{name}", percentile(found, 0.99), "ms")
    return figures


def fill(uri: str, database: str, queue: Queue, count: int) -> None:
    """Put `count` pending jobs in, and those that run elsewhere."""
    with MongoClient[Document](uri) as client:
        jobs = client[database].get_collection("jobs")
        for start in range(0, count, 10_000):
            numbers = range(start, min(count, start + 10_000))
            jobs.insert_many(
                [{**queue.job(n, count), "status": "pending", "payload": {"n": n}} for n in numbers], ordered=False
            )
        lease = {
            "token": 1,
            "supervisor": "elsewhere",
            "host": "elsewhere",
            "slot": 0,
            "pid": 1,
            "expires_at": TOMORROW,
        }
        for job in queue.running:
            jobs.insert_one({**job, "status": "processing", "attempt": 1, "claims": 1, "lease": lease})


async def _prepare(uri: str, database: str) -> None:
    connected = await connect(uri, database, wait_s=5)
    await schema.ensure(connected, "jobs")
    await connected.client.close()


async def _claims(uri: str, database: str, queue: Queue) -> list[float]:
    """Claim, take the time, and put everything back."""
    connected = await connect(uri, database, wait_s=5)
    store, found = ClaimStore(connected, "jobs", Owner("bench", "bench")), []
    for _ in range(CLAIMS):
        begun = time.monotonic()
        claims = await store.claim(queue.room, PLACES, lease_s=600, payload_kb=1024, fleet=queue.fleet)
        found.append((time.monotonic() - begun) * 1000)
        if [claim.job.handler for claim in claims] != ["runs"] * len(PLACES):
            raise BenchError(f"claim_cost: {len(claims)} jobs claimed, and not two of those that may run")
    mine = {"status": "processing", "lease.supervisor": "bench"}
    await connected["jobs"].update_many(mine, {"$set": {"status": "pending"}, "$unset": {"lease": True}})
    await connected.client.close()
    return found[2:]  # the first two find connections and plans


BENCH = Bench(
    "claim_cost",
    "a claim for two slots, with so many jobs pending",
    measure,
    ratios=(
        *(Ratio(f"10⁶ p50{name}", f"10³ p50{name}", at_most=1.2) for name in QUEUES),
        Ratio("10⁵ p50", "10³ p50", at_most=1.2),
    ),
    in_quick=False,
)
