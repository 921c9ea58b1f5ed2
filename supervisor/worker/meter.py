"""What one attempt costs, measured in the worker."""

from __future__ import annotations

import resource
import time
from pathlib import Path

from supervisor.core.outcome import Usage


class Meter:
    """Measures from its making on: CPU seconds with ended subprocesses, and the peak of resident memory."""

    def __init__(self) -> None:
        self.cpu_before_s = _cpu_s()
        """What the process had used before, in seconds."""
        self._children_mb = _children_peak_mb()
        self._resettable = _reset_peak()

    def read(self, run_s: float) -> Usage:
        """Return the usage so far, `run_s` seconds after the start."""
        peaks = [self._peak_mb()]
        if (children_mb := _children_peak_mb()) > self._children_mb:  # the kernel keeps only the highest ever
            peaks.append(children_mb)
        return Usage(run_s, _cpu_s() - self.cpu_before_s, max(peaks))

    def _peak_mb(self) -> float:
        if self._resettable:
            for line in Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _reset_peak() -> bool:
    """Reset this process's peak of resident memory (proc(5), clear_refs); tell whether the kernel lets us."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _children_peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def _cpu_s() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime
