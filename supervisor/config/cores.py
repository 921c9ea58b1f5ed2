"""How many cores this process may really use: what `workers = "auto"` stands for.

The smaller of two bounds: the CPUs the scheduler may place us on (affinity, cpusets) and the CPU time a container may
spend (cgroup quota, v2 `cpu.max` or v1 `cpu.cfs_quota_us`). A quota of 1.5 cores counts as 2: one worker more than
the quota waits a little, one fewer wastes a third of it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

CGROUP_ROOT = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")

_Reader = Callable[[Path], float | None]


def usable_cores(*, affinity: int | None = None, cgroup_root: Path = CGROUP_ROOT, own_cgroup: Path = OWN_CGROUP) -> int:
    """Return the number of cores this process may use, at least 1.

    `affinity` is the number of CPUs it may run on (None: ask the kernel). A quota that cannot be read does not bound.
    """
    cores = len(os.sched_getaffinity(0)) if affinity is None else affinity
    quota = cgroup_quota(cgroup_root, own_cgroup)
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def cgroup_quota(cgroup_root: Path, own_cgroup: Path) -> float | None:
    """Return the smallest quota, in cores, of our cgroup and those above it; None when there is none."""
    quotas = [
        quota
        for base, path, read in _hierarchies(cgroup_root, own_cgroup)
        for directory in _upwards(base, path)
        if (quota := read(directory)) is not None
    ]
    return min(quotas, default=None)


def _hierarchies(cgroup_root: Path, own_cgroup: Path) -> Iterator[tuple[Path, str, _Reader]]:
    """Where our cgroup is mounted; lines are `0::/path` (v2) or `4:cpu,cpuacct:/path` (v1)."""
    for line in (_read(own_cgroup) or "").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            yield cgroup_root, path, _quota_v2
            yield cgroup_root / "unified", path, _quota_v2  # where both versions are mounted
        elif "cpu" in controllers.split(","):
            yield cgroup_root / controllers, path, _quota_v1
            yield cgroup_root / "cpu", path, _quota_v1


def _upwards(base: Path, path: str) -> Iterator[Path]:
    """The directory of our cgroup and all above it.

    In a container the path may name directories of the host that are not mounted here; those have no file to read, and
    the root then is our own cgroup.
    """
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
    for length in range(len(parts), -1, -1):
        yield base.joinpath(*parts[:length])


def _quota_v2(directory: Path) -> float | None:
    """`cpu.max` is "QUOTA PERIOD" in microseconds, or "max PERIOD"."""
    quota, period = [*(_read(directory / "cpu.max") or "").split(), "", ""][:2]
    return _ratio(quota, period)


def _quota_v1(directory: Path) -> float | None:
    """The quota is -1 where there is none."""
    return _ratio(_read(directory / "cpu.cfs_quota_us") or "", _read(directory / "cpu.cfs_period_us") or "")


def _ratio(quota: str, period: str) -> float | None:
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:  # not mounted, or another version of cgroups
        return None
