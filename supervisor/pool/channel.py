"""The supervisor's end of a worker's control channel."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

import bson
import structlog

from supervisor.codec import TOLERANT
from supervisor.worker.wire import LENGTH_BYTES, frame, frame_length

log = structlog.get_logger("supervisor.pool.slot")


class SlotChannel:
    """Reads messages until the worker and everything that inherited its end are gone.

    A worker that is killed leaves half a message at worst, and one that sends nonsense is ended; neither can make the
    reader wait for more than end-of-file.
    """

    def __init__(self, on_message: Callable[[dict[str, Any]], None], on_nonsense: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_nonsense = on_nonsense
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def open(self, end: socket.socket) -> None:
        """Start reading from `end`, which belongs to the channel from now on."""
        reader, self._writer = await asyncio.open_connection(sock=end)
        self._reading = asyncio.create_task(self._read(reader), name="slot channel")

    def reply(self, request: dict[str, Any], fields: dict[str, Any]) -> None:
        """Answer `request`; a worker that is gone gets nothing, which is no error."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(frame({"reply": request["request"], **fields}))

    async def drain(self, timeout_s: float) -> None:
        """Take in what a dead worker had still sent, for `timeout_s` seconds at most."""
        if self._reading is not None:
            await asyncio.wait({self._reading}, timeout=timeout_s)

    async def close(self) -> None:
        """Stop reading and close the socket."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                length = frame_length(await reader.readexactly(LENGTH_BYTES))
                self._on_message(bson.decode(await reader.readexactly(length), TOLERANT))
        except (asyncio.IncompleteReadError, OSError):
            return
        except Exception as error:  # noqa: BLE001 - whatever a worker has sent, it is the worker that ends of it
            log.warning("worker.nonsense", reason=f"{type(error).__name__}: {error}"[:500])
            self._on_nonsense()
