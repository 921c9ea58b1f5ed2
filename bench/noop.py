"""Jobs that do nothing: what a job costs, beside a plain pool and beside the ledger alone."""

from __future__ import annotations

from typing import Any

from pymongo import MongoClient

from bench import work
from bench.contenders import all_of
from bench.ledger import Ledger
from bench.measuring import Bench, Figures, Ratio, Surroundings, alternating


def measure(surroundings: Surroundings, rounds: int) -> Figures:
    """Return jobs per second of everybody."""
    figures, jobs = Figures(), 2000 if surroundings.quick else 5000
    with all_of(surroundings, "noop") as contenders, MongoClient[Any](surroundings.uri) as client:
        everybody = [*contenders, Ledger(client, surroundings.uri, "noop_ledger")]
        for number in range(rounds):
            for contender in alternating(everybody, number):
                figures.add(contender.name, jobs / contender.run(work.noop, [{"n": n} for n in range(jobs)]), "jobs/s")
    return figures


BENCH = Bench(
    "noop",
    "jobs that do nothing",
    measure,
    ratios=(Ratio("ours", "raw", at_least=0.8), Ratio("ours", "ledger")),
)
