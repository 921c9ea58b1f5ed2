"""Cancelling on a Python that loses cancellations.

Before 3.12, `asyncio.wait_for` drops a cancellation that arrives in the turn of the loop in which what it waits for has
ended (python/cpython#86296), and the driver sends every command through it. A part of a stopping supervisor that was
asking the database at that moment went on for ever, and the supervisor left ten seconds late.

In a process of our own, `asyncio` itself is mended, and with it what coroutine handlers wait for. In an application,
only the driver is.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import types
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")

_original = asyncio.wait_for


def mend_wait_for() -> None:
    """Give this process the `asyncio.wait_for` of Python 3.12, if it has an older one."""
    if sys.version_info < (3, 12):
        asyncio.wait_for = _wait_for  # type: ignore[assignment]  # nobody waits for generators


def mend_driver() -> None:
    """Give it to the driver alone, whoever uses that."""
    if sys.version_info < (3, 12):
        mended = _Mended("asyncio")
        for name in ("network_layer", "pool_shared", "lock"):
            module = importlib.import_module(f"pymongo.{name}")
            for theirs, ours in (("asyncio", mended), ("wait_for", _wait_for)):
                if hasattr(module, theirs):
                    setattr(module, theirs, ours)


class _Mended(types.ModuleType):
    """`asyncio` but for one function."""

    def __getattr__(self, name: str) -> object:
        return _wait_for if name == "wait_for" else getattr(asyncio, name)


async def _wait_for(fut: Awaitable[T], timeout: float | None) -> T:  # noqa: ASYNC109 - its signature, not ours
    """Wait in this task instead of another one: there is no turn in which only one of the two has ended."""
    if timeout is not None and timeout <= 0:  # a look, no wait
        return await _original(fut, timeout)
    async with asyncio.timeout(timeout):
        return await fut
