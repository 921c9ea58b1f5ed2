"""What a module or a hook has left running in the fork server that its forks would not have, or would fight over.

A fork copies the memory and one thread. Other threads are gone in the copy, together with whatever they were about to
do: a library that waits for one of them waits for ever. A connection would be spoken on by all workers at once, and a
process would belong to none of them.

A lock that is held, a file that is open and what a library remembers of its own process id cannot be seen from outside.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from supervisor.proc import is_zombie_or_gone
from supervisor.process_tree import children

PATIENCE_S = 0.5
"""For threads and processes that are ending just now."""


def left_running() -> str | None:
    """Say what this process has besides its own thread; None if nothing."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := _found()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def _found() -> str | None:
    counts = {
        "running thread": len(_numbers("/proc/self/task")) - 1,
        "running process": sum(not is_zombie_or_gone(child) for child in children(os.getpid())),
        "open TCP connection": sum(map(_is_connected, _numbers("/proc/self/fd"))),
    }
    told = [f"{count} {what}{'' if count == 1 else _plural(what)}" for what, count in counts.items() if count > 0]
    return " and ".join(told) or None


def _plural(what: str) -> str:
    return "es" if what.endswith("s") else "s"


def _numbers(folder: str) -> list[int]:
    return [int(entry.name) for entry in Path(folder).iterdir()]


def _is_connected(descriptor: int) -> bool:
    """Tell whether it is a TCP connection to somebody."""
    try:
        kind = Path(f"/proc/self/fd/{descriptor}").readlink().name
    except OSError:  # closed meanwhile: it was the listing itself
        return False
    if not kind.startswith("socket:"):
        return False
    with socket.socket(fileno=os.dup(descriptor)) as copy:
        if copy.family not in (socket.AF_INET, socket.AF_INET6) or copy.type != socket.SOCK_STREAM:
            return False
        try:
            copy.getpeername()
        except OSError:
            return False
        return True
