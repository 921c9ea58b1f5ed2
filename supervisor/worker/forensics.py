"""What a worker leaves behind for the moment it dies: Python stacks, written by C code that needs no interpreter.

`faulthandler` writes the stacks of all threads when a fatal signal comes (a segmentation fault, an abort), and when
the supervisor asks with a signal: also while C code holds the interpreter lock, where no Python code would run.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
from pathlib import Path

# real-time signals behind those that stop a job (supervisor.worker.main.STOP_SIGNALS)
END_SIGNAL = int(signal.SIGRTMIN) + 4
"""Write the stacks that are kept with the attempt: its time limit has come, or it is about to be killed."""
LIVE_SIGNAL = int(signal.SIGRTMIN) + 5
"""Write the stacks for somebody who asks how the job is doing."""

OOM_SCORE = 500
"""Added to the kernel's score of this process and all it starts: of -1000 to 1000."""


def arm(end_file: str, live_file: str) -> None:
    """Have the stacks of this process written to `end_file` at its death, and to either file on its signal."""
    faulthandler.enable(_open(end_file), all_threads=True)
    faulthandler.register(END_SIGNAL, _open(end_file), all_threads=True, chain=False)
    faulthandler.register(LIVE_SIGNAL, _open(live_file), all_threads=True, chain=False)


def be_killed_first() -> None:
    """When memory runs out, have the kernel kill this process rather than its supervisor, or anything else."""
    with contextlib.suppress(OSError):  # a container may show /proc without letting anybody write to it
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE), encoding="ascii")


def _open(path: str) -> int:
    """Return a descriptor that stays open for the life of the process."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
