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

import psutil

from supervisor.proc import is_zombie_or_gone, read, start_ticks, stat

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


def kill_tree(pid: int, started: int | None = None) -> None:
    """SIGKILL the process `pid` and all its descendants; one that is gone already, or 0 for none, is no error.

    With `started` (`start_ticks`), only the process that was started then: its id may be a stranger's by now.
    Everything is stopped before anything is killed, so that no member can start another while we look.
    """
    if not pid:
        return
    try:
        root = psutil.Process(pid)  # it notes when that process was started, and signals no other
    except psutil.Error:
        return
    if started is not None and start_ticks(pid) != started:
        return
    members = _stop_all(root)
    for process in members:
        with contextlib.suppress(psutil.Error):
            process.kill()


def kill_orphans(of: int, except_for: Collection[int]) -> int:
    """SIGKILL the children of the fork server `of` that are no workers of ours, with their trees; return how many."""
    try:
        found = psutil.Process(of).children()
    except psutil.Error:
        return 0
    orphans = [child for child in found if child.pid not in except_for and not is_zombie_or_gone(child.pid)]
    for orphan in orphans:
        kill_tree(orphan.pid)
    return len(orphans)


def kill_descendants() -> None:
    """SIGKILL everything below this process; for a fork server that outlives its supervisor."""
    for child in psutil.Process().children():
        kill_tree(child.pid)


def measure(pid: int) -> TreeUsage | None:
    """Return what the process `pid` and its descendants use; None if it is gone.

    Straight from /proc, in some 0.1 ms: it is asked for several times a second while a job runs.
    """
    cpu_s, pages, root_seen = 0.0, 0, False
    for member in _members(pid):
        fields = stat(member)
        if fields is not None:
            root_seen = root_seen or member == pid
            cpu_s += sum(map(int, fields[_UTIME : _UTIME + 4])) / _TICKS_PER_S
            pages += int(fields[_RSS])
    return TreeUsage(cpu_s, pages * _PAGE / _MB) if root_seen else None


def proportional_mb(pid: int) -> float | None:
    """Return the resident megabytes of the process `pid` and its descendants, each shared page counted in parts.

    The honest figure where processes share a model's memory, but slow: the kernel walks all their pages. None if it
    cannot be read.
    """
    kilobytes = [_pss_kb(member) for member in _members(pid)]
    known = [each for each in kilobytes if each is not None]
    return sum(known) / 1024 if known else None


@dataclass(frozen=True)
class Footprint:
    """What one process holds at a moment."""

    rss_mb: float
    descriptors: int
    threads: int


def footprint(pid: int) -> Footprint | None:
    """Return what the process `pid` holds; None if it is gone, or `pid` is 0."""
    fields = stat(pid) if pid else None
    if fields is None:
        return None
    try:
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - see `read`
    except OSError:
        return None
    return Footprint(int(fields[_RSS]) * _PAGE / _MB, descriptors, int(fields[_THREADS]))


def rss_mb(pid: int) -> float | None:
    """Return the resident memory of one process in megabytes; None if it cannot be read, or `pid` is 0."""
    fields = stat(pid) if pid else None
    return None if fields is None else round(int(fields[_RSS]) * _PAGE / _MB, 1)


_UTIME, _THREADS, _RSS = 11, 17, 21
"""Positions in /proc/PID/stat, counted from the state, which is the first field behind the name (proc(5)).

Behind `utime` come `stime`, `cutime` and `cstime`: what ended children had used counts too.
"""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def _members(pid: int) -> list[int]:
    """The ids of the process `pid` and its descendants, as far as they can be seen."""
    members = [pid]
    for member in members:  # grows meanwhile
        members += children(member)
    return members


def children(pid: int) -> list[int]:
    """Return the ids of the children of the process `pid`; none if it is gone.

    Each thread has children of its own (proc(5), /proc/PID/task/TID/children).
    """
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - see `read`
            with contextlib.suppress(OSError):
                found += map(int, read(f"/proc/{pid}/task/{thread}/children").split())
    return found


def _pss_kb(pid: int) -> int | None:
    try:
        text = read(f"/proc/{pid}/smaps_rollup")
    except OSError:
        return None
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), None)


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
