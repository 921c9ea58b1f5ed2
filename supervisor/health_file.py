"""The file by which `health` knows this supervisor: written by the claim loop's own pulse.

It names the process by its id and start, so that one that was killed does not look alive for what it has left.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import structlog

from supervisor.health import RUN, SUFFIX, Health, own_folder, read_all
from supervisor.proc import boot_id, start_ticks

log = structlog.get_logger("supervisor.health")

LENGTH = 256
"""Every state is as long as this, so that a new one covers the old one whole, in one write."""


class HealthFile:
    """One file. What cannot be written is said once; nothing else depends on it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{os.getpid()}{SUFFIX}"
        self._beat_at = time.monotonic()
        self._phase = ""
        self._identity = {"pid": os.getpid(), "start_ticks": start_ticks(), "boot_id": boot_id()}
        self._failed = False

    def beat(self, phase: str) -> None:
        """Say that the claim loop has turned, in this phase."""
        self._beat_at = time.monotonic()
        self.enter(phase)

    def enter(self, phase: str) -> None:
        """Say that a phase has begun, which is no progress of the claim loop."""
        self._phase = phase
        state = json.dumps({**self._identity, "phase": phase, "beat_at": self._beat_at})
        try:
            self._write(state.ljust(LENGTH - 1) + "\n")
        except OSError as error:
            if not self._failed:
                log.warning("health.unwritable", path=str(self._path), reason=str(error))
            self._failed = True

    def now(self) -> Health:
        """Return what who reads the file would be told, to a thread of this process."""
        return Health(os.getpid(), self._phase, round(time.monotonic() - self._beat_at, 1))

    def _write(self, text: str) -> None:
        """Open it each time: something may have tidied up."""
        if not self._path.parent.is_dir():
            _prepare(self._path.parent)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchmod(descriptor, 0o644)  # it holds no secret, and others on this machine may ask
            os.pwrite(descriptor, text.encode(), 0)
        finally:
            os.close(descriptor)

    def remove(self) -> None:
        """Take it away, at a clean end."""
        with contextlib.suppress(OSError):
            self._path.unlink()


@contextlib.contextmanager
def open_health_file(environ: Mapping[str, str]) -> Iterator[HealthFile]:
    """Write the file of this process, starting; remove it in the end, and now those that killed ones have left."""
    folder = own_folder(environ)
    with contextlib.suppress(OSError):  # the first write says what is wrong
        _prepare(folder)
        _remove_dead(folder)
    file = HealthFile(folder)
    file.enter("starting")
    try:
        yield file
    finally:
        file.remove()


def _prepare(folder: Path) -> None:
    """Make the directory where it is missing. Raises OSError, also for one that is somebody else's."""
    folder.mkdir(mode=0o755 if folder == RUN else 0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid not in (0, os.geteuid()):
        raise PermissionError(f"{folder} belongs to another user")


def _remove_dead(folder: Path) -> None:
    for path, health in read_all(folder):
        if health is None or health.dead:
            path.unlink(missing_ok=True)
