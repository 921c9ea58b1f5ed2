"""What producing costs: enqueuing in bulk beside the raw driver, and how soon a wait returns after its job.

    python -m bench.producers [--jobs 100000] [--rounds 5] [--waits 50]

- *bulk*: `enqueue_many` of both queues, with a registry that checks every payload, beside one `insert_many` of the same
  documents into the same collection (indexes and validator included, acknowledged by a majority). By turns, in one run.
- *wait*: a job of 20 ms on an idle supervisor; how long after its recorded end (`finished_at`, on the same machine's
  clock) `Queue.wait` returns.

Prints medians, with the least and the most beside them.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bson import ObjectId
from pydantic import BaseModel
from pymongo import AsyncMongoClient, MongoClient
from pymongo.write_concern import WriteConcern

from bench.measuring import alternating
from supervisor.client.async_queue import AsyncQueue
from supervisor.client.queue import Queue
from supervisor.embedded.mongo import EmbeddedMongo
from supervisor.registry import HandlerSpec, Registry
from supervisor.store import schema
from tests.support.supervising import RunningSupervisor, configuration

DATABASE = "bench_producers"
MAJORITY = WriteConcern(w="majority", j=True)
Document = dict[str, Any]


class Page(BaseModel):
    """The payload: what a page to read would need."""

    path: str
    number: int
    language: str = "en"


def bulk(uri: str, count: int, rounds: int) -> dict[str, list[float]]:
    """Return jobs per second of the raw driver and of both queues; who is first changes from round to round."""
    payloads: list[Document] = [{"path": f"/scans/{number}.pdf", "number": number} for number in range(count)]
    contenders: dict[str, Callable[[str, list[Document]], float]] = {
        "insert_many": with_the_driver,
        "enqueue_many": with_a_queue,
        "enqueue_many (async)": with_an_async_queue,
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, seconds in alternating(list(contenders.items()), number):
            prepare(uri)
            rates[name].append(count / seconds(uri, payloads))
    return rates


def with_the_driver(uri: str, payloads: list[Document]) -> float:
    """Insert the documents that a queue makes, in one call, as fast as the driver can; return the seconds."""
    same = {"handler": "page", "status": "pending", "created_at": datetime.now(UTC)}
    with MongoClient[Document](uri) as client:
        jobs = client[DATABASE].get_collection("jobs", write_concern=MAJORITY)
        client.admin.command("ping")
        begun = time.monotonic()
        jobs.insert_many([{"_id": ObjectId(), **same, "payload": each} for each in payloads], ordered=False)
        return time.monotonic() - begun


def with_a_queue(uri: str, payloads: list[Document]) -> float:
    """Do the same with a `Queue` that checks every payload."""
    with MongoClient[Document](uri) as client:
        client.admin.command("ping")
        queue = Queue(client, DATABASE, registry=registry())
        begun = time.monotonic()
        queue.enqueue_many("page", payloads)
        return time.monotonic() - begun


def with_an_async_queue(uri: str, payloads: list[Document]) -> float:
    """Do the same with an `AsyncQueue`."""

    async def enqueue() -> float:
        async with AsyncMongoClient[Document](uri) as client:
            await client.admin.command("ping")
            queue = AsyncQueue(client, DATABASE, registry=registry())
            begun = time.monotonic()
            await queue.enqueue_many("page", payloads)
            return time.monotonic() - begun

    return asyncio.run(enqueue())


def prepare(uri: str, database: str = DATABASE) -> None:
    """Make the collection anew, with its indexes and its validator."""

    async def make() -> None:
        async with AsyncMongoClient[Document](uri) as client:
            await client[database].drop_collection("jobs")
            await schema.ensure(client[database], "jobs")

    asyncio.run(make())


def registry() -> Registry:
    """Return a registry that checks the payload of every job."""
    found = Registry()
    found.add(HandlerSpec("page", print, Page, takes_context=False, module="bench"))
    return found


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


def main() -> None:
    """Measure both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--waits", type=int, default=50)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, EmbeddedMongo(Path(folder) / "db", 30) as mongo:
        late = waits(mongo.uri, Path(folder) / "supervisor", asked.waits)
        rates = bulk(mongo.uri, asked.jobs, asked.rounds)
    print(f"{asked.jobs} jobs, median of {asked.rounds}:")
    for name, found in rates.items():
        ratio = statistics.median(each / raw for each, raw in zip(found, rates["insert_many"], strict=True))
        rate = f"{statistics.median(found):>8.0f} jobs/s  ({min(found):.0f} to {max(found):.0f})"
        print(f"  {name:<20} {rate}  {ratio:.2f} of insert_many")
    print(f"wait returns {statistics.median(late):.1f} ms after the end of a job of 20 ms (median of {len(late)}), "
          f"{min(late):.1f} to {max(late):.1f} ms")  # fmt: skip


if __name__ == "__main__":
    main()
