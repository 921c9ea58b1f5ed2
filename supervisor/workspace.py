"""The supervisor's private folder for files on their way to and from workers, and the removal of dead ones."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from supervisor.proc import is_alive, start_ticks

LONGEST_PATH = 107
"""Bytes in the path of a Unix socket; multiprocessing puts one into the folder."""
_ROOM = 75
"""What our own names add to the path of the folder for temporary files."""


@contextlib.contextmanager
def open_workspace() -> Iterator[Path]:
    """Make a folder only this user can read, named after this process; remove those of processes that are gone."""
    root = _root()
    _remove_dead(root)
    folder = Path(tempfile.mkdtemp(prefix=f"{_prefix()}{os.getpid()}-{start_ticks()}-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _root() -> Path:
    """The folder for temporary files, unless its path leaves no room for that of a socket."""
    usual = tempfile.gettempdir()
    return Path(usual if len(os.fsencode(usual)) + _ROOM <= LONGEST_PATH else "/tmp")  # noqa: S108 - mkdtemp makes 0700


def _prefix() -> str:
    """Processes of another container, which may share the folder with us, are none of our business."""
    return f"mongo-job-supervisor-{Path('/proc/self/ns/pid').stat().st_ino}-"


def _remove_dead(root: Path) -> None:
    prefix = _prefix()
    for path in root.glob(f"{prefix}*"):
        pid, _, rest = path.name.removeprefix(prefix).partition("-")
        ticks = rest.partition("-")[0]
        if _is_ours(path) and pid.isdigit() and ticks.isdigit() and not is_alive(int(pid), int(ticks)):
            shutil.rmtree(path, ignore_errors=True)


def _is_ours(path: Path) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    return status.st_uid == os.getuid() and path.is_dir() and not path.is_symlink()
