"""Jobs that do nothing: what a job costs, beside a plain pool and beside the ledger alone.

Besides the rate, the CPU time that a job costs each process that has part in it: the figure that moves least when
something else wants the machine as well.
"""

from __future__ import annotations

from typing import Any

import psutil
from pymongo import MongoClient

from bench import work
from bench.contenders import Contender, OurSupervisor, PlainPool, all_of
from bench.idle import cpu_s
from bench.ledger import Ledger
from bench.measuring import Bench, Figures, Ratio, Surroundings, alternating
from bench.peers.running import Peer


def measure(surroundings: Surroundings, rounds: int) -> Figures:
    """Return jobs per second of everybody, and the CPU time of a job of ours."""
    figures, jobs = Figures(), 1000 if surroundings.quick else 5000
    with all_of(surroundings, "noop") as contenders, MongoClient[Any](surroundings.uri) as client:
        mongod = client.admin.command("serverStatus")["pid"]
        everybody = [*contenders, Ledger(client, surroundings.uri, "noop_ledger")]
        for number in range(rounds):
            for contender in alternating(everybody, number):
                count, used = count_for(contender, jobs), cpu_of(contender, mongod)
                rate = count / contender.run(work.noop, [{"n": n} for n in range(count)])
                figures.add(contender.name, rate, "jobs/s")
                for name, seconds in cpu_of(contender, mongod).items():
                    figures.add(f"{contender.name}, CPU of {name}", (seconds - used[name]) / count * 1e6, "µs/job")
    return figures


def count_for(contender: Contender | Ledger, jobs: int) -> int:
    """Return how many jobs make a rate: a few seconds of them."""
    return jobs * 4 if isinstance(contender, PlainPool) else 1000 if isinstance(contender, Peer) else jobs


def cpu_of(contender: Contender | Ledger, mongod: int) -> dict[str, float]:
    """Return the CPU seconds so far of the processes that our jobs need; of other contenders nothing."""
    if isinstance(contender, Ledger):
        return {"mongod": cpu_s(mongod)}
    if not isinstance(contender, OurSupervisor):
        return {}
    alone = sum(psutil.Process(contender.pid).cpu_times()[:2])
    return {"supervisor": alone, "workers": cpu_s(contender.pid) - alone, "mongod": cpu_s(mongod)}


BENCH = Bench(
    "noop",
    "jobs that do nothing",
    measure,
    ratios=(Ratio("ours", "raw", at_least=0.8), Ratio("ours", "ledger")),
)
