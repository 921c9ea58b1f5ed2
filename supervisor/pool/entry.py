"""One row of the pool's slot table: a slot, and where it is in its life."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from supervisor.core.slots import SlotState
from supervisor.pool.lifetime import Lifetime
from supervisor.pool.slot import WorkerSlot
from supervisor.worker.wire import Call


@dataclass
class Entry:
    """Only the task that tends a slot, and the pool's `run`, change its entry."""

    slot: WorkerSlot
    state: SlotState = SlotState.STARTING
    retiring: bool = False
    taken: bool = False
    """Promised to a claim under way, or running a job."""
    failures: int = 0
    since: float = field(default_factory=time.monotonic)
    job: Call | None = None
    lifetime: Lifetime = field(default_factory=lambda: Lifetime(0, 0, 1.0))
    looked_at: asyncio.Event = field(default_factory=asyncio.Event)

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
