"""The descriptors by whose closing workers and the fork server learn that we are gone.

The kernel closes them however we end. A fork of our process, which an application around us may make, would hold
copies, and workers would outlive us for as long as it lives. So in a fork they are closed at once.
"""

from __future__ import annotations

import os

_held: set[int] = set()


def hold(descriptor: int) -> None:
    """Keep `descriptor` out of forks from now on."""
    _held.add(descriptor)


def let_go(descriptor: int) -> None:
    """Close it."""
    _held.discard(descriptor)
    os.close(descriptor)


def _close_in_fork() -> None:
    """Put nothing in their places instead of leaving these free: who owned them may close them here, too."""
    if _held:
        nothing = os.open(os.devnull, os.O_RDONLY)
        for descriptor in _held:
            os.dup2(nothing, descriptor, inheritable=False)
        os.close(nothing)
        _held.clear()


os.register_at_fork(after_in_child=_close_in_fork)
