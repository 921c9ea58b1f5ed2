"""Claims per second of 1, 4 and 16 supervisors at once on one collection, all together.

Each is a process that claims for two slots over and over, by the supervisor's own code, and runs nothing: so all of
them meet at the head of the queue all the time, which is the worst case.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from typing import Any

from pymongo import MongoClient

from bench.measuring import Bench, Figures, Ratio, Surroundings
from supervisor.core.lookahead import Place
from supervisor.store import schema
from supervisor.store.claims import ClaimStore
from supervisor.store.connection import connect
from supervisor.store.taking import Owner

NUMBERS = (1, 4, 16)
SLOTS = 2
DATABASE = "fleet"


def measure(surroundings: Surroundings, rounds: int) -> Figures:
    """Return claims per second of all together."""
    figures, seconds = Figures(), 2.0 if surroundings.quick else 5.0
    asyncio.run(_prepare(surroundings.uri))
    for _ in range(rounds):
        for number in NUMBERS:
            fill(surroundings.uri, int(seconds * 4000))
            figures.add(f"{number} at once", together(surroundings.uri, number, seconds) / seconds, "claims/s")
    return figures


def fill(uri: str, count: int) -> None:
    """Put `count` pending jobs in, and nothing else."""
    with MongoClient[Any](uri) as client:
        jobs = client[DATABASE]["jobs"]
        jobs.delete_many({})
        jobs.insert_many([{"handler": "runs", "status": "pending", "payload": {}} for _ in range(count)], ordered=False)


def together(uri: str, number: int, seconds: float) -> int:
    """Let so many processes claim for so long, and return how many jobs they got."""
    context = multiprocessing.get_context("spawn")
    ready, counts = context.Barrier(number), context.Queue()
    processes = [context.Process(target=_claimer, args=(uri, n, seconds, ready, counts)) for n in range(number)]
    for process in processes:
        process.start()
    total = sum(counts.get(timeout=seconds + 60) for _ in processes)
    for process in processes:
        process.join()
    with MongoClient[Any](uri) as client:
        assert total == client[DATABASE]["jobs"].count_documents({"status": "processing"}), "a job was claimed twice"
    return total


def _claimer(uri: str, number: int, seconds: float, ready: Any, counts: Any) -> None:
    counts.put(asyncio.run(_claim_for(uri, f"supervisor-{number}", seconds, ready)))


async def _claim_for(uri: str, name: str, seconds: float, ready: Any) -> int:
    connected = await connect(uri, DATABASE, wait_s=30)
    store, places, claimed = ClaimStore(connected, "jobs", Owner(name, name)), [Place(n, 1) for n in range(SLOTS)], 0
    ready.wait(60)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        claimed += len(await store.claim({"runs": SLOTS}, places, lease_s=600, payload_kb=1024))
    await connected.client.close()
    return claimed


async def _prepare(uri: str) -> None:
    connected = await connect(uri, DATABASE, wait_s=5)
    await schema.ensure(connected, "jobs")
    await connected.client.close()


BENCH = Bench(
    "fleet",
    "claims of several supervisors at once, in all",
    measure,
    ratios=(Ratio("16 at once", "1 at once", at_least=1.0), Ratio("4 at once", "1 at once")),
    rounds=3,
    in_quick=False,
)
