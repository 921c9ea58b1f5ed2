"""A fork server that survives a refused fork, and a request that breaks off.

When the system has no room for another process, `multiprocessing`'s fork server dies of the error, and every worker
with it. Ours tells whoever asked for the process and goes on: running jobs notice nothing. The answer takes the place
of the process id, as a negative error number. The same goes for a supervisor that has no descriptor left in the middle
of asking.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from multiprocessing import forkserver, reduction

_plain_fork = os.fork
_plain_recvfds = reduction.recvfds


def survive_refusals() -> None:
    """From now on, in the fork server: a fork that the system refuses ends nothing, nor does half a request."""
    os.fork = _fork
    reduction.recvfds = _recvfds


def be_refused_again() -> None:
    """Undo it, in a worker: who forks there wants to know."""
    os.fork = _plain_fork
    reduction.recvfds = _plain_recvfds


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
        raise _next_request() from refused


def _recvfds(sock: socket.socket, size: int) -> list[int]:
    try:
        return _plain_recvfds(sock, size)
    except (EOFError, RuntimeError) as broken_off:
        raise _next_request() from broken_off


def _next_request() -> OSError:
    """Return the one error after which forkserver.main goes on with the next request."""
    return OSError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED))
