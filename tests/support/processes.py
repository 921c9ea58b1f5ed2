"""What a test has left running."""

from collections.abc import Iterator
from pathlib import Path

import psutil

# multiprocessing starts one per process and keeps it for the life of that process.
LASTING = "from multiprocessing.resource_tracker import main"


def named(directory: Path) -> set[psutil.Process]:
    """The living processes anywhere whose command line names something in this directory."""
    return {process for process in _naming(str(directory)) if _counts(process)}


def related(directory: Path) -> set[psutil.Process]:
    """The living descendants of this process, and those that name the directory: daemons are nobody's descendants."""
    descendants = psutil.Process().children(recursive=True)
    return {process for process in descendants if _counts(process)} | named(directory)


def command_line(process: psutil.Process) -> str:
    """Name a process, ended or not."""
    try:
        return f"{process.pid}: {' '.join(process.cmdline())}"
    except psutil.Error:
        return f"{process.pid}: (ended)"


def _naming(path: str) -> Iterator[psutil.Process]:
    callers = {process.pid for process in (psutil.Process(), *psutil.Process().parents())}
    for process in psutil.process_iter():
        try:
            arguments = process.cmdline()
        except psutil.Error:
            continue
        if process.pid not in callers and any(word == path or f"{path}/" in word for word in arguments):
            yield process


def _counts(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and LASTING not in " ".join(process.cmdline())
    except psutil.Error:
        return False
