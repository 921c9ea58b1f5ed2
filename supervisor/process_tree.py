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


def kill_tree(pid: int, created_at: float | None = None) -> None:
    """SIGKILL the process `pid` and all its descendants; one that is gone already is no error.

    With `created_at` (seconds since the epoch) nothing is done to another process that got the same id since.
    Everything is stopped before anything is killed, so that no member can start another while we look.
    """
    try:
        root = psutil.Process(pid)
        if created_at is not None and not _is_same(root, created_at):
            return
    except psutil.NoSuchProcess:
        return
    members = _stop_all(root)
    for process in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def kill_orphans(of: int, except_for: Collection[int]) -> int:
    """SIGKILL the children of the fork server `of` that are no workers of ours, with their trees; return how many."""
    try:
        children = psutil.Process(of).children()
    except psutil.NoSuchProcess:
        return 0
    orphans = [child for child in children if child.pid not in except_for and not _is_zombie(child)]
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
    except psutil.NoSuchProcess:
        return None
    cpu_s, rss = 0.0, 0
    for process in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            cpu_s += times.user + times.system + times.children_user + times.children_system
            rss += process.memory_info().rss
    return TreeUsage(cpu_s, rss / _MB)


def rss_mb(pid: int) -> float | None:
    """Return the resident memory of one process in megabytes; None if it is gone, or `pid` is 0."""
    try:
        return round(psutil.Process(pid).memory_info().rss / _MB, 1) if pid else None
    except psutil.NoSuchProcess:
        return None


def is_alive(pid: int, created_at: float) -> bool:
    """Tell whether the process `pid` that was created at `created_at` (seconds since the epoch) still runs."""
    try:
        process = psutil.Process(pid)
        return _is_same(process, created_at) and not _is_zombie(process)
    except psutil.NoSuchProcess:
        return False


def created_at(pid: int | None = None) -> float:
    """Return when this process, or the process `pid`, was created, in seconds since the epoch."""
    return psutil.Process(os.getpid() if pid is None else pid).create_time()


def _is_same(process: psutil.Process, created_at: float) -> bool:
    # the creation time has the kernel's tick as resolution; a process with a recycled id is far younger
    return abs(process.create_time() - created_at) < 1


def _stop_all(root: psutil.Process) -> list[psutil.Process]:
    stopped: dict[int, psutil.Process] = {}
    for _ in range(_ROUNDS):
        fresh = [process for process in _tree(root) if process.pid not in stopped]
        if not fresh:
            break
        for process in fresh:
            stopped[process.pid] = process
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)
    return list(stopped.values())


def _tree(root: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [root, *root.children(recursive=True)]
    return []


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
