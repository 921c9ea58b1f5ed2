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
from supervisor.worker import obituaries
from supervisor.worker.preload import PLAN_VARIABLE

if TYPE_CHECKING:
    from supervisor.config.settings import Settings

PRELOADED = "supervisor.worker.preload"
OURS = "SUPERVISOR_"
"""How variables begin that may hold the database's password."""
END_TIMEOUT_S = 5.0


class ForkServer(forkserver.ForkServer):
    """Started when the first worker is, and again when it has died. Its methods may block: call them in a thread.

    `workspace` takes its socket, and the files of multiprocessing in the workers: their own clean-up does not run when
    they are killed. `environ` is all that it inherits.
    """

    def __init__(
        self,
        workspace: Path,
        modules: tuple[str, ...] = (),
        environ: Mapping[str, str] | None = None,
        log: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.workspace = workspace
        self.modules = modules
        self._environ = dict(os.environ if environ is None else environ)
        self._log = dict(log or {"level": "info", "format_": "auto"})
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0

    @property
    def pid(self) -> int:
        """Its process id; 0 before it has been started."""
        return self._process.pid if self._process else 0

    @property
    def obituaries(self) -> Path:
        """The folder in which it leaves what dead workers had used."""
        return self.workspace / obituaries.FOLDER

    def ensure_running(self) -> None:
        """Start it if it does not run; called for every new process, too."""
        with self._lock:  # type: ignore[attr-defined]
            resource_tracker.ensure_running()
            if self._process is None or self._process.poll() is not None:
                self._let_go()
                self._start()

    def kill(self) -> None:
        """SIGKILL it: the only way to wake who waits for one that hangs. The next start makes a new one."""
        process = self._process
        with contextlib.suppress(ProcessLookupError):
            if process is not None:
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
        self._starts += 1
        address = str(self.workspace / f"forkserver-{self._starts}")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            Path(address).chmod(0o600)
            listener.listen()
            # every worker owns a copy of its writing end; when all are closed, the fork server exits
            alive_r, alive_w = os.pipe()
            lifelines.hold(alive_w)
            program = f"main({listener.fileno()}, {alive_r}, {[PRELOADED]!r})"
            try:
                self._process = subprocess.Popen(
                    [*_interpreter(), "-c", f"from multiprocessing.forkserver import main; {program}"],
                    stdin=subprocess.DEVNULL,
                    env={**self._environ, **self._plan()},
                    pass_fds=(listener.fileno(), alive_r),
                )
            except BaseException:
                lifelines.let_go(alive_w)
                Path(address).unlink(missing_ok=True)
                raise
            finally:
                os.close(alive_r)
        self._forkserver_address, self._forkserver_alive_fd = address, alive_w

    def _plan(self) -> dict[str, str]:
        """Return the variables that tell the fork server what to load."""
        pythonpath = self._environ.get("PYTHONPATH")
        plan = {
            "modules": self.modules,
            "sys_path": [entry or str(Path.cwd()) for entry in sys.path],
            "pythonpath": pythonpath,
            "obituaries": str(self.obituaries),
            "log": self._log,
        }
        # it must find this package even where it is not installed (cpython#117378)
        here = str(Path(__file__).resolve().parents[2])
        return {PLAN_VARIABLE: json.dumps(plan), "PYTHONPATH": os.pathsep.join(filter(None, [here, pythonpath]))}

    def _let_go(self) -> None:
        """Close and remove what belongs to one that has died, once: the next may fail to start."""
        if self._process is not None:
            self._process = None
            lifelines.let_go(self._forkserver_alive_fd)
            Path(self._forkserver_address).unlink(missing_ok=True)


def fork_server(
    settings: Settings, environ: Mapping[str, str], workspace: Path, modules: tuple[str, ...] = ()
) -> ForkServer:
    """Return the fork server that `settings` ask for, not started yet; it imports `modules` besides theirs.

    Variables named `SUPERVISOR_…` are not handed on.
    """
    inherited = {name: value for name, value in environ.items() if not name.startswith(OURS)}
    limits = thread_limits(settings.pool.threads_per_worker, environ)
    log = {"level": settings.log.level, "format_": settings.log.format}
    return ForkServer(workspace, (*settings.pool.modules, *modules), inherited | limits, log)


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


def _interpreter() -> list[str]:
    """Return the interpreter that `multiprocessing` uses, with our own options: warnings, optimisation."""
    options = util._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - it has no public name
    return [os.fsdecode(spawn.get_executable()), *options]
