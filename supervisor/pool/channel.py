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


class SlotChannel(asyncio.Protocol):
    """Takes in messages until the worker and everything that inherited its end are gone.

    A worker that is killed leaves half a message at worst, and one that sends nonsense is ended; neither can make
    anybody wait for more than end-of-file. Messages are handed on as they come, not through a task that reads: that
    would cost as much again as all else that is done with one.
    """

    def __init__(self, on_message: Callable[[dict[str, Any]], None], on_nonsense: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_nonsense = on_nonsense
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._over = asyncio.Event()
        """Nothing more comes, or nothing more is taken in."""
        self._closed = asyncio.Event()

    async def open(self, end: socket.socket) -> None:
        """Start reading from `end`, which belongs to the channel from now on."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_connection(lambda: self, sock=end)

    def reply(self, request: dict[str, Any], fields: dict[str, Any]) -> None:
        """Answer `request`; a worker that is gone gets nothing, which is no error."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame({"reply": request["request"], **fields}))

    async def drain(self, timeout_s: float) -> None:
        """Take in what a dead worker had still sent, for `timeout_s` seconds at most."""
        if self._transport is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._over.wait()

    async def close(self) -> None:
        """Stop reading and close the socket."""
        self._over.set()
        if self._transport is not None:
            self._transport.abort()
            await self._closed.wait()

    def data_received(self, data: bytes) -> None:
        """Hand on the messages that are complete."""
        if self._over.is_set():
            return
        self._received += data
        try:
            while len(self._received) >= LENGTH_BYTES:
                end = LENGTH_BYTES + frame_length(bytes(self._received[:LENGTH_BYTES]))
                if len(self._received) < end or self._over.is_set():
                    return
                message = bytes(self._received[LENGTH_BYTES:end])
                del self._received[:end]
                self._on_message(bson.decode(message, TOLERANT))
        except Exception as error:  # noqa: BLE001 - whatever a worker has sent, it is the worker that ends of it
            self._over.set()
            log.warning("worker.nonsense", reason=f"{type(error).__name__}: {error}"[:500])
            self._on_nonsense()

    def eof_received(self) -> bool:
        """Keep the other direction: what ends the channel is `close`."""
        self._over.set()
        return True

    def connection_lost(self, _exc: Exception | None) -> None:
        """Note that the socket is closed."""
        self._over.set()
        self._closed.set()
