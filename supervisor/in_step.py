"""Waking together: what may come a moment sooner comes at one of the moments at which everything else comes.

A supervisor that waits has a dozen things to look at now and then. To wake up costs more than most of these looks, so
it wakes up for several at once. The moments of one process are not those of another: many supervisors on a machine do
not ask their database all at the same time.
"""

from __future__ import annotations

import asyncio
import os
import sys
import types

STEP_S = 0.5
"""Between two moments; by so much at most, something comes sooner than it had to."""
_OFFSET_S = os.getpid() % 64 / 64 * STEP_S


def after(seconds: float) -> float:
    """Return the last moment within `seconds`, by the loop's clock; just their end where that is less than a step."""
    end = asyncio.get_running_loop().time() + seconds
    return end if seconds < STEP_S else (end - _OFFSET_S) // STEP_S * STEP_S + _OFFSET_S


async def sleep(seconds: float) -> None:
    """Sleep until then."""
    await asyncio.sleep(after(seconds) - asyncio.get_running_loop().time())


def take_driver_along() -> None:
    """Have the driver wake up with all else; for a process of our own, since it means every client in it.

    It looks twice a second after each connection that waits for an answer, and after two lists of its own. What is to
    be mended in `asyncio` for the driver, too, comes before.
    """
    in_step = types.ModuleType("asyncio")
    vars(in_step).update(vars(asyncio), sleep=sleep)  # a copy, not a proxy: the driver asks it often
    for name in ("network_layer", "periodic_executor"):
        if module := sys.modules.get(f"pymongo.{name}"):  # a driver without it has rhythms of its own, and works
            module.asyncio = in_step  # type: ignore[attr-defined]
