"""The supervisor's private folder for files on their way to and from workers, and the removal of dead ones."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from supervisor.process_tree import created_at, is_alive

_PREFIX = "mongo-job-supervisor-"


@contextlib.contextmanager
def open_workspace() -> Iterator[Path]:
    """Make a folder only this user can read, named after this process; remove those of processes that are gone."""
    root = Path(tempfile.gettempdir())
    _remove_dead(root)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-{created_at():.2f}-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_dead(root: Path) -> None:
    for path in root.glob(f"{_PREFIX}*"):
        pid, _, rest = path.name.removeprefix(_PREFIX).partition("-")
        created = rest.partition("-")[0]
        if _is_ours(path) and pid.isdigit() and _is_number(created) and not is_alive(int(pid), float(created)):
            shutil.rmtree(path, ignore_errors=True)


def _is_ours(path: Path) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    return status.st_uid == os.getuid() and path.is_dir() and not path.is_symlink()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
