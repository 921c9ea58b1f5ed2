"""What the jobs of the benches do: plain functions, the same for every contender.

Nothing but the standard library: peers import this in an environment of their own.
"""

from __future__ import annotations

import time

Payload = dict


def noop(_payload: Payload) -> Payload:
    """Do nothing, so that all that is measured is what a job costs."""
    return {}


def spins(payload: Payload) -> Payload:
    """Use `ms` of CPU time: of the CPU's, not the clock's, so that whatever takes the CPU away is seen."""
    until = time.thread_time() + payload["ms"] / 1000
    while time.thread_time() < until:
        sum(range(500))
    return {}


def tells_its_start(_payload: Payload) -> Payload:
    """Return the time of its first line, on the clock that all processes share."""
    return {"at": time.monotonic()}


BY_NAME = {function.__name__: function for function in (noop, spins, tells_its_start)}
