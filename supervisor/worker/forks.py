"""A fork server that survives a refused fork.

When the system has no room for another process, `multiprocessing`'s fork server dies of the error, and every worker
with it. Ours tells whoever asked for the process and goes on: running jobs notice nothing. The answer takes the place
of the process id, as a negative error number.
"""

from __future__ import annotations

import errno
import os
import sys
from multiprocessing import forkserver

_plain_fork = os.fork


def survive_refusals() -> None:
    """From now on, in the fork server: a fork that the system refuses ends nothing."""
    os.fork = _fork


def be_refused_again() -> None:
    """Undo it, in a worker: who forks there wants to know."""
    os.fork = _plain_fork


def _fork() -> int:
    try:
        return _plain_fork()
    except OSError as refused:
        request = sys._getframe(1).f_locals  # noqa: SLF001 - of forkserver.main, which offers no other way
        if not {"child_r", "child_w", "fds"} <= set(request):
            raise
        forkserver.write_signed(request["child_w"], -(refused.errno or errno.EAGAIN))
        for descriptor in (request["child_r"], request["child_w"], *request["fds"]):
            os.close(descriptor)
        # the one error after which forkserver.main goes on with the next request
        raise OSError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED)) from refused
