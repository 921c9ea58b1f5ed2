"""Waiting out a database that does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from pymongo.errors import PyMongoError

log = structlog.get_logger("supervisor.store")

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0
Answer = TypeVar("Answer")


async def until_answered(operation: Callable[[], Awaitable[Answer]], what: str) -> Answer:
    """Call `operation` until the database answers it, and return the answer.

    For writes that may be made twice with the same effect: the outcome of a call that failed is unknown. Says once
    that it waits and once that it is over. Ends by cancellation only.
    """
    delay, waiting = FIRST_DELAY_S, False
    while True:
        try:
            answer = await operation()
        except PyMongoError as error:
            if not waiting:
                log.warning("database.unavailable", during=what, reason=first_line(error))
            waiting = True
            await asyncio.sleep(delay)
            delay = min(LONGEST_DELAY_S, delay * 2)
        else:
            if waiting:
                log.info("database.back", during=what)
            return answer


def first_line(error: PyMongoError) -> str:
    """Return the first line of a driver's error, without its description of the topology or of the whole reply."""
    text = (str(error).splitlines() or [type(error).__name__])[0]
    for tail in (", Timeout:", " (configured timeouts:", ", full error:"):
        text = text.split(tail)[0]
    return text[:300]
