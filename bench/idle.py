"""What a supervisor costs that has nothing to do: CPU time of it and all its processes, and writes.

The writes are counted in the oplog, where nothing can hide: those to `supervisors` are the heartbeat, and there should
be no others.
"""

from __future__ import annotations

import time
from typing import Any

import psutil
from bson import Timestamp
from pymongo import MongoClient

from bench import work
from bench.contenders import WORKERS, connected, running
from bench.measuring import Bench, Figures, Surroundings, Wanted
from bench.peers.running import peer

SETTLE_S = 3


def measure(surroundings: Surroundings, rounds: int) -> Figures:
    """Return CPU seconds and writes per minute."""
    figures, seconds = Figures(), 5 if surroundings.quick else 60
    for name, code in {"ours": None, **({"before": surroundings.before} if surroundings.before else {})}.items():
        with running(surroundings, f"idle_{name}", code) as supervisor:
            with connected(surroundings.uri, f"idle_{name}") as contender:
                contender.run(work.spins, [{"ms": 20}] * WORKERS)
            time.sleep(SETTLE_S)
            for _ in range(rounds):
                look(figures, name, surroundings.uri, supervisor.pid, seconds)
    for name in surroundings.peers:
        with peer(name, surroundings.folder / name) as other:
            other.run(work.spins, [{"ms": 20}] * WORKERS)
            time.sleep(SETTLE_S)
            for _ in range(rounds):
                used = sum(map(cpu_s, other.pids))
                time.sleep(seconds)
                figures.add(f"{name} CPU", (sum(map(cpu_s, other.pids)) - used) * 60 / seconds, "s/min")
    return figures


def look(figures: Figures, name: str, uri: str, pid: int, seconds: float) -> None:
    """Look for so long at what a supervisor uses and what is written to its database."""
    with MongoClient[Any](uri) as client:
        oplog, used = newest(client), cpu_s(pid)
        time.sleep(seconds)
        spent = cpu_s(pid) - used
        beats, others = writes_since(client, oplog, f"idle_{name}")
    figures.add(f"{name} CPU", spent * 60 / seconds, "s/min")
    figures.add(f"{name} of one core", spent / seconds * 100, "%")
    figures.add(f"{name} heartbeats", beats * 60 / seconds, "/min")
    figures.add(f"{name} other writes", others * 60 / seconds, "/min")


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process and all below it have used, those that have ended included."""
    top = psutil.Process(pid)
    return sum(sum(process.cpu_times()[:4]) for process in (top, *top.children(recursive=True)))


def newest(client: MongoClient[Any]) -> Timestamp:
    """Return the time of the newest entry of the oplog."""
    found = client["local"]["oplog.rs"].find_one({}, {"ts": 1}, sort=[("$natural", -1)])
    assert found is not None
    return Timestamp(found["ts"].time, found["ts"].inc)


def writes_since(client: MongoClient[Any], since: Timestamp, database: str) -> tuple[int, int]:
    """Return how many writes of a database's the oplog has since then: to `supervisors`, and to all else."""
    entries = client["local"]["oplog.rs"].find(
        {"ts": {"$gt": since}, "op": {"$ne": "n"}}, {"ns": 1, "o.applyOps.ns": 1}
    )
    written = [each["ns"] for entry in entries for each in entry.get("o", {}).get("applyOps", [entry])]
    ours = [namespace for namespace in written if namespace.startswith(f"{database}.")]
    beats = ours.count(f"{database}.supervisors")
    return beats, len(ours) - beats


BENCH = Bench(
    "idle",
    "a supervisor with two workers and nothing to do",
    measure,
    wanted=(Wanted("ours of one core", 0.5), Wanted("ours other writes", 0)),
    rounds=2,
    quick_rounds=1,
)
