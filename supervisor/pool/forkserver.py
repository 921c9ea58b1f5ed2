"""The fork server: the clean process that all workers are forked from.

The supervisor itself is never forked. Its environment variables that may hold secrets are not handed on.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from multiprocessing import forkserver, process
from pathlib import Path

from supervisor.config.settings import Settings
from supervisor.worker import obituaries
from supervisor.worker.preload import PLAN_VARIABLE


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
