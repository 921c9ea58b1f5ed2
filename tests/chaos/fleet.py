"""Several supervisors on one database, as real processes, and everything that they have started."""

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psutil

from tests.chaos.kinds import INLINE_KB, MAX_CRASHES
from tests.chaos.ledger import RUN
from tests.chaos.plan import LEASE_S, SUPERVISORS, WORKERS
from tests.support.supervising import RunningSupervisor, configuration
from tests.support.until import POLL_S, until

DATABASE = "chaos"
START_S = 60.0
STOP_S = 40.0


@dataclass
class Member:
    """One supervisor, started again and again; `busy` is held by whoever does something to it."""

    supervisor: RunningSupervisor
    busy: threading.Lock = field(default_factory=threading.Lock)
    _log_from: int = 0

    @property
    def name(self) -> str:
        return self.supervisor.folder.name

    def start(self) -> None:
        """Start it on its valid configuration; does not wait."""
        log = self.supervisor.folder / "log"
        self._log_from = log.stat().st_size if log.exists() else 0
        self.resize(WORKERS)
        self.supervisor.start(ready=False)

    def resize(self, workers: int) -> None:
        """Save a valid configuration with this many workers."""
        self.supervisor.edit("pool", workers=workers)

    def spoil(self, text: str) -> None:
        """Save a configuration that must be refused."""
        draft = self.supervisor.config_path.with_suffix(".new")
        draft.write_text(text)
        draft.replace(self.supervisor.config_path)

    def wait_until_ready(self) -> None:
        """Wait until this start has come to claim jobs."""
        until(self._is_ready, START_S, f"{self.name} to be ready")

    def has_ended(self) -> bool:
        """Tell whether the process is gone."""
        return self.supervisor.process.poll() is not None

    def workers(self) -> list[psutil.Process]:
        """Return its workers: they alone are grandchildren, forked by its fork server."""
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(self.supervisor.pid).children()
            grandchildren = [worker for child in children for worker in child.children()]
            return [worker for worker in grandchildren if worker.status() != psutil.STATUS_ZOMBIE]
        return []

    def _is_ready(self) -> bool:
        with (self.supervisor.folder / "log").open("rb") as log:
            log.seek(self._log_from)
            return b'"supervisor.ready"' in log.read()


class Fleet:
    """All supervisors of the run."""

    def __init__(self, folder: Path, uri: str) -> None:
        self._folder = folder
        names = [f"supervisor-{number}" for number in range(SUPERVISORS)]
        self.members = [
            Member(RunningSupervisor(folder / name, _configuration(uri), environ={RUN: str(folder)})) for name in names
        ]

    def start(self) -> None:
        """Start all and wait until they are ready."""
        for member in self.members:
            member.start()
        for member in self.members:
            member.wait_until_ready()

    @contextlib.contextmanager
    def anyone(self, rng: Random) -> Iterator[Member]:
        """Take a supervisor to do something to: a random one of those that nobody else has taken."""
        for member in itertools.cycle(rng.sample(self.members, len(self.members))):
            if member.busy.acquire(timeout=POLL_S):
                try:
                    yield member
                finally:
                    member.busy.release()
                return

    def workers(self) -> list[psutil.Process]:
        """Return the workers of all supervisors."""
        return [worker for member in self.members for worker in member.workers()]

    def start_again_what_ended(self) -> list[str]:
        """Start again what ended by itself, and say so: none ever should."""
        said = []
        for member in self.members:
            if member.busy.acquire(blocking=False):
                try:
                    if member.has_ended():
                        said.append(f"{member.name} ended by itself with {member.supervisor.process.returncode}")
                        member.start()
                finally:
                    member.busy.release()
        return said

    def stop(self) -> list[str]:
        """TERM all at once; return what was wrong with their ends."""
        for member in self.members:
            member.supervisor.process.terminate()
        said = []
        for member in self.members:
            code = member.supervisor.process.wait(STOP_S)
            if code != 0:
                said.append(f"{member.name} ended with {code} after the last TERM")
        return said

    def processes(self) -> list[psutil.Process]:
        """Return every living process that any supervisor of this run has started, itself included."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def kill(self) -> None:
        """End all that is left, however the run went."""
        for member in self.members:
            if hasattr(member.supervisor, "process") and not member.has_ended():
                member.supervisor.kill()
        deadline = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < deadline:
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(RUN) == str(self._folder) and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, OSError):
            return False


def _configuration(uri: str) -> dict[str, dict[str, object]]:
    return configuration(
        uri,
        DATABASE,
        mongo={"wait_s": START_S},
        pool={"workers": WORKERS, "modules": ["tests.chaos.handlers"]},
        lease={"seconds": LEASE_S},
        shutdown={"drain_s": 3},
        retry={"max_attempts": 100, "max_crashes": MAX_CRASHES, "backoff_max_s": 2},
        limits={"result_inline_kb": INLINE_KB},
        log={"level": "info"},
    )
