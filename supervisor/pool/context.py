"""The context of our executors: what crosses from a worker to the supervisor is not trusted, and not lost.

`SafeContext` differs from the standard forkserver context in this. The reader of a result queue refuses to unpickle
anything but the executor's own three envelope classes, so that no worker can run code in the supervisor. A worker's
exit code is read once, whoever asks first, and known to be unknown when the fork server could not tell it. Its
processes come from a fork server of our own, and do not import the program that the supervisor runs in.

Every worker imports this module, since its queues were made here: it must stay as cheap as it is.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import threading
from multiprocessing import connection, context, forkserver, popen_forkserver, queues, reduction, util
from typing import TYPE_CHECKING, Any

from supervisor.pool import lifelines

if TYPE_CHECKING:
    from supervisor.pool.forkserver import ForkServer

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

    def __init__(self, process_obj: _Process) -> None:
        self._reading = threading.Lock()
        self.untold = False
        """The fork server ended without a word about this process."""
        super().__init__(process_obj)

    def _launch(self, process_obj: _Process) -> None:
        server = process_obj.server
        assert server is not None, "a worker comes from a fork server"
        process_obj._config["tempdir"] = str(server.workspace)  # type: ignore[attr-defined]  # noqa: SLF001
        what_to_run = self._pickled(process_obj)
        self.sentinel, data_w = server.connect_to_new_process(self._fds)  # type: ignore[attr-defined]
        try:
            parent_w = os.dup(data_w)  # the worker's sentinel of its parent: it closes when we end
        except OSError:  # no descriptor left; the newborn finds nothing to run
            util.close_fds(self.sentinel, data_w)  # type: ignore[attr-defined]
            raise
        lifelines.hold(parent_w)
        self.finalizer = util.Finalize(self, _close, (parent_w, self.sentinel))
        # where nobody reads what to run, the answer is there already
        with contextlib.suppress(BrokenPipeError), os.fdopen(data_w, "wb") as data:
            data.write(what_to_run)
        self.pid = forkserver.read_signed(self.sentinel)
        if self.pid < 0:  # see supervisor.worker.forks
            raise OSError(-self.pid, f"no process can be started: {os.strerror(-self.pid)}")

    def _pickled(self, process_obj: _Process) -> bytes:
        """Return the process as its fork reads it, after what it is to prepare: nothing but its name.

        What `multiprocessing` would have it take over are the main program, an application's perhaps, which every
        worker would import, and its arguments, which may hold a password. The rest it has from the fork server.
        """
        buffer = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump({"name": process_obj.name}, buffer)
            reduction.dump(process_obj, buffer)
        finally:
            context.set_spawning_popen(None)
        return buffer.getvalue()

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Return the exit code, negative for a signal; None while it runs, unless `flag` says to wait."""
        if self.returncode is None and flag != os.WNOHANG:
            connection.wait([self.sentinel])  # outside the lock: it may last
        with self._reading:
            if self.returncode is None and connection.wait([self.sentinel], 0):
                self.untold, self.returncode = _exit_code(self.sentinel)
        return self.returncode


def _close(parent_w: int, sentinel: int) -> None:
    lifelines.let_go(parent_w)
    os.close(sentinel)


def _exit_code(sentinel: int) -> tuple[bool, int]:
    """Read (whether nobody told, exit code) from the pipe that the fork server writes it to."""
    try:
        return False, forkserver.read_signed(sentinel)
    except (OSError, EOFError):
        return True, 255  # not None, which would mean that the process runs


class _Process(context.ForkServerProcess):
    server: ForkServer | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the fork server here: it is the supervisor's."""
        return {name: value for name, value in self.__dict__.items() if name != "server"}

    @staticmethod
    def _Popen(process_obj: Any) -> _Popen:  # noqa: N802 - the name that multiprocessing gives it
        return _Popen(process_obj)


class SafeContext(context.ForkServerContext):
    """The forkserver context with a result queue that does not trust its workers, and reliable exit codes."""

    def __init__(self, server: ForkServer) -> None:
        super().__init__()
        self._server = server

    def Process(self, *args: Any, **options: Any) -> _Process:  # type: ignore[override]  # noqa: N802 - as below
        made = _Process(*args, **options)
        made.server = self._server
        return made

    def SimpleQueue(self) -> Any:  # noqa: N802 - the name that multiprocessing gives it
        return _ResultQueue(ctx=self.get_context())
