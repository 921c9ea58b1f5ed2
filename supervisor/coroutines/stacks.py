"""Where a coroutine is: the calls that it is waiting in, as faulthandler writes those of a process."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

MOST_CALLS = 100
_LOOPS = ("asyncio.", "selectors", "uvloop")


def of_coroutine(coroutine: Any, task: asyncio.Task[Any] | None) -> str:
    """Return the calls of a coroutine that waits, the latest first, and those of a task that it waits for."""
    calls = list(_waiting_in(coroutine))
    waits_for = getattr(task, "_fut_waiter", None)
    if isinstance(waits_for, asyncio.Task):
        calls += _waiting_in(waits_for.get_coro())
    return _text("Coroutine", calls[::-1])


def of_thread(thread_id: int) -> tuple[list[FrameType], str]:
    """Return the frames of a thread that runs, the latest first, and the text of those that the event loop called."""
    frame, frames = sys._current_frames().get(thread_id), []  # noqa: SLF001 - the documented way, in spite of its name
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    called = itertools.takewhile(lambda each: not is_of_the_loop(each), frames)
    return frames, _text("Event loop", [(each.f_code, each.f_lineno) for each in called])


def is_of_the_loop(frame: FrameType) -> bool:
    """Tell whether a frame is the event loop's own."""
    return module_of(frame).startswith(_LOOPS)


def module_of(frame: FrameType) -> str:
    """Return the name of the module that a frame runs in."""
    return str(frame.f_globals.get("__name__", ""))


def place(frame: FrameType) -> str:
    """Return where a frame is, in one line."""
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def _waiting_in(awaited: Any) -> Iterator[tuple[CodeType, int]]:
    """Follow what awaits what, from the outermost call on."""
    for _ in range(MOST_CALLS):
        for prefix, inner in (("cr", "cr_await"), ("ag", "ag_await"), ("gi", "gi_yieldfrom")):
            frame = getattr(awaited, f"{prefix}_frame", None)
            if frame is not None:
                yield frame.f_code, frame.f_lineno
                awaited = getattr(awaited, inner)
                break
        else:
            return


def _text(whose: str, calls: list[tuple[CodeType, int]]) -> str:
    lines = [f'  File "{code.co_filename}", line {line} in {code.co_name}' for code, line in calls[:MOST_CALLS]]
    return "\n".join([f"{whose} (most recent call first):", *lines])
