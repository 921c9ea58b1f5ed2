"""Which slot has which job, and jobs that move from one slot to another where they run sooner.

What waits behind a job that turns slow goes to slots that still run short ones, and a slot that is free takes over half
of what waits elsewhere: at once, where a claim would take a round trip, and the way back to the queue three of them.
What nobody here would run soon does go back: another supervisor may.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from supervisor.core.lookahead import Pace, Place, deal
from supervisor.core.slots import SlotState
from supervisor.pool.attempt import Attempt, JobListener
from supervisor.pool.entry import Entry
from supervisor.store.taking import Seat

log = structlog.get_logger("supervisor.pool.pool")

MOVED = 2
"""How many times as much may wait in a slot that takes over what another one had as is claimed ahead for it."""


class Sharing:
    """Keeps where each job is; `slots` is the pool's own table."""

    def __init__(self, slots: Mapping[int, Entry], pace: Pace) -> None:
        self._slots = slots
        self._pace = pace
        self._places: dict[JobListener, Entry] = {}
        self._most = 0
        """How many jobs may wait in a slot, as the latest claim was told."""

    @property
    def in_line(self) -> bool:
        """See Others."""
        return self._pace.in_line

    def add(self, listener: JobListener, entry: Entry) -> None:
        """Note that a job was given to this slot."""
        self._places[listener] = entry
        entry.jobs += 1
        if entry.state is not SlotState.BUSY:
            entry.enter(SlotState.BUSY)

    def where(self, listener: JobListener) -> Entry:
        """Return the slot that has the job now."""
        return self._places[listener]

    def remove(self, listener: JobListener) -> Entry:
        """Note that the job has ended or leaves its slot, which is returned."""
        entry = self._places.pop(listener)
        entry.jobs -= 1
        if not entry.jobs:
            entry.enter(SlotState.IDLE if entry.slot.alive else SlotState.STOPPING)
        return entry

    def has_room(self, entry: Entry) -> bool:
        """Tell whether a slot could take a job now, or runs short ones and will soon have none left."""
        if entry.slot.waiting > self._most / 2:  # most often; it is asked after each job, and to ask the pace is dear
            return False
        return entry.is_free or entry.runs_dry(self._pace.ahead())

    def places(self, times: int = 1) -> list[Place]:
        """Return the places that jobs may be given to, with as much waiting there as is claimed ahead, or `times` so
        much.
        """
        ahead = self._pace.ahead(times)
        if times == 1:
            self._most = ahead.most
        return [place for entry in self._slots.values() if (place := entry.place(ahead))]

    def take(self, attempts: list[Attempt]) -> list[Attempt]:
        """Give jobs that have not begun to slots that will run them soon; return those that none takes."""
        dealt = deal([attempt.expected.seconds for attempt in attempts], self.places(MOVED))
        for attempt, place in zip(attempts, dealt, strict=False):
            self._move(attempt, self._slots[place.slot])
        return attempts[len(dealt) :]

    def relieve(self, entry: Entry) -> None:
        """Have a slot that is free take over half of what waits where the most does; behind a slow job, all of it."""
        if not entry.is_free:
            return
        busiest = max((each.slot for each in self._slots.values()), key=lambda slot: slot.waiting_s)
        place = entry.place(self._pace.ahead())
        share = busiest.waiting // 2 if busiest.takes_more else busiest.waiting
        if place and share:
            for attempt in busiest.take_ahead(min(share, place.most)):
                self._move(attempt, entry)

    def _move(self, attempt: Attempt, entry: Entry) -> None:
        left = self.remove(attempt.listener)
        self.add(attempt.listener, entry)
        log.debug("job.moved", job_id=str(attempt.call.job_id), of=left.slot.index, to=entry.slot.index)
        attempt.listener.on_moved(Seat(entry.slot.index, entry.slot.pid))
        entry.slot.take_over(attempt)
