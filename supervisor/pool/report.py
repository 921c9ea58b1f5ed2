"""A slot as the heartbeat, the log and the evidence of a crash show it."""

from __future__ import annotations

from dataclasses import dataclass

from supervisor.worker.wire import Call


@dataclass(frozen=True)
class SlotReport:
    """What a slot is doing; `since_s` is how long it has been in its state, in seconds."""

    slot: int
    state: str
    pid: int
    job: Call | None
    since_s: float
    rss_mb: float | None
    """Resident memory of the worker itself."""
    cpu: float | None = None
    """Per cent of one core that the job uses with its subprocesses; None when it has not been looked at for long."""
