"""Storing a file in GridFS piece by piece.

The driver's own stream keeps up to 48 MB of a file before it sends any of it, which a service cannot have for each of
its uploads.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable, Mapping
from datetime import UTC, datetime
from typing import Any

from bson import Binary, ObjectId
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError

from supervisor.store.files import CHUNKS, FILES

CHUNK_BYTES = 255 * 1024
"""As the driver cuts files."""
_AT_ONCE = 2
"""Chunks of one insert."""


async def store(
    database: AsyncDatabase[dict[str, Any]],
    pieces: AsyncIterable[bytes],
    file_id: Any,
    name: str,
    metadata: Mapping[str, Any],
) -> None:
    """Store what `pieces` yields; what it raises comes out, and nothing is stored then. Raises PyMongoError."""
    await _prepare(database)
    sent = length = 0
    held = bytearray()
    try:
        async for piece in pieces:
            held += piece
            length += len(piece)
            while len(held) >= CHUNK_BYTES * _AT_ONCE:
                sent += await _send(database, held[: CHUNK_BYTES * _AT_ONCE], file_id, sent)
                del held[: CHUNK_BYTES * _AT_ONCE]
        await _send(database, held, file_id, sent)
        described = {"filename": name, "metadata": dict(metadata), "length": length, "chunkSize": CHUNK_BYTES}
        await database[FILES].insert_one({"_id": file_id, **described, "uploadDate": datetime.now(UTC)})
    except BaseException:
        with contextlib.suppress(PyMongoError):  # the database is away; chunks without a file go after a day
            await database[CHUNKS].delete_many({"files_id": {"$eq": file_id}})
        raise


async def _send(database: AsyncDatabase[dict[str, Any]], data: bytearray, file_id: Any, first: int) -> int:
    """Store the next chunks, of which `first` is the number, and return how many they are."""
    cut = [bytes(data[start : start + CHUNK_BYTES]) for start in range(0, len(data), CHUNK_BYTES)]
    if cut:
        numbered = enumerate(cut, first)
        await database[CHUNKS].insert_many(
            [{"_id": ObjectId(), "files_id": file_id, "n": number, "data": Binary(chunk)} for number, chunk in numbered]
        )
    return len(cut)


async def _prepare(database: AsyncDatabase[dict[str, Any]]) -> None:
    """Make the indexes of GridFS before the first file, as drivers do."""
    if await database[FILES].find_one({}, {"_id": 1}) is None:
        await database[FILES].create_index([("filename", 1), ("uploadDate", 1)])
        await database[CHUNKS].create_index([("files_id", 1), ("n", 1)], unique=True)
