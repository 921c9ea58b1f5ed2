"""The fork server: the clean process that all workers are forked from.

The supervisor itself is never forked. The fork server is not the one that `multiprocessing` keeps for a whole process,
which an application around us may be using; and what workers inherit is given to it by itself, so that nothing has to
be changed in the environment of the process that we run in.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing import forkserver, resource_tracker, spawn, util
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor import process_tree
from supervisor.pool import lifelines
from supervisor.worker import load_notes, obituaries
from supervisor.worker.load_notes import LoadNotes
from supervisor.worker.preload import PLAN_VARIABLE

if TYPE_CHECKING:
    from supervisor.config.settings import Settings

PRELOADED = "supervisor.worker.preload"
OURS = "SUPERVISOR_"
"""How variables begin that may hold the database's password."""
END_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 10.0
"""For a fork server that has loaded everything to make a process."""


class ForkServer(forkserver.ForkServer):
    """Started when the first worker is, and again when it has died. Its methods may block: call them in a thread.

    `workspace` takes its socket, and the files of multiprocessing in the workers: their own clean-up does not run when
    they are killed. `environ` is all that it inherits. Loading its modules and hooks may take `load_timeout_s`.

    What one has died of while it was loading is left out by the next one: workers load it for themselves.
    """

    def __init__(
        self,
        workspace: Path,
        modules: tuple[str, ...] = (),
        environ: Mapping[str, str] | None = None,
        log: Mapping[str, str] | None = None,
        load_timeout_s: float = 300.0,
    ) -> None:
        super().__init__()
        self.workspace = workspace
        self.modules = modules
        self.load_timeout_s = load_timeout_s
        self._environ = dict(os.environ if environ is None else environ)
        self._log = dict(log or {"level": "info", "format_": "auto"})
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._killed = False
        self._lifeline = -1
        """Closed by the kernel when we die, however; kept open by nobody else, as the requests under way are."""
        self._left_out: dict[str, str] = {}
        self._deferred: set[str] = set()

    @property
    def pid(self) -> int:
        """Its process id; 0 before it has been started."""
        return self._process.pid if self._process else 0

    @property
    def obituaries(self) -> Path:
        """The folder in which it leaves what dead workers had used."""
        return self.workspace / obituaries.FOLDER

    @property
    def notes(self) -> LoadNotes:
        """How far the present one has come with loading."""
        return load_notes.read(self._path("notes"))

    @property
    def answer_timeout_s(self) -> float:
        """How long it may take to make a process."""
        return ANSWER_TIMEOUT_S if self.notes.ready else self.load_timeout_s

    def ensure_running(self) -> None:
        """Start it if it does not run; called for every new process, too."""
        with self._lock:  # type: ignore[attr-defined]
            resource_tracker.ensure_running()
            if self._process is None or self._process.poll() is not None:
                self._learn()
                self._let_go()
                self._start()

    def kill(self) -> None:
        """SIGKILL it: the only way to wake who waits for one that hangs. The next start makes a new one."""
        process = self._process
        with contextlib.suppress(ProcessLookupError):
            if process is not None:
                self._killed = True
                process.send_signal(signal.SIGKILL)

    def end(self) -> None:
        """End it with all workers; it would end by itself when we are gone, unless it hangs."""
        with self._lock:  # type: ignore[attr-defined]
            if self._process is not None:
                process_tree.kill_tree(self._process.pid)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(END_TIMEOUT_S)
            self._let_go()

    def _start(self) -> None:
        self.obituaries.mkdir(mode=0o700, exist_ok=True)
        self._starts, self._killed = self._starts + 1, False
        address = str(self._path("socket"))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            Path(address).chmod(0o600)
            listener.listen()
            # every worker owns a copy of the first one's writing end; when all are closed, the fork server exits
            (alive_r, alive_w), (lifeline, self._lifeline) = os.pipe(), os.pipe()
            lifelines.hold(alive_w)
            lifelines.hold(self._lifeline)
            program = f"main({listener.fileno()}, {alive_r}, {[PRELOADED]!r})"
            try:
                self._process = subprocess.Popen(
                    [*_interpreter(), "-c", f"from multiprocessing.forkserver import main; {program}"],
                    stdin=subprocess.DEVNULL,
                    env={**self._environ, **self._plan(lifeline)},
                    pass_fds=(listener.fileno(), alive_r, lifeline),
                )
            except BaseException:
                lifelines.let_go(alive_w)
                lifelines.let_go(self._lifeline)
                Path(address).unlink(missing_ok=True)
                raise
            finally:
                os.close(alive_r)
                os.close(lifeline)
        self._forkserver_address, self._forkserver_alive_fd = address, alive_w

    def _plan(self, lifeline: int) -> dict[str, str]:
        """Return the variables that tell the fork server what to load."""
        pythonpath = self._environ.get("PYTHONPATH")
        plan = {
            "modules": self.modules,
            "sys_path": [entry or str(Path.cwd()) for entry in sys.path],
            "pythonpath": pythonpath,
            "obituaries": str(self.obituaries),
            "log": self._log,
            "lifeline": lifeline,
            "notes": str(self._path("notes")),
            "left_out": self._left_out,
            "deferred": sorted(self._deferred),
        }
        # it must find this package even where it is not installed (cpython#117378)
        here = str(Path(__file__).resolve().parents[2])
        return {PLAN_VARIABLE: json.dumps(plan), "PYTHONPATH": os.pathsep.join(filter(None, [here, pythonpath]))}

    def _path(self, what: str) -> Path:
        """Return a file of the present one's own."""
        return self.workspace / f"forkserver-{self._starts}.{what}"

    def _learn(self) -> None:
        """See in the notes of one that has died what its successor should leave out."""
        notes = self.notes
        self._left_out |= notes.left_out
        if self._process is not None and notes.at is not None:
            code = self._process.returncode
            self._left_out[notes.at] = _how_it_ended(code, self.load_timeout_s if self._killed else None)
            self._deferred.add(notes.at)

    def _let_go(self) -> None:
        """Close and remove what belongs to one that has died, once: the next may fail to start."""
        if self._process is not None:
            self._process = None
            lifelines.let_go(self._forkserver_alive_fd)
            lifelines.let_go(self._lifeline)
            self._path("socket").unlink(missing_ok=True)
            self._path("notes").unlink(missing_ok=True)


def fork_server(
    settings: Settings, environ: Mapping[str, str], workspace: Path, modules: tuple[str, ...] = ()
) -> ForkServer:
    """Return the fork server that `settings` ask for, not started yet; it imports `modules` besides theirs.

    Variables named `SUPERVISOR_…` are not handed on.
    """
    inherited = {name: value for name, value in environ.items() if not name.startswith(OURS)}
    limits = thread_limits(settings.pool.threads_per_worker, environ)
    log = {"level": settings.log.level, "format_": settings.log.format}
    return ForkServer(
        workspace,
        (*settings.pool.modules, *modules),
        inherited | limits,
        log,
        settings.pool.load_timeout_s,
    )


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


def _how_it_ended(code: int, timeout_s: float | None) -> str:
    if timeout_s is not None:
        return f"the fork server had not loaded it within {timeout_s:g} s (pool.load_timeout_s)"
    how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
    return f"the fork server died while it loaded it ({how})"


def _interpreter() -> list[str]:
    """Return the interpreter that `multiprocessing` uses, with our own options: warnings, optimisation."""
    options = util._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - it has no public name
    return [os.fsdecode(spawn.get_executable()), *options]
