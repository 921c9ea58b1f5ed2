"""What producing costs: enqueuing in bulk beside the raw driver, and how soon a wait returns after its job.

    python -m bench.producers [--jobs 100000] [--rounds 5] [--waits 50]

- *bulk*: `Queue.enqueue_many`, with a registry that checks every payload, beside `insert_many` of the same documents on
  the same collection (indexes and validator included, acknowledged by a majority). By turns, in one run.
- *wait*: a job of 20 ms on an idle supervisor; how long after its recorded end (`finished_at`, on the same machine's
  clock) `Queue.wait` returns.

Prints medians, with the least and the most beside them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bson import ObjectId
from pydantic import BaseModel
from pymongo import MongoClient
from pymongo.write_concern import WriteConcern

from supervisor.client.queue import Queue
from supervisor.embedded.mongo import EmbeddedMongo
from supervisor.registry import HandlerSpec, Registry
from tests.support.supervising import RunningSupervisor, configuration

DATABASE = "bench_producers"
MAJORITY = WriteConcern(w="majority", j=True)
Document = dict[str, Any]


class Page(BaseModel):
    """The payload: what a page to read would need."""

    path: str
    number: int
    language: str = "en"


def bulk(client: MongoClient[Document], count: int, rounds: int) -> tuple[list[float], list[float]]:
    """Return jobs per second of the raw driver and of ours, by turns."""
    registry = Registry()
    registry.add(HandlerSpec("page", print, Page, takes_context=False, module="bench"))
    queue = Queue(client, DATABASE, registry=registry)
    jobs = client[DATABASE].get_collection("jobs", write_concern=MAJORITY)
    payloads: list[Document] = [{"path": f"/scans/{number}.pdf", "number": number} for number in range(count)]
    raw, ours = [], []
    for _ in range(rounds):
        raw.append(count / _timed(lambda: insert_raw(jobs, payloads)))
        jobs.delete_many({})
        ours.append(count / _timed(lambda: queue.enqueue_many("page", payloads)))
        jobs.delete_many({})
    return raw, ours


def insert_raw(jobs: Any, payloads: list[Document]) -> None:
    """Insert the same documents as fast as the driver can."""
    for start in range(0, len(payloads), 1000):
        part = payloads[start : start + 1000]
        fresh = [{"_id": ObjectId(), "handler": "page", "payload": each, "status": "pending"} for each in part]
        jobs.insert_many(fresh, ordered=False)


def waits(uri: str, folder: Path, count: int) -> list[float]:
    """Return the milliseconds from a job's recorded end to the return of `wait`."""
    config = configuration(uri, DATABASE, pool={"workers": 1})
    supervisor = RunningSupervisor(folder, config).start()
    found = []
    try:
        with Queue.connect(uri, DATABASE) as queue:
            for _ in range(count):
                job = queue.wait(queue.enqueue("sleeps", {"seconds": 0.02}), 30)
                found.append((time.time() - job["finished_at"].timestamp()) * 1000)
    finally:
        supervisor.end()
    return found


def _timed(work: Callable[[], object]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def main() -> None:
    """Measure both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--waits", type=int, default=50)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, EmbeddedMongo(Path(folder) / "db", 30) as mongo:
        late = waits(mongo.uri, Path(folder) / "supervisor", asked.waits)
        with MongoClient[Document](mongo.uri, tz_aware=True) as client:
            raw, ours = bulk(client, asked.jobs, asked.rounds)
    print(f"{asked.jobs} jobs, median of {asked.rounds}:")
    for name, rates in (("raw insert_many", raw), ("enqueue_many", ours)):
        print(f"  {name:<16} {statistics.median(rates):>8.0f} jobs/s  ({min(rates):.0f} to {max(rates):.0f})")
    print(f"  ratio            {statistics.median(ours) / statistics.median(raw):>8.2f}")
    print(f"wait returns {statistics.median(late):.1f} ms after the end of a job of 20 ms (median of {len(late)}), "
          f"{min(late):.1f} to {max(late):.1f} ms")  # fmt: skip


if __name__ == "__main__":
    main()
