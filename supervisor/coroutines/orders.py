"""How an order to stop reaches a coroutine: as a cancellation that says why.

The exception raised inside is what a handler in a worker gets (`JobTimeout` and its like), and an
`asyncio.CancelledError` as well. So everything between the event loop and the handler treats it as the cancellation
that it is: timeouts, task groups and libraries clean up, and no task is left behind. Before Python 3.13 an
`asyncio.TaskGroup` does that too, but hands it on in an exception group, as it does with any class of its own.
"""

from __future__ import annotations

import asyncio
import functools
import time
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from supervisor.errors import JobCancelled, JobInterrupted, JobStopped, JobTimeout
from supervisor.pool.attempt import StopReason

T = TypeVar("T")


def _as_cancellation(stop: type[JobStopped]) -> type[BaseException]:
    return type(stop.__name__, (stop, asyncio.CancelledError), {"__doc__": stop.__doc__})


ORDERS = {
    StopReason.TIMEOUT: _as_cancellation(JobTimeout),
    StopReason.CANCEL: _as_cancellation(JobCancelled),
    StopReason.DRAIN: _as_cancellation(JobInterrupted),
    StopReason.LEASE_LOST: _as_cancellation(JobInterrupted),
}


def without_group(error: BaseException) -> BaseException:
    """Return the order that an exception group holds; every other error as it is."""
    found: BaseException | None = error.subgroup(JobStopped) if isinstance(error, BaseExceptionGroup) else None
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found or error


@types.coroutine
def obedient(
    coroutine: Coroutine[Any, Any, T], ordered: Callable[[], StopReason | None], took: Callable[[float], None]
) -> Generator[Any, None, T]:
    """Await `coroutine`; a cancellation for which there is an order is raised inside as that order.

    `took` is told the length of every step, for which the event loop stood still, in seconds.
    """
    step: Callable[[], Any] = functools.partial(coroutine.send, None)
    while True:
        begun = time.monotonic()
        try:
            awaited = step()
        except StopIteration as returned:
            result: T = returned.value
            return result
        finally:
            took(time.monotonic() - begun)
        try:
            yield awaited
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as error:  # noqa: BLE001 - whatever the loop has for it
            reason = ordered() if isinstance(error, asyncio.CancelledError) else None
            step = functools.partial(coroutine.throw, error if reason is None else ORDERS[reason](*error.args))
        else:
            step = functools.partial(coroutine.send, None)
