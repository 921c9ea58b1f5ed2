"""Producing: in bulk beside the raw driver's `insert_many` of the same documents, and one by one.

Both write to the same collection, indexes and validator included, and wait for a majority with its journal. Peers
enqueue one by one while their workers are held.
"""

from __future__ import annotations

import time
from typing import Any

from pymongo import MongoClient

from bench import producers
from bench.measuring import Bench, Figures, Ratio, Surroundings
from bench.peers.running import peer

ONE_BY_ONE = 300


def measure(surroundings: Surroundings, rounds: int) -> Figures:
    """Return jobs per second."""
    figures, jobs = Figures(), 10_000 if surroundings.quick else 100_000
    for name, rates in producers.bulk(surroundings.uri, jobs, rounds).items():
        for rate in rates:
            figures.add(name, rate, "jobs/s")
    with MongoClient[Any](surroundings.uri, tz_aware=True) as client:
        for _ in range(rounds):
            for name, rate in zip(("insert_one", "enqueue"), one_by_one(client), strict=True):
                figures.add(name, rate, "jobs/s")
    for name in surroundings.peers:
        with peer(name, surroundings.folder / name) as other:
            for _ in range(rounds):
                figures.add(name, ONE_BY_ONE / other.one_by_one(ONE_BY_ONE), "jobs/s")
    return figures


def one_by_one(client: MongoClient[Any]) -> tuple[float, float]:
    """Return jobs per second of the raw driver and of ours, one job after the other."""
    queue = producers.Queue(client, producers.DATABASE)
    jobs = client[producers.DATABASE].get_collection("jobs", write_concern=producers.MAJORITY)
    begun = time.monotonic()
    for number in range(ONE_BY_ONE):
        jobs.insert_one({"handler": "page", "payload": {"number": number}, "status": "pending"})
    between = time.monotonic()
    for number in range(ONE_BY_ONE):
        queue.enqueue("page", {"number": number})
    ended = time.monotonic()
    jobs.delete_many({})
    return ONE_BY_ONE / (between - begun), ONE_BY_ONE / (ended - between)


BENCH = Bench(
    "enqueue",
    "producing, in bulk and one by one, beside the raw driver",
    measure,
    ratios=(
        Ratio("enqueue_many", "insert_many", at_least=0.9),
        Ratio("enqueue_many (async)", "insert_many"),
        Ratio("enqueue", "insert_one"),
    ),
    rounds=3,
    quick_rounds=1,
)
