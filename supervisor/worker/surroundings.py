"""What a job must not leave behind for the next one in the same process.

Handlers, and libraries more often than they, change the working directory, the environment, the umask, signal
handlers, timers, limits, even the standard streams. All that can be put back is put back after every job; where
something cannot, the worker is worn and a fresh one takes over.
"""

from __future__ import annotations

# what `signal` wraps: to make enums of all signals after every job takes longer than all the rest
import _signal  # type: ignore[import-not-found]
import contextlib
import fcntl
import os
import resource
import signal
import sys
from typing import Any, TextIO

_SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
_STREAMS = (0, 1, 2)


class Surroundings:
    """How this process was before its first job; `restore` makes it so again."""

    def __init__(self) -> None:
        self._directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._place = _identity(self._directory)
        self._environ = dict(os.environ)
        self._environ_data = dict(_environ_data())
        self._umask = _umask()
        self._handlers = list(map(_signal.getsignal, _SIGNALS))
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        self._limits = list(map(resource.getrlimit, _LIMITS))
        self._copies = {stream: _far_copy(stream) for stream in _STREAMS}
        self._streams = {stream: _identity(stream) for stream in _STREAMS}
        self._stdout, self._stderr = sys.stdout, sys.stderr

    def restore(self) -> str | None:
        """Put back what can be put back; return what could not, in words, None if all is well."""
        self._restore_streams()
        self._restore_signals()
        os.umask(self._umask)
        if _environ_data() != self._environ_data:
            os.environ.clear()
            os.environ.update(self._environ)
        if _identity_of_directory() != self._place:
            os.fchdir(self._directory)
        return self._restore_limits()

    def _restore_streams(self) -> None:
        for stream, copy in self._copies.items():
            if _identity(stream) != self._streams[stream]:
                os.dup2(copy, stream)
        if self._stdout.closed:
            self._stdout = text_stream(1)
        if self._stderr.closed:
            self._stderr = text_stream(2)
        sys.stdout, sys.stderr = self._stdout, self._stderr

    def _restore_signals(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)  # an alarm that the job forgot would end the next one
        if list(map(_signal.getsignal, _SIGNALS)) != self._handlers:
            for number, handler in zip(_SIGNALS, self._handlers, strict=True):
                if _signal.getsignal(number) != handler and handler is not None:
                    signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _restore_limits(self) -> str | None:
        if list(map(resource.getrlimit, _LIMITS)) == self._limits:
            return None
        for limit, wanted in zip(_LIMITS, self._limits, strict=True):
            if resource.getrlimit(limit) != wanted:
                try:
                    resource.setrlimit(limit, wanted)
                except (OSError, ValueError):
                    return f"a job has lowered a resource limit for good: {_name(limit)}"
        return None


def _environ_data() -> dict[bytes, bytes]:
    """Return the environment as os.environ keeps it: to compare that takes a tenth of the time."""
    data: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]  # noqa: SLF001 - see above
    return data


def _identity(descriptor: int) -> tuple[int, int] | None:
    """What a descriptor stands for; None if it is closed."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _identity_of_directory() -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        status = os.stat(".")  # noqa: PTH116 - by name, without the spelling out that a Path does
        return status.st_dev, status.st_ino
    return None


def _umask() -> int:
    """Return the umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _far_copy(stream: int) -> int:
    """Copy a stream's descriptor to a number that a job which closes low ones does not meet."""
    return fcntl.fcntl(stream, fcntl.F_DUPFD_CLOEXEC, 64)


def text_stream(stream: int) -> TextIO:
    """Return a text stream over the descriptor 1 or 2, which it never closes."""
    return open(stream, "w", encoding="utf-8", errors="replace", closefd=False, buffering=1)


def _name(limit: Any) -> str:
    return next((name for name in dir(resource) if name.startswith("RLIMIT_") and getattr(resource, name) == limit), "")
