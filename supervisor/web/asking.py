"""What a route works with, from the request, and asking the database so that the answer comes in time."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import pymongo
from fastapi import Depends, Request

from supervisor.client.async_queue import AsyncQueue

Answer = TypeVar("Answer")

PATIENCE_S = 5.0
"""After so many seconds without an answer of the database a request is answered with 503."""


@dataclass(frozen=True)
class Uploads:
    """What files may be uploaded: up to so many bytes, and of these media types (None: any)."""

    most_bytes: int
    types: frozenset[str] | None


@dataclass(frozen=True)
class Interface:
    """What the routes of one router have in common."""

    queue: AsyncQueue
    uploads: Uploads
    most_body_bytes: int


async def _of_request(request: Request) -> Interface:
    found: Interface = request.state.supervisor
    return found


Here = Annotated[Interface, Depends(_of_request)]


async def in_time(asked: Awaitable[Answer], patience_s: float = PATIENCE_S) -> Answer:
    """Await an answer of the database; raises PyMongoError when it has not come in time."""
    with pymongo.timeout(patience_s):
        return await asked
