"""A network between a supervisor and its mongod that can be slow, lossy or dead: a TCP proxy on loopback.

It reads the frames of MongoDB's protocol only as far as to know which command a reply belongs to.
"""

import asyncio
import random
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.until import until

HEADER = struct.Struct("<iiii")  # length, request id, id of the request that it answers, opcode
BEFORE_NAME = 16 + 4 + 1 + 4 + 1  # header, flags, kind of section, length of the document, type of its first element
POLL_S = 0.01


@dataclass
class Proxy:
    """All that it does to the traffic can be changed while it runs."""

    target_port: int
    latency_s: float = 0.0
    """By how long each reply is delayed."""
    resets: float = 0.0
    """The share of replies instead of which the connection is reset."""
    black_hole: bool = False
    """Nothing passes, in either direction, and no connection breaks; what was sent arrives when it is over."""
    drop: str | None = None
    """Replies to this command, "update jobs", are executed and lost with their connection."""
    dropped: int = 0
    port: int = 0
    _random: random.Random = field(default_factory=lambda: random.Random(20))

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    async def serve(self, over: asyncio.Event) -> None:
        """Pass traffic until it is over, and close every connection."""
        connections: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.add(asyncio.create_task(self._connect(reader, writer)))

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        await over.wait()
        server.close()
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await asyncio.sleep(POLL_S)  # the loop closes them in its next round

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked: dict[int, str] = {}
        ends = [writer]
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
            ends.append(there_writer)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._requests(reader, there_writer, asked))
                ways.create_task(self._replies(there_reader, writer, asked))
        except* ConnectionError:
            pass  # one side has hung up, or was made to
        finally:
            for end in ends:
                end.transport.abort()

    async def _requests(self, reader: asyncio.StreamReader, there: asyncio.StreamWriter, asked: dict[int, str]) -> None:
        while True:
            frame = await _frame(reader)
            await self._passable()
            asked[HEADER.unpack_from(frame)[1]] = _command(frame)
            there.write(frame)
            await there.drain()

    async def _replies(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: dict[int, str]) -> None:
        while True:
            frame = await _frame(there)
            await self._passable()
            await asyncio.sleep(self.latency_s)
            if self.drop == asked.pop(HEADER.unpack_from(frame)[2], ""):
                self.dropped += 1
                raise ConnectionResetError
            if self._random.random() < self.resets:
                raise ConnectionResetError
            writer.write(frame)
            await writer.drain()

    async def _passable(self) -> None:
        while self.black_hole:  # noqa: ASYNC110 - it is set by another thread
            await asyncio.sleep(POLL_S)


@contextmanager
def proxy_to(target_port: int) -> Iterator[Proxy]:
    """Run a proxy in a thread of its own."""
    proxy, over = Proxy(target_port), asyncio.Event()
    loop = asyncio.new_event_loop()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(proxy.serve(over))

    thread = threading.Thread(target=run, name="proxy")
    thread.start()
    try:
        until(lambda: proxy.port, what="the proxy to listen")
        yield proxy
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)


async def _frame(reader: asyncio.StreamReader) -> bytes:
    """Return the next frame; raises ConnectionError at the end."""
    try:
        head = await reader.readexactly(HEADER.size)
        return head + await reader.readexactly(HEADER.unpack(head)[0] - HEADER.size)
    except asyncio.IncompleteReadError:
        raise ConnectionResetError from None


def _command(frame: bytes) -> str:
    """Return the name of the command and, where that is its value, of its collection: `update jobs`."""
    name, _, rest = frame[BEFORE_NAME:].partition(b"\0")
    is_text = frame[BEFORE_NAME - 1] == 2
    value = rest[4 : 4 + int.from_bytes(rest[:4], "little") - 1] if is_text else b""
    return f"{name.decode('latin-1')} {value.decode('latin-1')}".strip()
