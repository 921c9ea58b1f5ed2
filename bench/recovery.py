"""How soon work goes on after a death: measured from outside, with a plain process pool beside it.

- *crash*: a job kills its worker with SIGKILL. How long until a job that waits behind it starts in that slot?
  Beside it: a plain ProcessPoolExecutor, of which a new one is made after it broke.
- *time limit in C*: a job in a C loop that ignores signals and has started `sleep 600`, limit 1 s. How long from the
  limit until the next job starts, less `kill_grace_s`, and is the `sleep` gone then?
- *memory limit*: a job takes 100 MB/s, limit 300 MB. How long from crossing it until its worker is dead?
- *supervisor*: SIGKILL of a supervisor in the middle of its jobs, with another one on the same database. How long
  until they run there, less the lease?

Start times are taken by the handlers themselves, on the clock that all processes share.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench.measuring import Bench, Figures, Ratio, Surroundings
from tests.support.supervising import Jobs, RunningSupervisor, configuration, jobs_in

HANDLERS = "bench.recovery_handlers"
GRACE_S = 2.0
LEASE_S = 10.0


@contextmanager
def supervisor(uri: str, folder: Path, **tables: dict[str, object]) -> Iterator[RunningSupervisor]:
    """Run a supervisor with one worker unless `tables` say otherwise."""
    merged = {"pool": {"workers": 1, "modules": [HANDLERS], "kill_grace_s": GRACE_S}, **tables}
    merged["pool"] = {"modules": [HANDLERS], "kill_grace_s": GRACE_S, "workers": 1, **tables.get("pool", {})}
    running = RunningSupervisor(folder, configuration(uri, "bench_recovery", **merged)).start()
    try:
        yield running
    finally:
        running.end()


def after_a_crash(jobs: Jobs, uri: str, folder: Path, rounds: int) -> list[float]:
    """Seconds from the last instruction of a worker to the first line of the next job in its slot."""
    with supervisor(uri, folder / "crash", retry={"max_crashes": 1}):
        return [_one_crash(jobs) for _ in range(rounds)]


def _one_crash(jobs: Jobs) -> float:
    crash = jobs.insert("dies", {}, priority=1)
    following = jobs.insert("tells_its_start")
    started = jobs.wait(following)["result"]["at"]
    died = float(jobs.wait(crash)["attempts"][-1]["logs"])
    return float(started - died)


def after_a_crash_in_a_plain_pool(rounds: int) -> list[float]:
    """The same for one who makes a new executor when the old one broke."""
    context = multiprocessing.get_context("forkserver")
    found = []
    pool = ProcessPoolExecutor(1, mp_context=context)
    for _ in range(rounds):
        pool.submit(os.getpid).result()
        with tempfile.NamedTemporaryFile() as note:
            try:
                pool.submit(note_and_die, note.name).result()
            except BrokenProcessPool:
                pool = ProcessPoolExecutor(1, mp_context=context)
            started = pool.submit(time.monotonic).result()
            found.append(started - float(Path(note.name).read_text()))
    pool.shutdown()
    return found


def note_and_die(path: str) -> None:
    """Write down the time, and die."""
    Path(path).write_text(str(time.monotonic()))
    os.kill(os.getpid(), signal.SIGKILL)


def after_a_time_limit(jobs: Jobs, uri: str, folder: Path, rounds: int) -> list[float]:
    """Seconds from the end of the grace to the first line of the next job."""
    found = []
    with supervisor(uri, folder / "limit"):
        for _ in range(rounds):
            endless = jobs.insert("loops_in_c", {}, timeout_s=1, max_attempts=1, priority=1)
            following = jobs.insert("tells_its_start")
            started = jobs.wait(following, within_s=60)["result"]["at"]
            begun, sleeper = jobs.wait(endless)["attempts"][-1]["logs"].split()[:2]
            assert not psutil.pid_exists(int(sleeper)), "the sleep lives on"
            found.append(started - float(begun) - 1.0 - GRACE_S)
    return found


def after_a_supervisors_death(jobs: Jobs, uri: str, folder: Path, rounds: int) -> list[float]:
    """Seconds from SIGKILL of a supervisor to the start of its job elsewhere, less the lease."""
    found = []
    for number in range(rounds):
        with supervisor(uri, folder / f"victim-{number}", lease={"seconds": LEASE_S}) as victim:
            job_id = jobs.insert("waits", {"seconds": 3600})
            jobs.wait(job_id, "processing")
            victim.wait_for("job.started")
            with supervisor(uri, folder / f"heir-{number}", lease={"seconds": LEASE_S, "reap_every_s": 5}):
                jobs.collection.update_one({"_id": job_id}, {"$set": {"payload.seconds": 0}})
                killed = time.monotonic()
                victim.kill()
                found.append(jobs.wait(job_id, within_s=60)["result"]["at"] - killed - LEASE_S)
    return found


def after_crossing_a_memory_limit(jobs: Jobs, uri: str, folder: Path, rounds: int) -> list[float]:
    """Seconds from crossing 300 MB, at 100 MB/s, to the death of the worker."""
    found = []
    with supervisor(uri, folder / "memory", handlers__hoards={"memory_limit_mb": 300}):
        for _ in range(rounds):
            job = jobs.run("hoards", {"mb_per_s": 100}, max_attempts=1, within_s=60)
            assert job["error"]["kind"] == "memory", job["error"]
            last = [line.split() for line in job["attempts"][-1]["logs"].splitlines()]
            # stopped before it could say so: that is no time at all
            crossed = next((float(at) for at, mb in last if float(mb) > 300), float(last[-1][0]))
            found.append(float(last[-1][0]) - crossed)
    return found


def measure(surroundings: Surroundings, rounds: int) -> Figures:
    """Return milliseconds of all of it."""
    figures, uri, folder = Figures(), surroundings.uri, surroundings.folder
    with jobs_in(uri, "bench_recovery") as jobs:
        measured: dict[str, Callable[[], list[float]]] = {
            "crash": lambda: after_a_crash(jobs, uri, folder, rounds),
            "crash, plain pool": lambda: after_a_crash_in_a_plain_pool(rounds),
            "time limit in C": lambda: after_a_time_limit(jobs, uri, folder, max(1, rounds // 3)),
            "memory limit": lambda: after_crossing_a_memory_limit(jobs, uri, folder, rounds),
            "supervisor": lambda: after_a_supervisors_death(jobs, uri, folder, max(1, rounds // 3)),
        }
        for name, found in measured.items():
            for seconds in found():
                figures.add(name, seconds * 1000, "ms")
    return figures


BENCH = Bench(
    "recovery",
    "how soon work goes on after a death",
    measure,
    ratios=(Ratio("crash", "crash, plain pool"),),
    rounds=10,
    quick_rounds=2,
    in_quick=False,
)
