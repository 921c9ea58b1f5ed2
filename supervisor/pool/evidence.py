"""What is written down when an attempt ended badly: whether the kernel killed it, and what else ran then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from supervisor import machine
from supervisor.core.outcome import AnyOutcome, Crashed, Evidence, OutOfMemory, TimedOut
from supervisor.machine import OomWatch
from supervisor.pool.report import SlotReport

MOST_OTHERS = 32
"""Neighbours that an attempt names; there may be a thousand."""


class Witness:
    """Completes the evidence of attempts on the slots of one pool; `report` tells what all of them are doing."""

    def __init__(self, report: Callable[[], Sequence[SlotReport]]) -> None:
        self._report = report
        self._oom = OomWatch()

    def complete(self, outcome: AnyOutcome, slot: int) -> AnyOutcome:
        """Return `outcome` with what could be seen on the machine, if it was a bad end."""
        if not isinstance(outcome, Crashed | TimedOut | OutOfMemory):
            return outcome
        seen = outcome.evidence or Evidence()
        killed = self._oom.claim_one() if isinstance(outcome, Crashed) and outcome.signal == "SIGKILL" else False
        return replace(outcome, evidence=replace(seen, oom_killed=killed, machine=self._look_around(slot)))

    def _look_around(self, slot: int) -> dict[str, Any]:
        others = [
            {"slot": each.slot, "handler": each.job.handler, "job_id": each.job.job_id, "rss_mb": each.rss_mb}
            for each in self._report()
            if each.job is not None and each.slot != slot
        ]
        return {**machine.look_around(), "others": others[:MOST_OTHERS]}
