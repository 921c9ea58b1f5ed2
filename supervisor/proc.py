"""What the kernel says of a process in /proc. It needs nothing but the standard library, and is quick to load."""

from __future__ import annotations

import os

STARTTIME = 19
"""Position in /proc/PID/stat, counted from the state, which is the first field behind the name (proc(5))."""

_ENDED = ("Z", "X")
_PART_BYTES = 16 * 1024
"""To be read at a time; more than most files have."""


def start_ticks(pid: int | None = None) -> int | None:
    """Return when this process, or the process `pid`, was started, in clock ticks since boot; None if it is gone.

    Together with the id this names a process for good. A time of day would not: it moves when the clock is set.
    """
    fields = stat(os.getpid() if pid is None else pid)
    return int(fields[STARTTIME]) if fields else None


def is_alive(pid: int, ticks: int) -> bool:
    """Tell whether the process `pid` that was started at `ticks` still runs, as far as we may know.

    Of another user's process that /proc hides (its option hidepid, ProtectProc= in a unit) only the id can be seen.
    """
    fields = stat(pid)
    if fields is None:
        return _is_hidden(pid)
    return int(fields[STARTTIME]) == ticks and fields[0] not in _ENDED


def is_zombie_or_gone(pid: int) -> bool:
    """Tell whether there is no such process, or only what is left of one."""
    fields = stat(pid)
    return fields is None or fields[0] in _ENDED


def _is_hidden(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):  # there is none, or can be none
        return False
    return False


def stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the state on; None if the process is gone."""
    try:
        text = read(f"/proc/{pid}/stat")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def read(path: str) -> str:
    """Return what a small file says. Raises OSError.

    With the system calls alone: it is read many times a second, and a file object takes three times as long.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    parts: list[bytes] = []
    try:
        while part := os.read(descriptor, _PART_BYTES):  # of a longer one, the kernel gives a page at a time
            parts.append(part)
    finally:
        os.close(descriptor)
    return b"".join(parts).decode("ascii", errors="replace")


def boot_id() -> str:
    """Return what tells this boot of the machine from every other; empty where the kernel does not say."""
    try:
        return read("/proc/sys/kernel/random/boot_id").strip()
    except OSError:
        return ""
