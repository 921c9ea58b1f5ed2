"""Ending a process with everything it started, also what left its process group or its session.

Every worker is a *child subreaper*: a descendant whose own parent ends becomes the worker's child, so a living worker
is always the root of all it started. The fork server is one too: whatever a worker leaves behind when it dies becomes
a child of the fork server, which has no other children than workers.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import psutil

_PR_SET_CHILD_SUBREAPER = 36
_ROUNDS = 20
_MB = 1024 * 1024


@dataclass(frozen=True)
class TreeUsage:
    """What a process tree has used so far: CPU seconds and resident megabytes, summed."""

    cpu_s: float
    rss_mb: float


def become_subreaper() -> None:
    """Make this process the new parent of descendants whose own parent ends. Raises OSError if the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def kill_tree(pid: int) -> None:
    """SIGKILL the process `pid` and all its descendants; one that is gone already, or 0 for none, is no error.

    Everything is stopped before anything is killed, so that no member can start another while we look.
    """
    if not pid:
        return
    try:
        root = psutil.Process(pid)
    except psutil.Error:
        return
    members = _stop_all(root)
    for process in members:
        with contextlib.suppress(psutil.Error):
            process.kill()


def kill_orphans(of: int, except_for: Collection[int]) -> int:
    """SIGKILL the children of the fork server `of` that are no workers of ours, with their trees; return how many."""
    try:
        children = psutil.Process(of).children()
    except psutil.Error:
        return 0
    orphans = [child for child in children if child.pid not in except_for and not is_zombie_or_gone(child.pid)]
    for orphan in orphans:
        kill_tree(orphan.pid)
    return len(orphans)


def kill_descendants() -> None:
    """SIGKILL everything below this process; for a fork server that outlives its supervisor."""
    for child in psutil.Process().children():
        kill_tree(child.pid)


def measure(pid: int) -> TreeUsage | None:
    """Return what the process `pid` and its descendants use; None if it is gone."""
    try:
        root = psutil.Process(pid)
        members = [root, *root.children(recursive=True)]
    except psutil.Error:
        return None
    cpu_s, rss = 0.0, 0
    for process in members:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            cpu_s += times.user + times.system + times.children_user + times.children_system
            rss += process.memory_info().rss
    return TreeUsage(cpu_s, rss / _MB)


def rss_mb(pid: int) -> float | None:
    """Return the resident memory of one process in megabytes; None if it is gone, or `pid` is 0."""
    try:
        return round(psutil.Process(pid).memory_info().rss / _MB, 1) if pid else None
    except psutil.Error:
        return None


def start_ticks(pid: int | None = None) -> int | None:
    """Return when this process, or the process `pid`, was started, in clock ticks since boot; None if it is gone.

    Together with the id this names a process for good. A time of day would not: it moves when the clock is set.
    """
    fields = _stat(os.getpid() if pid is None else pid)
    return int(fields[_STARTTIME]) if fields else None


def is_alive(pid: int, ticks: int) -> bool:
    """Tell whether the process `pid` that was started at `ticks` still runs."""
    return start_ticks(pid) == ticks and not is_zombie_or_gone(pid)


def is_zombie_or_gone(pid: int) -> bool:
    """Tell whether there is no such process, or only what is left of one."""
    fields = _stat(pid)
    return fields is None or fields[0] in ("Z", "X")


_STARTTIME = 19
"""Position in /proc/PID/stat, counted from the state, which is the first field behind the name (proc(5))."""


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _stop_all(root: psutil.Process) -> list[psutil.Process]:
    stopped: dict[int, psutil.Process] = {}
    for _ in range(_ROUNDS):
        fresh = [process for process in _tree(root) if process.pid not in stopped]
        if not fresh:
            break
        for process in fresh:
            stopped[process.pid] = process
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGSTOP)
    return list(stopped.values())


def _tree(root: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return [root, *root.children(recursive=True)]
    return []
