"""What a worker had used when it died, by the kernel's own account; only its parent, the fork server, is told that.

`multiprocessing` collects dead children with `waitpid`. In the fork server it is replaced by `wait4`, which does the
same and tells what the dead process and its collected children had used. It stands in a file before the exit code goes
to the supervisor, so whoever knows the code can read it.
"""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

FOLDER = "obituaries"
"""Of the supervisor's workspace; one file per process, named by its id."""
_USED = struct.Struct("<dd")
_plain_waitpid = os.waitpid


def keep(folder: str) -> None:
    """Write down, from now on, what every child that this process collects had used."""

    def waitpid(pid: int, options: int) -> tuple[int, int]:
        ended, status, used = os.wait4(pid, options)
        if ended:
            with contextlib.suppress(OSError):  # a full disk must not end the fork server
                Path(folder, str(ended)).write_bytes(_USED.pack(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024))
        return ended, status

    os.waitpid = waitpid


def stop_keeping() -> None:
    """Undo `keep`, in a worker: what its own children used is none of the fork server's business."""
    os.waitpid = _plain_waitpid


def take(folder: Path, pid: int) -> tuple[float, float] | None:
    """Return (CPU seconds, peak resident megabytes) of the dead process `pid`, and forget it; None if unknown."""
    file = folder / str(pid)
    try:
        cpu_s, peak_mb = _USED.unpack(file.read_bytes())
        file.unlink()
    except (OSError, struct.error):
        return None
    return cpu_s, peak_mb
