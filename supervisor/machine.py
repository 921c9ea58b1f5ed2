"""The machine around us: how busy it is, and whether its kernel has killed somebody because memory ran out."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from supervisor.config.cores import usable_cores

CGROUP_ROOT = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
VMSTAT = Path("/proc/vmstat")
CORES_FOR_S = 15
"""For how long the number of cores is taken for known: it takes as long to find out as all else together."""


def look_around() -> dict[str, Any]:
    """Return how busy the machine is: `{load_1m, cores, memory_available_mb}`; of the cores, those that may be used."""
    cores = _cores(int(time.monotonic() / CORES_FOR_S))
    return {"load_1m": load_1m(), "cores": cores, "memory_available_mb": memory_available_mb()}


@functools.lru_cache(maxsize=1)
def _cores(_period: int) -> int:
    return usable_cores()


def load_1m() -> float:
    """Return the processes that ran or wanted to, on average over the last minute."""
    return round(os.getloadavg()[0], 2)


def memory_available_mb() -> int | None:
    """Return how much memory could be had without swapping, in megabytes; None if the kernel does not say."""
    kilobytes = _count(Path("/proc/meminfo"), "MemAvailable:")
    return None if kilobytes is None else kilobytes // 1024


def oom_kills() -> int | None:
    """Return how many processes the kernel has killed for lack of memory so far: in our cgroup if it keeps count.

    The count of the whole machine, which is the next best, tells of other containers' trouble too.
    """
    counts = (_count(file, "oom_kill") for file in (*_cgroup_files(), VMSTAT))
    return next((count for count in counts if count is not None), None)


class OomWatch:
    """Tells whether a death by SIGKILL was the kernel's doing: its count has grown since the last look."""

    def __init__(self) -> None:
        self._known = oom_kills()

    def look(self) -> None:
        """Take the present count for known; whatever died of it did so earlier."""
        self._known = oom_kills()

    def claim_one(self) -> bool | None:
        """Tell whether there was a kill that no other death has claimed; None if the kernel keeps no count."""
        now = oom_kills()
        if now is None or self._known is None:
            return None
        if now > self._known:
            self._known += 1
            return True
        return False


def _cgroup_files() -> Iterator[Path]:
    """The files that count the kills in our cgroup, for both versions of cgroups."""
    with contextlib.suppress(OSError):
        for line in OWN_CGROUP.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                yield CGROUP_ROOT / path.lstrip("/") / "memory.events"
            elif "memory" in controllers.split(","):
                yield CGROUP_ROOT / "memory" / path.lstrip("/") / "memory.oom_control"


def _count(file: Path, name: str) -> int | None:
    """Return the number behind `name` in a file of lines `name number`."""
    try:
        lines = file.read_text(encoding="ascii", errors="replace").splitlines()
        return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), None)
    except (OSError, ValueError, IndexError):
        return None
