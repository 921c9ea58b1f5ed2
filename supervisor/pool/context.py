"""The context of our executors: what crosses from a worker to the supervisor is not trusted, and not lost.

`SafeContext` differs from the standard forkserver context in two things. The reader of a result queue refuses to
unpickle anything but the executor's own three envelope classes, so that no worker can run code in the supervisor. And
a worker's exit code is read once, whoever asks first, and known to be unknown when the fork server could not tell it.

Every worker imports this module, since its queues were made here: it must stay as cheap as it is.
"""

from __future__ import annotations

import io
import os
import pickle
import threading
from multiprocessing import connection, context, forkserver, popen_forkserver, process, queues, reduction
from typing import Any

MAX_MESSAGE_BYTES = 1 << 20
"""An outcome is at most 16 KiB; whatever is larger than this was not written by our code."""

_ENVELOPES = {
    ("concurrent.futures.process", "_ResultItem"),
    ("concurrent.futures.process", "_ExceptionWithTraceback"),
    ("concurrent.futures.process", "_rebuild_exc"),
}


class _EnvelopeUnpickler(pickle._Unpickler):  # noqa: SLF001
    """Knows three classes of concurrent.futures and nothing else.

    The one written in Python: the memo of the C one grows to whatever index a message names, at 8 bytes each.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ENVELOPES:
            raise pickle.UnpicklingError(f"a worker sent {module}.{name}, which is not allowed")
        return super().find_class(module, name)


class _ResultReader(connection.Connection):
    """The supervisor's end of a result queue."""

    def recv(self) -> Any:
        message = self.recv_bytes(MAX_MESSAGE_BYTES)
        return _EnvelopeUnpickler(io.BytesIO(message)).load()


class _ResultQueue(queues.SimpleQueue):  # type: ignore[type-arg]
    def __init__(self, *, ctx: Any) -> None:
        super().__init__(ctx=ctx)
        plain = self._reader  # type: ignore[has-type]
        self._reader = _ResultReader(os.dup(plain.fileno()), writable=False)
        plain.close()
        self._poll = self._reader.poll


reduction.register(_ResultReader, connection.reduce_connection)  # type: ignore[attr-defined]


class _Popen(popen_forkserver.Popen):
    """A worker as multiprocessing sees it; its exit code comes through a pipe from the fork server.

    The original lets two threads read that pipe at once: every start of a process polls all others, while the thread
    of an executor joins its own. The second to read finds the pipe at its end, and overwrites the exit code with 255.
    """

    def __init__(self, process_obj: process.BaseProcess) -> None:
        self._reading = threading.Lock()
        self.untold = False
        """The fork server ended without a word about this process."""
        super().__init__(process_obj)

    def _launch(self, process_obj: process.BaseProcess) -> None:
        try:
            super()._launch(process_obj)  # type: ignore[misc]
        except BrokenPipeError:  # nobody reads what to run: the answer is there already
            self.pid = forkserver.read_signed(self.sentinel)
        if self.pid < 0:  # see supervisor.worker.forks
            raise OSError(-self.pid, f"no process can be started: {os.strerror(-self.pid)}")

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Return the exit code, negative for a signal; None while it runs, unless `flag` says to wait."""
        if self.returncode is None and flag != os.WNOHANG:
            connection.wait([self.sentinel])  # outside the lock: it may last
        with self._reading:
            if self.returncode is None and connection.wait([self.sentinel], 0):
                self.untold, self.returncode = _exit_code(self.sentinel)
        return self.returncode


def _exit_code(sentinel: int) -> tuple[bool, int]:
    """Read (whether nobody told, exit code) from the pipe that the fork server writes it to."""
    try:
        return False, forkserver.read_signed(sentinel)
    except (OSError, EOFError):
        return True, 255  # not None, which would mean that the process runs


class _Process(context.ForkServerProcess):
    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> _Popen:  # noqa: N802 - the name that multiprocessing gives it
        return _Popen(process_obj)


class SafeContext(context.ForkServerContext):
    """The forkserver context with a result queue that does not trust its workers, and reliable exit codes."""

    Process = _Process

    def SimpleQueue(self) -> Any:  # noqa: N802 - the name that multiprocessing gives it
        return _ResultQueue(ctx=self.get_context())
