"""File systems that are small, and full when a test wants them to be."""

import contextlib
import itertools
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """Make `folder` a file system of its own, `options` as `mount` takes them; skip where that cannot be done."""
    folder.mkdir(exist_ok=True)
    _or_skip(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)])
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def own_shared_memory(options: str) -> tuple[str, ...]:
    """Return the beginning of a command that gives the rest of it a /dev/shm of its own; skip where that cannot be."""
    mount = f"mount -t tmpfs -o {options} tmpfs /dev/shm"
    _or_skip(["unshare", "--mount", "sh", "-c", mount])
    return "unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh"


def fill(folder: Path) -> list[Path]:
    """Leave no room in `folder`, neither for a byte nor for a file; return what takes it."""
    ballast = [folder / "ballast"]
    with contextlib.suppress(OSError):
        write_all(ballast[0])
    with contextlib.suppress(OSError):
        for number in itertools.count():
            more = folder / f"ballast-{number}"
            more.touch()
            ballast.append(more)
    return ballast


def write_all(ballast: Path) -> None:
    """Write until there is no room left, which is an OSError."""
    with ballast.open("ab") as file:
        while True:
            file.write(b"x" * (1 << 16))
            file.flush()


def _or_skip(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
