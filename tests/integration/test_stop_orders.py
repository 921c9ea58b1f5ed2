"""An order to stop reaches the very job and the very process that it is meant for, and no other.

In programs of their own: a fork server stays as long as the process that started it.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

POOL = """
import asyncio, tempfile, time
from dataclasses import replace
from pathlib import Path
import bson
from supervisor import logs
from supervisor.pool.attempt import StopReason
from supervisor.pool.forkserver import ForkServer
from supervisor.pool.limits import PoolLimits
from supervisor.pool.pool import WorkerPool
from supervisor.worker.main import STOP_SIGNALS
from supervisor.worker.wire import Call

HANDLERS = ("tests.support.misbehaving",)


class Listener:
    def on_progress(self, report): ...
    def on_log(self, entry): ...


def call(number, seconds):
    payload = bson.encode({"seconds": seconds})
    return Call("sleeps", number, attempt=1, token=number, timeout_s=60, settings={}, payload=payload,
                result_inline_bytes=1000)
"""

LATE_ORDER = """
async def run(pool, number, seconds, listener, order_for=None):
    # run a job on the slot, with an order to stop for the job of `order_for`, and tell how it ended
    while not pool.has_free():
        await asyncio.sleep(0.01)
    (seat,) = pool.reserve()
    job = asyncio.create_task(pool.run_job(seat, call(number, seconds), listener))
    pool.release(seat)
    if order_for is not None:
        while pool.report()[0].state != "busy":
            await asyncio.sleep(0.01)
        pool.stop_job(seat.slot, order_for, StopReason.CANCEL)
    print(type(await job).__name__)
    return seat.pid


async def main(workspace):
    fork_server = ForkServer(workspace, HANDLERS, log={"level": "error", "format_": "json"})
    pool = WorkerPool(fork_server, PoolLimits(), lambda: 0.5)
    pool.resize(1)
    life = asyncio.create_task(pool.run())
    first, second = Listener(), Listener()
    pids = {await run(pool, 1, 0, first), await run(pool, 2, 1, second, first), await run(pool, 3, 60, second, second)}
    print(len(pids))
    life.cancel()
    await asyncio.wait({life})


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        logs.configure("error", "json")
        asyncio.run(main(Path(folder)))
"""

ONE_WORKER = """
async def one_worker(folder, use):
    logs.configure("error", "json")
    pool = WorkerPool(ForkServer(folder, HANDLERS), PoolLimits(), lambda: 0.5)
    pool.resize(1)
    life = asyncio.create_task(pool.run())
    while not pool.has_free():
        await asyncio.sleep(0.01)
    await use(pool, pool._slots[0].slot)
    life.cancel()
    await asyncio.wait({life})


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(one_worker(Path(folder), use))
"""

ORDER_BY_NUMBER = """
async def use(pool, slot):
    # an order for the first job arrives when its worker has gone on to the second, as it does in a group
    (place,) = pool.reserve()
    await pool.run_job(place, call(1, 0), Listener())
    second = asyncio.create_task(pool.run_job(place, call(2, 1), Listener()))
    while slot.busy_since is None or slot._serving.jobs.head.begun_at is None:
        await asyncio.sleep(0.01)
    slot._files.orders.name(1)
    slot._serving.worker.signal(min(STOP_SIGNALS))
    print(type(await second).__name__)
    pool.release(place)
"""

WORN_MEANWHILE = """
async def use(pool, slot):
    # the worker is worn by a job while a claim is under way that brings it another
    (place,) = pool.reserve()
    lowers = replace(call(1, 0), handler="brief", payload=bson.encode({"does": "lowers a limit"}))
    print(type(await pool.run_job(place, lowers, Listener())).__name__)
    given = await pool.run_job(place, call(2, 0), Listener())
    print(type(given).__name__, given.begun)
    pool.release(place)
"""

SINCE = """
async def use(pool, slot):
    # a slot that is never idle tells since when the present job runs; on a busy machine the second is given back first
    for _ in range(20):
        (place,) = pool.reserve()
        begun = time.monotonic()
        first = pool.run_job(place, call(1, 0.05), Listener())
        second = asyncio.create_task(pool.run_job(place, call(2, 0.3), Listener()))
        await first
        since_s, busy_s = pool.report()[0].since_s, time.monotonic() - begun
        went_on = type(await second).__name__ == "Returned"
        pool.release(place)
        if went_on:
            print(since_s <= busy_s - 0.05)
            break
"""

RECYCLED_ID = """
import asyncio, os, signal, subprocess, sys
from pathlib import Path
from supervisor.proc import start_ticks
from supervisor.pool.forkserver import ForkServer
from supervisor.pool.process import WorkerProcess
from supervisor.worker.main import WorkerPlan


async def main():
    stranger = subprocess.Popen(["sleep", "60"])
    started = start_ticks(stranger.pid)
    plan = WorkerPlan(spool="", output="", stacks="", live_stacks="", orders="", modules=())
    worker = WorkerProcess(plan, ForkServer(Path(".")))
    try:
        worker._watch_death(stranger.pid, {"pid": stranger.pid, "started": started - 1})
    except ProcessLookupError:
        print("refused")
    worker.signal(signal.SIGKILL)
    await worker.kill()
    await worker.close()
    try:
        print(stranger.wait(1))
    except subprocess.TimeoutExpired:
        print("unharmed")
    worker = WorkerProcess(plan, ForkServer(Path(".")))
    worker.greeting = {"pid": stranger.pid, "started": started}
    worker._watch_death(stranger.pid, worker.greeting)
    await worker.kill()
    print(stranger.wait())
    await worker.close()


if __name__ == "__main__":
    asyncio.run(main())
"""


def run(program: str, folder: Path) -> list[str]:
    path = folder / "program.py"
    path.write_text(program)
    done = subprocess.run(
        [sys.executable, path], cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_an_order_for_a_job_that_has_ended_leaves_the_slot_s_next_job_alone(tmp_path: Path) -> None:
    assert run(POOL + LATE_ORDER, tmp_path) == ["Returned", "Returned", "Cancelled", "1"]


def test_an_order_that_comes_too_late_for_its_job_leaves_the_next_one_alone(tmp_path: Path) -> None:
    assert run(POOL + ORDER_BY_NUMBER + ONE_WORKER, tmp_path) == ["Returned"]


def test_a_job_that_a_claim_brings_to_a_worn_worker_is_given_back_unbegun(tmp_path: Path) -> None:
    assert run(POOL + WORN_MEANWHILE + ONE_WORKER, tmp_path) == ["Returned", "Interrupted False"]


def test_a_slot_that_is_never_idle_tells_since_when_its_job_runs(tmp_path: Path) -> None:
    assert run(POOL + SINCE + ONE_WORKER, tmp_path) == ["True"]


def test_a_process_that_is_not_the_worker_that_said_hello_is_never_signalled(tmp_path: Path) -> None:
    assert run(RECYCLED_ID, tmp_path) == ["refused", "unharmed", "-9"]
