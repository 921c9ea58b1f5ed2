"""One row of the pool's slot table: a slot, where it is in its life, and which jobs it could be given."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import structlog

from supervisor import process_tree
from supervisor.core.lookahead import DRY, Ahead, Place
from supervisor.core.slots import SlotState
from supervisor.pool.lifetime import Lifetime
from supervisor.pool.report import SlotReport
from supervisor.pool.slot import WorkerSlot

log = structlog.get_logger("supervisor.pool.pool")


@dataclass
class Entry:
    """Only the task that tends a slot, and the pool's `run`, change its entry."""

    slot: WorkerSlot
    state: SlotState = SlotState.STARTING
    retiring: bool = False
    promised: bool = False
    """To a claim under way, which may bring it jobs."""
    jobs: int = 0
    """Jobs that it has been given and that have not ended."""
    failures: int = 0
    since: float = field(default_factory=time.monotonic)
    lifetime: Lifetime = field(default_factory=lambda: Lifetime(0, 0, 1.0))
    worn: str | None = None
    """Why its present worker is worn, once that has been told."""
    looked_at: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def taken(self) -> bool:
        """Whether jobs run here, or may be about to."""
        return self.promised or self.jobs > 0

    def enter(self, state: SlotState) -> None:
        """Change the state, and remember when."""
        self.state, self.since = state, time.monotonic()

    @property
    def is_spent(self) -> bool:
        """Whether the worker is dead, due for recycling or replacement, or no longer wanted."""
        slot = self.slot
        worn = slot.worn is not None or self.lifetime.is_over(slot.jobs_done)
        return self.retiring or not slot.alive or slot.is_outdated or worn

    @property
    def is_free(self) -> bool:
        """Whether it could run a job now."""
        return self.state is SlotState.IDLE and not self.taken and not self.is_spent

    def place(self, ahead: Ahead) -> Place | None:
        """Return what may be given here: a job if it is free, and short ones, of which so many may wait."""
        free = self.is_free
        if not free and (self.promised or not self.slot.takes_more or self.is_spent):
            return None
        waiting_s = self.slot.waiting_s
        room = min(ahead.most - self.slot.waiting, self.lifetime.jobs_left(self.slot.jobs_done) - self.jobs)
        if not free and (room <= 0 or waiting_s >= ahead.seconds):
            return None
        return Place(self.slot.index, self.slot.pid, free, max(1, room), ahead.seconds - waiting_s)

    def runs_dry(self, ahead: Ahead) -> bool:
        """Tell whether a slot with short jobs has so few left that others should be claimed: not each by itself."""
        if not ahead.most:
            return False
        place = self.place(ahead)
        return place is not None and place.most >= ahead.most / 2 and place.ahead_s > ahead.seconds * (1 - DRY)

    def judge(self) -> None:
        """After a job: see whether its worker has served long enough, for a reason worth telling."""
        slot = self.slot
        self.lifetime.look(slot.jobs_done, time.monotonic(), lambda: process_tree.footprint(slot.pid))
        if self.worn is None and (reason := slot.worn or self.lifetime.outgrown):
            self.worn = reason
            slot.give_back_ahead()  # a fresh worker takes them
            log.warning("worker.worn", slot=slot.index, pid=slot.pid, reason=reason)

    def report(self) -> SlotReport:
        """Return the slot as others are shown it."""
        slot = self.slot
        since_s = time.monotonic() - (slot.busy_since or self.since)  # of its job: it may have been busy for hours
        rss_mb = process_tree.rss_mb(slot.pid)
        return SlotReport(slot.index, self.state.value, slot.pid, slot.call, since_s, rss_mb, slot.cpu)
