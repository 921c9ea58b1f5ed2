"""The supervisor, started by a program that on SIGUSR2 lets no claim begin any more, for ever."""

import asyncio
import gc
import signal
from types import FrameType

from supervisor.__main__ import run
from supervisor.live import Live

TAKEN: list[asyncio.Task[None]] = []


async def let_none_begin(live: Live) -> None:
    async with live.claiming.none():
        await asyncio.Event().wait()


def take_the_lock(_signal: int, _frame: FrameType | None) -> None:
    (live,) = (each for each in gc.get_objects() if isinstance(each, Live))
    TAKEN.append(asyncio.get_running_loop().create_task(let_none_begin(live)))


if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, take_the_lock)
    run()
