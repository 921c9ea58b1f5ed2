"""Dying with somebody else: the kernel kills this process group the moment the other end of a pipe is closed.

A thread that waits for the end of the pipe would not run while C code holds the interpreter lock, and PR_SET_PDEATHSIG
is tied to the thread that forked us, or to the fork server instead of the supervisor.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal


def hold(descriptor: int) -> None:
    """Have SIGKILL sent to this process group when the pipe that `descriptor` reads from has no writer any more."""
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(descriptor)
    if poll.poll(0):  # it was closed before the watch stood
        os.killpg(0, signal.SIGKILL)
