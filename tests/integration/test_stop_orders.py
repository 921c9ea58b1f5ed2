"""An order to stop reaches the very job and the very process that it is meant for, and no other.

In programs of their own: a fork server stays as long as the process that started it.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

LATE_ORDER = """
import asyncio, tempfile
from pathlib import Path
import bson
from supervisor import logs
from supervisor.pool.attempt import StopReason
from supervisor.pool.forkserver import ForkServer
from supervisor.pool.limits import PoolLimits
from supervisor.pool.pool import WorkerPool
from supervisor.worker.wire import Call

HANDLERS = ("tests.support.misbehaving",)


class Listener:
    def on_progress(self, report): ...
    def on_log(self, entry): ...


def call(number, seconds):
    payload = bson.encode({"seconds": seconds})
    return Call("sleeps", number, attempt=1, token=number, timeout_s=60, settings={}, payload=payload,
                result_inline_bytes=1000)


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
    assert run(LATE_ORDER, tmp_path) == ["Returned", "Returned", "Cancelled", "1"]


def test_a_process_that_is_not_the_worker_that_said_hello_is_never_signalled(tmp_path: Path) -> None:
    assert run(RECYCLED_ID, tmp_path) == ["refused", "unharmed", "-9"]
