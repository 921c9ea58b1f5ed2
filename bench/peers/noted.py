"""What a job does in a peer's worker: the work, and a line in a file that says when it started and ended.

The line takes some microseconds; it is what makes all systems tell the same thing, whatever results they keep.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from bench import work

SERVER = os.environ.get("BENCH_SERVER", "")
NOTES = os.environ.get("BENCH_NOTES", "")


def job(name: str, payload: dict) -> None:
    """Run the work of that name."""
    if name == "holds":
        hold(Path(payload["until"]))
        return
    started = time.monotonic()
    work.BY_NAME[name](payload)
    note(name, started)


def hold(until: Path) -> None:
    """Keep a worker busy until a file appears, so that jobs can be enqueued before the first runs."""
    if not until.exists():
        note("holds", time.monotonic())
    while not until.exists():
        time.sleep(0.005)


def note(name: str, started: float) -> None:
    """Append a line, whole."""
    file = os.open(NOTES, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{name} {started:.6f} {time.monotonic():.6f}\n".encode())
    os.close(file)
