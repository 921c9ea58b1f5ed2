"""Wait for a condition with a deadline, and name what was awaited when it does not come."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

POLL_S = 0.02
T = TypeVar("T")


def until(condition: Callable[[], T | None], timeout_s: float = 10.0, what: str = "") -> T:
    """Poll until the condition is truthy and return its value; AssertionError after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        _check(deadline, timeout_s, what or _name(condition), value)
        time.sleep(POLL_S)


async def until_async(
    condition: Callable[[], T] | Callable[[], Awaitable[T]], timeout_s: float = 10.0, what: str = ""
) -> T:
    """Do the same in an event loop; the condition may be a function or a coroutine function."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = condition()
        value: T = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        _check(deadline, timeout_s, what or _name(condition), value)
        await asyncio.sleep(POLL_S)


def _check(deadline: float, timeout_s: float, what: str, value: object) -> None:
    if time.monotonic() > deadline:
        message = f"waited {timeout_s:g} s in vain for: {what} (last seen: {value!r})"
        raise AssertionError(message)


def _name(condition: Callable[[], object]) -> str:
    return getattr(condition, "__qualname__", repr(condition))
