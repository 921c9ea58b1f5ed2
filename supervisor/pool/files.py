"""The files of one slot: a folder for files on their way, the output of its workers, and their Python stacks.

Workers can write to all of them, so what is in them is read as bytes of a stranger.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import ctypes
import os
import shutil
import time
import uuid
from pathlib import Path

from supervisor.worker.wire import write_order

_LOOK_EVERY_S = 0.01
_PUNCH_HOLE = 0x03
"""FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE of fallocate(2)."""
_SLACK_BYTES = 4 << 20


_libc = ctypes.CDLL(None, use_errno=True)


class HeldFile:
    """A file that workers append to, held open from before they are there: they may remove or replace the path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        self._freed = 0
        """Bytes at the beginning that stand on no disk any more."""

    def open(self) -> None:
        """Make it anew. Raises OSError."""
        self.close()
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        self._descriptor, self._freed = os.open(self.path, flags, 0o600), 0

    def close(self) -> None:
        """Remove it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self.path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget what it holds."""
        os.ftruncate(self._descriptor, 0)
        self._freed = 0

    @property
    def size(self) -> int:
        """Bytes in it."""
        return os.fstat(self._descriptor).st_size

    def read(self, offset: int, limit: int) -> bytes:
        """Return at most `limit` bytes from `offset` on."""
        return os.pread(self._descriptor, limit, offset)

    def part(self, offset: int, limit: int) -> tuple[str, int]:
        """Return at most `limit` bytes from `offset` on as text, and where to go on.

        A negative offset counts from the end. A character that is not complete yet is left for the next time.
        """
        start = max(0, self.size + offset) if offset < 0 else min(offset, self.size)  # nobody vouches for an offset
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        data = self.read(start, limit)
        text = decoder.decode(data)
        unfinished, _ = decoder.getstate()
        return _storable(text), start + len(data) - len(unfinished)

    def head(self, limit: int) -> str:
        """Return the first `limit` bytes as text."""
        return as_text(self.read(0, limit))

    def between(self, begin: int, end: int) -> str:
        """Return the bytes from `begin` to before `end` as text."""
        return as_text(self.read(begin, end - begin))

    def free_all_but(self, kept: int) -> None:
        """Give the disk back what stands before the last `kept` bytes; offsets into the file stay what they were.

        A job may print for hours. A file system that knows no holes keeps it all until the job ends.
        """
        end = self.size - kept
        if end - self._freed > _SLACK_BYTES:
            _libc.fallocate(self._descriptor, _PUNCH_HOLE, ctypes.c_long(self._freed), ctypes.c_long(end - self._freed))
            self._freed = end

    async def until_written(self, timeout_s: float) -> bool:
        """Wait until something is in it and nothing more is coming; tell whether that happened in time."""
        deadline, before = time.monotonic() + timeout_s, 0
        while time.monotonic() < deadline:  # a file tells nobody that it was written to
            await asyncio.sleep(_LOOK_EVERY_S)
            now = self.size
            if now and now == before:
                return True
            before = now
        return bool(before)


class OrderFile:
    """Where a worker reads which job an order to stop is meant for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def open(self) -> None:
        """Make it anew. Raises OSError."""
        self.close()
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        write_order(self._descriptor, 0)  # now, while it may still fail: no order waits for room on a disk

    def name(self, number: int) -> None:
        """Have the next order be for the job `number`; if that cannot be written, what follows the order still does."""
        with contextlib.suppress(OSError):
            write_order(self._descriptor, number)

    def close(self) -> None:
        """Remove it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self.path.unlink(missing_ok=True)


class SlotFiles:
    """The files of one worker at a time, in the supervisor's workspace; `name` is a slot's, or a spare worker's."""

    def __init__(self, workspace: Path, name: str) -> None:
        self.spool = workspace / name
        self.output = HeldFile(workspace / f"{name}.out")
        self.stacks = HeldFile(workspace / f"{name}.stacks")
        self.live_stacks = HeldFile(workspace / f"{name}.live")
        self.orders = OrderFile(workspace / f"{name}.order")

    def make(self) -> None:
        """Make all of them anew, for a new worker. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.spool)
        self.spool.mkdir(mode=0o700, parents=True)
        for file in (self.output, self.stacks, self.live_stacks, self.orders):
            file.open()

    def remove(self) -> None:
        """Remove all of them."""
        for file in (self.output, self.stacks, self.live_stacks, self.orders):
            file.close()
        shutil.rmtree(self.spool, ignore_errors=True)

    def clear(self) -> None:
        """Forget what earlier attempts have written."""
        self.output.clear()
        self.stacks.clear()

    def keep(self, path: str) -> str:
        """Move a file out of the spool folder, which belongs to the slot's next job soon; return its new path."""
        kept = self.spool.parent / f"result-{uuid.uuid4().hex}.json"
        Path(path).replace(kept)
        return str(kept)


def as_text(data: bytes) -> str:
    """Return what a worker wrote as text that the database can store."""
    return _storable(data.decode("utf-8", "replace"))


def _storable(text: str) -> str:
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
