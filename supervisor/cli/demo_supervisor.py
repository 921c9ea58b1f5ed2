"""A supervisor of the demonstration's own: started as a subprocess, watched, and gone when it is over."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from supervisor.client.documents import is_alive
from supervisor.client.operator import OperatorQueue
from supervisor.embedded import directory, keeper
from supervisor.errors import SupervisorError, WorkersCannotStartError

DATABASE = "demo"
READY_S = 60.0
STOP_S = 15.0
_POLL_S = 0.05
_CONFIG = f"""\
[mongo]
database = "{DATABASE}"
[pool]
workers = 2
modules = ["handlers"]
[shutdown]
drain_s = 2
[log]
format = "json"
"""
# Ends with the demonstration, even one that is killed: the kernel sends TERM (15) when the parent dies. Where there is
# no prctl (macOS), only a demonstration that ends by itself takes its supervisor along.
_START = """\
import contextlib, ctypes, os, sys
with contextlib.suppress(AttributeError):
    ctypes.CDLL(None).prctl(1, 15, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the demonstration is gone")
os.execv(sys.executable, [sys.executable, "-m", "supervisor", *sys.argv[2:]])
"""


class DemoFailedError(SupervisorError):
    """The demonstration's own supervisor ended; `exit_code` is its."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class DemoSupervisor:
    """A running supervisor with two workers, and its log."""

    def __init__(self, folder: Path, data_dir: Path, environ: Mapping[str, str]) -> None:
        self._log = folder / "supervisor.log"
        config = folder / "config.toml"
        config.write_text(_CONFIG, encoding="utf-8")
        arguments = ["run", "--config", str(config), "--data-dir", str(data_dir)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, str(os.getpid()), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(environ),
                start_new_session=True,  # a Ctrl-C is for the demonstration, which ends its supervisor itself
            )

    def wait_until_ready(self, queue: OperatorQueue) -> None:
        """Return when it has a worker; raises DemoFailedError or WorkersCannotStartError."""
        give_up_at = time.monotonic() + READY_S
        while not any(is_alive(each) and each.get("phase") == "running" for each in queue.supervisors()):
            self.check()
            if time.monotonic() > give_up_at:
                raise WorkersCannotStartError(f"the supervisor is not ready after {READY_S:g} s: {self._last_words()}")
            time.sleep(_POLL_S)

    def check(self) -> None:
        """Raise DemoFailedError if it has ended."""
        code = self._process.poll()
        if code is not None:
            raise DemoFailedError(f"the supervisor ended with {code}: {self._last_words()}", code if code > 0 else 1)

    def stop(self) -> None:
        """End it: politely, then in a hurry, then at once. Its workers end with it in any case."""
        for act in (self._process.terminate, self._process.terminate, self._process.kill):
            act()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
                return

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return (errors or lines or ["it said nothing"])[-1]


@contextlib.contextmanager
def demo_supervisor(data_dir: Path | None, mongo_uri: str | None) -> Iterator[tuple[DemoSupervisor, Path]]:
    """Start a supervisor on an embedded database in `data_dir` (None: a temporary one), or on `mongo_uri`.

    Returns it with the data directory. At the end it is stopped, and so is a temporary database.
    """
    folder = Path(tempfile.mkdtemp(prefix="supervisor-demo-"))
    home = data_dir or folder / "mongodb"
    try:
        supervisor = DemoSupervisor(folder, home, _environ(mongo_uri))
        try:
            yield supervisor, home
        finally:
            supervisor.stop()
    finally:
        if data_dir is None:
            _wait_until(lambda: _is_stopped(home), STOP_S)
        shutil.rmtree(folder, ignore_errors=True)


def _environ(mongo_uri: str | None) -> dict[str, str]:
    """Return our environment without configuration, which is not about this; a URI may hold a password."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SUPERVISOR_")}
    return {**kept, "SUPERVISOR_MONGO__URI": mongo_uri or "embedded"}


def _wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    give_up_at = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < give_up_at:
        time.sleep(_POLL_S)


def _is_stopped(data_dir: Path) -> bool:
    """Tell whether the embedded database in `data_dir` has ended, or never was."""
    if not data_dir.exists():
        return True
    lock = directory.try_lock(data_dir / keeper.KEEPER_LOCK, exclusive=True)
    if lock is not None:
        directory.unlock(lock)
    return lock is not None
