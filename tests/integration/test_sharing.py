"""Jobs that wait behind another one go to a slot that runs them sooner.

In programs of their own: a fork server stays as long as the process that started it.
"""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import asyncio, sys, tempfile
from pathlib import Path
import bson
from supervisor import logs
from supervisor.core.lookahead import Expected
from supervisor.pool import serving
from supervisor.pool.attempt import StopReason
from supervisor.pool.forkserver import ForkServer
from supervisor.pool.limits import PoolLimits
from supervisor.pool.pool import WorkerPool
from supervisor.worker.wire import Call


class Listener:
    seat = None
    def on_progress(self, report): ...
    def on_log(self, entry): ...
    def on_moved(self, seat):
        self.seat = seat


def run(pool, place, handler="brief", **payload):
    call = Call(handler, 1, attempt=1, token=1, timeout_s=600, settings={}, payload=bson.encode(payload),
                result_inline_bytes=1000)
    listener = Listener()
    return listener, asyncio.create_task(pool.run_job(place, call, listener))


def crowd(pool):
    # a long job on the first of two slots, and six short ones behind it
    pool.pace.expected = lambda handler: Expected(0.001, slow_s=3600)
    places = pool.reserve()
    return places, run(pool, places[0], "sleeps"), [run(pool, places[0]) for _ in range(6)]


async def main(workspace):
    pool = WorkerPool(ForkServer(workspace, ("tests.support.misbehaving",)), PoolLimits(), lambda: 0.5)
    pool.resize(2)
    life = asyncio.create_task(pool.run())
    while not all(slot.state == "idle" for slot in pool.report()) or len(pool.report()) < 2:
        await asyncio.sleep(0.01)
    await use(pool)
    life.cancel()
    await asyncio.wait({life})


if __name__ == "__main__":
    logs.configure("error", "json")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder)))
"""

TAKES_OVER = """
async def use(pool):
    places, (long, _), others = crowd(pool)
    for place in places:
        pool.release(place)
    await asyncio.wait([job for _, job in others], return_when=asyncio.FIRST_COMPLETED)
    pool.stop_job(places[0].slot, long, StopReason.CANCEL)
    for listener, job in others:
        print(type(await job).__name__, listener.seat.slot == places[1].slot, listener.seat.pid == places[1].pid)
"""

RECYCLED = """
async def use(pool):
    pool.limit(PoolLimits(max_jobs_per_worker=2))
    pool.pace.expected = lambda handler: Expected(0.001, slow_s=3600)
    for _ in range(8):
        pool.pace.note("whoami", 0.001)
    places = pool.reserve()
    run(pool, places[0], "sleeps")
    others = [run(pool, places[0], "whoami") for _ in range(6)]
    for place in places:
        pool.release(place)
    for listener, job in others[1:]:  # a single one waits for its own slot
        print(bson.decode((await job).result)["pid"])
"""

TURN_SLOW = """
async def use(pool):
    in_line, keep_s, end = sys.argv[1:]
    serving.KEEP_S, pool.pace.in_line = float(keep_s), in_line == "in line"
    pool.pace.expected = lambda handler: Expected(0.001, slow_s=0.1)
    places = pool.reserve()
    run(pool, places[0], "sleeps")
    run(pool, places[1], "waits_for_file", path=end)
    waiting = [run(pool, places[0]) for _ in range(6)]
    for place in places:
        pool.release(place)
    await asyncio.sleep(1)
    if keep_s == "3600":
        Path(end).touch()
    for listener, job in waiting:
        print(getattr(await job, "reason", "ran"))
"""

LATE = """
import os, signal
async def use(pool):
    places, (_, killed), others = crowd(pool)
    pool.release(places[1])
    await asyncio.wait([job for _, job in others], return_when=asyncio.FIRST_COMPLETED)
    os.kill(places[0].pid, signal.SIGKILL)
    print(type(await killed).__name__)
    late, job = run(pool, places[0])  # of a claim that was under way
    pool.release(places[0])
    async with asyncio.timeout(30):
        print(type(await job).__name__, late.seat.slot == places[1].slot)
"""


def said(program: str, folder: Path, *arguments: str) -> list[str]:
    path = folder / "program.py"
    path.write_text(program + PROGRAM)
    done = subprocess.run(
        [sys.executable, path, *arguments], cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_free_slot_takes_over_what_waits_behind_a_job(tmp_path: Path) -> None:
    assert said(TAKES_OVER, tmp_path) == ["Returned True True"] * 6


def test_a_job_that_comes_after_its_worker_s_death_is_not_kept_for_ever(tmp_path: Path) -> None:
    """The dead worker had been running a group of which another slot had taken over the rest."""
    assert said(LATE, tmp_path) == ["Crashed", "Returned True"]


def test_a_worker_that_takes_over_runs_no_more_jobs_than_its_life_has_left(tmp_path: Path) -> None:
    assert max(Counter(said(RECYCLED, tmp_path)).values()) <= 2


@pytest.mark.parametrize(
    ("in_line", "keep_s", "reason"),
    [
        ("in line", "3600", "ran"),
        ("in line", "0.3", "claimed ahead"),
        ("not", "3601", "claimed ahead"),
    ],
)
def test_what_waits_behind_slow_jobs_is_kept_only_while_others_are_in_line(
    tmp_path: Path, in_line: str, keep_s: str, reason: str
) -> None:
    assert said(TURN_SLOW, tmp_path, in_line, keep_s, str(tmp_path / "end")) == [reason] * 6
