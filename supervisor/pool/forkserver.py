"""The fork server: the clean process that all workers are forked from, and the context their executors use.

The supervisor itself is never forked. Its environment variables that may hold secrets are not handed on.

`SafeContext` differs from the standard forkserver context in two things. The reader of a result queue refuses to
unpickle anything but the executor's own three envelope classes, so that no worker can run code in the supervisor. And
a worker's exit code is read once, whoever asks first, and known to be unknown when the fork server could not tell it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import signal
import sys
import threading
from collections.abc import Mapping
from multiprocessing import connection, context, forkserver, popen_forkserver, process, queues, reduction
from pathlib import Path
from typing import Any

from supervisor.config.settings import Settings
from supervisor.worker import obituaries
from supervisor.worker.preload import PLAN_VARIABLE

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
        super()._launch(process_obj)  # type: ignore[misc]
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


def prepare(settings: Settings, environ: Mapping[str, str], workspace: Path) -> None:
    """Set this process up for what the fork server and the workers shall inherit. Call once, at start.

    `workspace` takes multiprocessing's own files too: its clean-up does not run when we leave by os._exit or SIGKILL.

    `environ` is the environment the supervisor was started with. Variables named `SUPERVISOR_…` are taken out: they
    may hold the database's password.
    """
    for name in [name for name in os.environ if name.startswith("SUPERVISOR_")]:
        del os.environ[name]
    os.environ.update(thread_limits(settings.pool.threads_per_worker, environ))
    plan = {
        "modules": settings.pool.modules,
        "sys_path": _absolute_path(),
        "pythonpath": environ.get("PYTHONPATH"),
        "obituaries": str(make_obituaries(workspace)),
        "log": {"level": settings.log.level, "format_": settings.log.format},
    }
    os.environ[PLAN_VARIABLE] = json.dumps(plan)
    # the fork server must find this package even where it is not installed (cpython#117378)
    here = str(Path(__file__).resolve().parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, environ.get("PYTHONPATH")]))
    process.current_process()._config["tempdir"] = str(workspace)  # type: ignore[attr-defined]  # noqa: SLF001
    forkserver.set_forkserver_preload(["supervisor.worker.preload"])


def make_obituaries(workspace: Path) -> Path:
    """Return the folder in which the fork server leaves what dead workers had used; make it if need be."""
    folder = workspace / obituaries.FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def thread_limits(threads: int, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that keep numeric libraries to `threads` threads; what the user set himself stays.

    Without them each of N workers starts as many threads as the machine has cores.
    """
    names = (
        "OMP_NUM_THREADS",
        "OMP_THREAD_LIMIT",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "OPENCV_FOR_THREADS_NUM",
    )
    limits = dict.fromkeys(names, str(threads)) | {"TOKENIZERS_PARALLELISM": "false", "ORT_DISABLE_TELEMETRY": "1"}
    return {name: value for name, value in limits.items() if name not in environ}


def kill() -> None:
    """SIGKILL the fork server: the only way to wake who waits for one that hangs. The next start makes a new one."""
    with contextlib.suppress(ProcessLookupError):
        if pid := process_id():
            os.kill(pid, signal.SIGKILL)


def ensure_running() -> int:
    """Start the fork server if it does not run, and return its process id. Blocks; call it in a thread."""
    forkserver.ensure_running()
    return process_id()


def process_id() -> int:
    """Return the fork server's process id; 0 before it has been started."""
    return int(forkserver._forkserver._forkserver_pid or 0)  # type: ignore[attr-defined]  # noqa: SLF001 - no public name


def _absolute_path() -> list[str]:
    """`sys.path` with the empty entry, which means the current folder, spelled out."""
    return [entry or str(Path.cwd()) for entry in sys.path]
