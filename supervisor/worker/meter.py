"""What one attempt costs, measured in the worker; in few system calls, since it is done around every job."""

from __future__ import annotations

import os
import resource

from supervisor.core.outcome import Usage


class Meter:
    """Measures from its making on: CPU seconds with ended subprocesses, and the peak of resident memory."""

    def __init__(self) -> None:
        self._before = _Reading()
        _reset_peak()

    def read(self, run_s: float) -> Usage:
        """Return the usage so far, `run_s` seconds after the start."""
        now = _Reading()
        peak_mb = now.peak_mb
        if now.children_mb > self._before.children_mb:  # the kernel keeps only the highest ever
            peak_mb = max(peak_mb, now.children_mb)
        return Usage(run_s, now.cpu_s - self._before.cpu_s, peak_mb)


class _Reading:
    """The account that the kernel keeps: CPU seconds so far, and the peaks of resident memory in megabytes.

    A worker is forked and runs no other program, so its own peak follows `_reset_peak`.
    """

    def __init__(self) -> None:
        own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        self.cpu_s = own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime
        self.peak_mb = own.ru_maxrss / 1024
        self.children_mb = ended.ru_maxrss / 1024


def _reset_peak() -> None:
    """Reset this process's peak of resident memory (proc(5), clear_refs); where we may not, it is that of its life."""
    try:
        descriptor = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(descriptor, b"5")
    except OSError:
        return
    finally:
        os.close(descriptor)


def cpu_s() -> float:
    """Return the CPU seconds of this process so far, with those of its ended children."""
    return _Reading().cpu_s
