"""What a test has left running."""

from collections.abc import Iterator
from pathlib import Path

import psutil

# multiprocessing starts one per process and keeps it for the life of that process.
LASTING = "from multiprocessing.resource_tracker import main"


def related(directory: Path) -> set[psutil.Process]:
    """The living descendants of this process, and processes anywhere whose command line names the directory.

    The latter are the daemons: they are nobody's descendants.
    """
    return {process for process in {*_descendants(), *_named(str(directory))} if _counts(process)}


def command_line(process: psutil.Process) -> str:
    """Name a process, ended or not."""
    try:
        return f"{process.pid}: {' '.join(process.cmdline())}"
    except psutil.Error:
        return f"{process.pid}: (ended)"


def _descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _named(text: str) -> Iterator[psutil.Process]:
    ancestors = {process.pid for process in (psutil.Process(), *psutil.Process().parents())}
    for process in psutil.process_iter():
        try:
            if process.pid not in ancestors and any(text in argument for argument in process.cmdline()):
                yield process
        except psutil.Error:
            continue


def _counts(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and LASTING not in " ".join(process.cmdline())
    except psutil.Error:
        return False
