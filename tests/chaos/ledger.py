"""What handlers do, told to files outside of MongoDB: which attempts started and ended, and what they brought about.

Handlers write here from their workers, which may be killed at any instant; the audit reads it after the run.
"""

import os
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

RUN = "CHAOS_RUN"
"""The environment variable with the run's folder. All that supervisors start inherits it, and is known by it."""

LINE_BYTES = 128
"""A part of a page of memory: a kill tears a write only between two pages, so never a line."""

BUSY_S = 20.0


@dataclass(frozen=True)
class Entry:
    """One line of the ledger: `start`, `end` or, of an effect whose token was stale, `refused`."""

    event: str
    job: str
    token: int
    pid: int
    at: float
    """Seconds, on the monotonic clock that all processes of the machine share."""


class Ledger:
    """A file of lines that are only ever appended."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "ledger"

    def write(self, event: str, job: str, token: int) -> None:
        """Append a line in one write."""
        line = f"{event} {job} {token} {os.getpid()} {time.monotonic():.4f}".ljust(LINE_BYTES - 1) + "\n"
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line.encode("ascii"))
        finally:
            os.close(file)

    def entries(self) -> list[Entry]:
        """Return all lines, in order."""
        lines = self._path.read_text(encoding="ascii").splitlines() if self._path.exists() else []
        return [_entry(*line.split()) for line in lines]


class Effects:
    """A store that keeps one effect per job, and refuses an attempt that comes after a later one: what the fencing
    token is for.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "effects.sqlite"

    def prepare(self) -> None:
        """Make the empty store."""
        with closing(self._connect()) as store:
            store.execute("CREATE TABLE effects (job TEXT PRIMARY KEY, token INTEGER NOT NULL)")

    def apply(self, job: str, token: int) -> bool:
        """Set the effect of `job` in the name of `token`; False if one with the same or a higher token stands."""
        newer = "ON CONFLICT (job) DO UPDATE SET token = excluded.token WHERE excluded.token > token"
        with closing(self._connect()) as store:
            return store.execute(f"INSERT INTO effects VALUES (?, ?) {newer}", (job, token)).rowcount == 1

    def standing(self) -> dict[str, int]:
        """Return the token of each job's effect."""
        with closing(self._connect()) as store:
            return dict(store.execute("SELECT job, token FROM effects"))

    def _connect(self) -> sqlite3.Connection:
        store = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None)
        store.execute("PRAGMA synchronous = OFF")  # the machine itself is not what fails here
        return store


def _entry(event: str, job: str, token: str, pid: str, at: str) -> Entry:
    return Entry(event, job, int(token), int(pid), float(at))
