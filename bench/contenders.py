"""Who does the work: a plain process pool, our supervisor, and peers, all behind the same four methods.

`run` says how many seconds a load took, from the start of its first job to the end of its last. All have two workers.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from pymongo import MongoClient
from pymongo.write_concern import WriteConcern

from bench import work
from bench.measuring import BenchError, Surroundings
from bench.peers.running import peer
from supervisor.client.queue import Queue
from supervisor.pool.forkserver import thread_limits
from tests.support.supervising import ROOT, RunningSupervisor

WORKERS = 2
PATIENCE_S = 300
Document = dict[str, Any]
Job = Callable[[Document], Any]
"""A function of bench.work, or one like it; a handler has its name."""


class Contender(Protocol):
    """Takes loads; is started and ready."""

    name: str

    def run(self, job: Job, payloads: Sequence[Document]) -> float:
        """Do all the jobs, and return the seconds from the first start to the last end."""
        ...

    def pick_up(self) -> float:
        """Hand in one job on an idle system; return the seconds until its first line."""
        ...


class PlainPool:
    """A `ProcessPoolExecutor` with one future per job: nothing durable, and the limit for who uses one."""

    name = "raw"

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool
        for _ in range(2):  # all workers are there
            self.run(work.spins, [{"ms": 20}] * WORKERS)

    def run(self, job: Job, payloads: Sequence[Document]) -> float:
        """See Contender."""
        begun = time.monotonic()
        for future in [self._pool.submit(job, payload) for payload in payloads]:
            future.result()
        return time.monotonic() - begun

    def pick_up(self) -> float:
        """See Contender."""
        future = self._pool.submit(work.tells_its_start, {})
        handed_in = time.monotonic()
        return float(future.result()["at"]) - handed_in


class OurSupervisor:
    """A supervisor as a process of its own, with the configuration that it has by itself."""

    def __init__(self, client: MongoClient[Document], database: str, name: str, *, keeps: bool = False) -> None:
        """`keeps` leaves the jobs of earlier loads in the collection."""
        self.name = name
        self.pid = 0
        """The supervisor's process id, where it is known."""
        self._keeps = keeps
        self._jobs = client[database].get_collection("jobs", write_concern=WriteConcern(w="majority", j=True))
        self._queue = Queue(client, database)

    def run(self, job: Job, payloads: Sequence[Document]) -> float:
        """See Contender. The jobs are there before the first is due; the times are the database's own."""
        if not self._keeps:
            self._jobs.delete_many({})
        due = datetime.now(UTC) + timedelta(seconds=0.5 + len(payloads) / 5000)
        jobs = [{"handler": job.__name__, "status": "pending", "run_at": due, "payload": each} for each in payloads]
        ids = self._jobs.insert_many(jobs, ordered=False).inserted_ids
        self._wait_for_all()
        times = {"_id": "$status", "first": {"$min": "$started_at"}, "last": {"$max": "$finished_at"}, "n": {"$sum": 1}}
        ended = {
            each["_id"]: each
            for each in self._jobs.aggregate([{"$match": {"_id": {"$gte": min(ids)}}}, {"$group": times}])
        }
        if set(ended) != {"completed"} or ended["completed"]["n"] != len(payloads):
            raise BenchError(f"{self.name}: not all of {len(payloads)} jobs completed: {ended}")
        return float((ended["completed"]["last"] - ended["completed"]["first"]).total_seconds())

    def pick_up(self) -> float:
        """See Contender."""
        job_id = self._queue.enqueue("tells_its_start")
        handed_in = time.monotonic()
        started = self._queue.wait(job_id, PATIENCE_S)["result"]["at"]
        return float(started) - handed_in

    def _wait_for_all(self) -> None:
        # seldom, and by an index: what waits must not take the CPU of those that work
        deadline = time.monotonic() + PATIENCE_S
        while self._jobs.find_one({"status": {"$in": ["pending", "processing"]}}, {"_id": 1}):
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name}: jobs are not done after {PATIENCE_S} s")
            time.sleep(1.0)


@contextlib.contextmanager
def plain_pool(workers: int = WORKERS) -> Iterator[PlainPool]:
    """Start a plain pool, warm."""
    os.environ.update(thread_limits(1, os.environ))
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("forkserver")) as pool:
        yield PlainPool(pool)


@contextlib.contextmanager
def running(
    surroundings: Surroundings,
    name: str,
    code: Path | None = None,
    environ: Mapping[str, str] = MappingProxyType({}),
    **tables: Document,
) -> Iterator[RunningSupervisor]:
    """Run a supervisor on a database of that name, with its own defaults except for `tables`; `code` has another
    revision of it.
    """
    config: dict[str, Document] = {
        "mongo": {"uri": surroundings.uri, "database": name},
        "pool": {"workers": WORKERS, "modules": ["bench.handlers"]},
    }
    for table, keys in tables.items():
        config[table] = {**config.get(table, {}), **keys}
    path = os.pathsep.join(str(each) for each in (code, ROOT) if each)
    supervisor = RunningSupervisor(surroundings.folder / name, config, environ={"PYTHONPATH": path, **environ}).start()
    try:
        yield supervisor
        supervisor.stop(60)
    finally:
        supervisor.end()


@contextlib.contextmanager
def connected(uri: str, database: str, name: str = "ours", *, keeps: bool = False) -> Iterator[OurSupervisor]:
    """Take part through a supervisor that runs on that database."""
    with MongoClient[Document](uri, tz_aware=True) as client:
        yield OurSupervisor(client, database, name, keeps=keeps)


@contextlib.contextmanager
def ours(surroundings: Surroundings, bench: str, name: str = "ours", code: Path | None = None) -> Iterator[Contender]:
    """Start our supervisor as a contender, warm."""
    database = f"{bench}_{name}"
    with (
        running(surroundings, database, code) as supervisor,
        connected(surroundings.uri, database, name) as contender,
    ):
        contender.pid = supervisor.pid
        contender.run(work.spins, [{"ms": 20}] * WORKERS * 2)
        yield contender


@contextlib.contextmanager
def all_of(surroundings: Surroundings, bench: str) -> Iterator[list[Contender]]:
    """Start everybody who takes part."""
    with contextlib.ExitStack() as stack:
        contenders: list[Contender] = [
            stack.enter_context(plain_pool()),
            stack.enter_context(ours(surroundings, bench)),
        ]
        if surroundings.before:
            contenders.append(stack.enter_context(ours(surroundings, bench, "before", surroundings.before)))
        for name in surroundings.peers:
            contenders.append(stack.enter_context(peer(name, surroundings.folder / name)))
            contenders[-1].run(work.spins, [{"ms": 20}] * WORKERS * 2)
        yield contenders


def rest() -> None:
    """Let an idle system become idle, for a time that hits no rhythm of its own."""
    time.sleep(random.uniform(0.02, 0.06))
