"""What one attempt costs, measured in the worker."""

from __future__ import annotations

import os
import resource
import time

from supervisor.core.outcome import Usage


class Meter:
    """Measures from its making on: CPU seconds with ended subprocesses, and the peak of resident memory."""

    def __init__(self) -> None:
        self._cpu_before_s = cpu_s()
        self._children_mb = _children_peak_mb()
        self._resettable = _reset_peak()

    def read(self, run_s: float) -> Usage:
        """Return the usage so far, `run_s` seconds after the start."""
        peaks = [self._peak_mb()]
        if (children_mb := _children_peak_mb()) > self._children_mb:  # the kernel keeps only the highest ever
            peaks.append(children_mb)
        return Usage(run_s, cpu_s() - self._cpu_before_s, max(peaks))

    def _peak_mb(self) -> float:
        if self._resettable:
            _, found, rest = _read("/proc/self/status").partition(b"VmHWM:")
            if found:
                return int(rest.split(None, 1)[0]) / 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _reset_peak() -> bool:
    """Reset this process's peak of resident memory (proc(5), clear_refs); tell whether the kernel lets us."""
    try:
        descriptor = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(descriptor, b"5")
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _read(path: str) -> bytes:
    descriptor = os.open(
        path, os.O_RDONLY | os.O_CLOEXEC
    )  # before and after every job, and a Path takes thrice as long
    try:
        return os.read(descriptor, 8192)
    finally:
        os.close(descriptor)


def _children_peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def cpu_s() -> float:
    """Return the CPU seconds of this process so far, with those of its ended children."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime
