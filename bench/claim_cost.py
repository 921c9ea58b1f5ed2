"""What a claim for two slots costs with 10³, 10⁵ and 10⁶ jobs pending, most of which may not run.

Of each ten jobs, five of a higher priority are due tomorrow, two are of a handler that is at its cap on this machine,
two are of one that is at its cap across machines, and one may run. Claims are made by the supervisor's own code,
without a supervisor around it.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import MongoClient

from bench.measuring import Bench, BenchError, Figures, Ratio, Surroundings, percentile
from supervisor.core.gate import FleetLimits
from supervisor.store import schema
from supervisor.store.claims import ClaimStore, Owner, Seat
from supervisor.store.connection import connect

SIZES = {"10³": 10**3, "10⁵": 10**5, "10⁶": 10**6}
SEATS = [Seat(0, 1), Seat(1, 1)]
CLAIMS = 40
"""Each takes two of the jobs that may run; they are put back after every round."""
Document = dict[str, Any]


def measure(surroundings: Surroundings, rounds: int) -> Figures:
    """Return the median and the 99th percentile of a claim in milliseconds, for each size."""
    figures, sizes = Figures(), dict(list(SIZES.items())[: 2 if surroundings.quick else 3])
    for count in sizes.values():
        asyncio.run(_prepare(surroundings.uri, f"claims_{count}"))
        fill(surroundings.uri, f"claims_{count}", count)
    for _ in range(rounds):
        for name, count in sizes.items():
            found = asyncio.run(_claims(surroundings.uri, f"claims_{count}"))
            figures.add(f"{name} p50", percentile(found, 0.5), "ms")
            figures.add(f"{name} p99", percentile(found, 0.99), "ms")
    return figures


def fill(uri: str, database: str, count: int) -> None:
    """Put `count` pending jobs in, and one that holds the only place of its handler."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    ten = [
        *[{"handler": "runs", "priority": 5, "run_at": tomorrow}] * 5,
        *[{"handler": "capped"}] * 2,
        *[{"handler": "capped_in_all"}] * 2,
        {"handler": "runs"},
    ]
    with MongoClient[Document](uri) as client:
        jobs = client[database].get_collection("jobs")
        for start in range(0, count, 10_000):
            part = [
                {**ten[n % 10], "status": "pending", "payload": {"n": n}}
                for n in range(start, min(count, start + 10_000))
            ]
            jobs.insert_many(part, ordered=False)
        holder = {"token": 1, "supervisor": "elsewhere", "host": "elsewhere", "slot": 0, "pid": 1}
        lease = {**holder, "expires_at": tomorrow}
        jobs.insert_one({"handler": "capped_in_all", "status": "processing", "attempt": 1, "claims": 1, "lease": lease})


async def _prepare(uri: str, database: str) -> None:
    connected = await connect(uri, database, wait_s=5)
    await schema.ensure(connected, "jobs")
    await connected.client.close()


async def _claims(uri: str, database: str) -> list[float]:
    """Claim, take the time, and put everything back."""
    connected = await connect(uri, database, wait_s=5)
    store = ClaimStore(connected, "jobs", Owner("bench", "bench"))
    room, found = {"runs": 2, "capped_in_all": 2}, []
    for _ in range(CLAIMS):
        begun = time.monotonic()
        claims = await store.claim(
            room, SEATS, lease_s=600, payload_kb=1024, fleet={"capped_in_all": FleetLimits(total=1)}
        )
        found.append((time.monotonic() - begun) * 1000)
        if [claim.job.handler for claim in claims] != ["runs"] * len(SEATS):
            raise BenchError(f"claim_cost: {len(claims)} jobs claimed, and not two of those that may run")
    mine = {"status": "processing", "lease.supervisor": "bench"}
    await connected["jobs"].update_many(mine, {"$set": {"status": "pending"}, "$unset": {"lease": True}})
    await connected.client.close()
    return found[2:]  # the first two find connections and plans


BENCH = Bench(
    "claim_cost",
    "a claim for two slots, with so many jobs pending",
    measure,
    ratios=(Ratio("10⁶ p50", "10³ p50", at_most=1.2), Ratio("10⁵ p50", "10³ p50", at_most=1.2)),
    in_quick=False,
)
