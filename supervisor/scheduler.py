"""Making the jobs of `[[schedules]]`: one for each run time, whichever of the supervisors makes it.

The database's clock says whether a run time has come; our own only says how long to wait before asking. Every
supervisor asks, and one of them makes the job.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from pymongo.errors import PyMongoError

from supervisor.config import cron
from supervisor.config.settings import ScheduleSettings
from supervisor.core.schedule import decide
from supervisor.live import Live
from supervisor.store.patience import first_line
from supervisor.store.schedules import ScheduleStore, Seen

log = structlog.get_logger("supervisor.scheduler")

LOOK_EVERY_S = 15.0
"""At most so late it is noticed that a clock was set, a machine woken or a document deleted."""
SPREAD_S = 0.25
"""Over which the supervisors spread at a run time, so that most find it done instead of all trying."""
RETRY_S = 1.0
SKEW = timedelta(hours=1)
"""By so much the database's clock may go back and is waited for; a clock that was further ahead was wrong."""


class Scheduler:
    """Looks whenever a run time has come. `run` is its life; `soon` may be called while it runs."""

    def __init__(self, live: Live, store: ScheduleStore, random: Callable[[], float]) -> None:
        self._live = live
        self._store = store
        self._random = random
        self._edited = asyncio.Event()
        self._watched: dict[str, ScheduleSettings] = {}
        self._begun: dict[str, datetime] = {}
        """Run times that were seen in time: they are made, however long the database takes to let us."""
        self._passed: dict[str, datetime] = {}
        """Up to when what was missed has been told, or since when a clock that was ahead is known."""
        self._failing: dict[str, str] = {}
        self._looked_at: set[str] = set()
        """Schedules that we have looked at: what comes while the database is silent then, comes while we are there."""
        self._silent = False

    def soon(self) -> None:
        """Have the schedules read from the configuration again now."""
        self._edited.set()

    async def run(self) -> None:
        """Make jobs until cancelled."""
        while True:
            self._edited.clear()
            wait_s = await self._round_when_answered()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._edited.wait()

    async def round(self) -> float | None:
        """Make the jobs that are due, once; return the seconds to the next look, None without any schedule.

        Raises PyMongoError where the schedules cannot be read.
        """
        await self._take_over()
        if not self._watched:
            return None
        schedules = list(self._watched.values())
        seen = await self._store.look(schedules)
        waits = [LOOK_EVERY_S]
        for schedule in schedules:
            if schedule.name in seen:
                waits.append(await self._attend(schedule, seen[schedule.name]))
                self._looked_at.add(schedule.name)
            else:  # somebody has deleted its document
                self._drop(schedule.name)
                waits.append(0.0)
        return min(waits)

    async def _round_when_answered(self) -> float | None:
        try:
            wait_s = await self.round()
        except PyMongoError as error:
            if not self._silent:
                log.warning("database.unavailable", during="reading schedules", reason=first_line(error))
            self._silent = True
            return RETRY_S
        if self._silent:
            log.info("database.back", during="reading schedules")
        self._silent = False
        return wait_s

    async def _take_over(self) -> None:
        """Begin with what the configuration has newly, and drop what it has no more."""
        wanted = {schedule.name: schedule for schedule in self._live.settings.schedules}
        for name in self._watched.keys() - wanted.keys():
            await self._store.forget(self._watched[name])
            self._drop(name)
        for name, schedule in wanted.items():
            if self._watched.get(name) == schedule:
                continue
            await self._store.watch(schedule)
            self._drop(name)
            self._watched[name] = schedule
            log.info("schedule.watched", schedule=name, handler=schedule.handler, cron=schedule.cron,
                     timezone=schedule.timezone, catch_up=schedule.catch_up)  # fmt: skip
            if schedule.handler not in self._live.handlers:
                log.warning("schedule.handler_unknown", schedule=name, handler=schedule.handler,
                            hint="its jobs wait for a supervisor that has this handler")  # fmt: skip

    def _drop(self, name: str) -> None:
        self._watched.pop(name, None)
        self._begun.pop(name, None)
        self._passed.pop(name, None)
        self._failing.pop(name, None)
        self._looked_at.discard(name)

    async def _attend(self, schedule: ScheduleSettings, seen: Seen) -> float:
        """Make the job of a schedule if one is due; return the seconds to the next look at it."""
        try:
            settled = await self._make_due(schedule, seen)
        except PyMongoError as error:  # the business of other schedules goes on
            self._failed(schedule.name, first_line(error))
            return RETRY_S
        if self._failing.pop(schedule.name, None):
            log.info("schedule.recovered", schedule=schedule.name)
        if not settled:
            return RETRY_S
        following = next(cron.ticks(schedule.cron, schedule.timezone, seen.now), None)
        if following is None:
            return LOOK_EVERY_S
        return (following - seen.now).total_seconds() + SPREAD_S * self._random()

    async def _make_due(self, schedule: ScheduleSettings, seen: Seen) -> bool:
        """Make a job if one is due; tell whether that was all there is to do now. Raises PyMongoError."""
        name, after = schedule.name, self._after(schedule.name, seen)
        begun = self._begun.pop(name, None)
        if begun is not None and begun > after:
            await self._make(schedule, seen, begun)
            return False  # later ones may have come meanwhile
        due = cron.due(schedule.cron, schedule.timezone, after, seen.now)
        if due is None:
            return True
        held_up = self._silent and name in self._looked_at
        turn = decide(due, seen.now, make_up=schedule.catch_up == "latest", held_up=held_up)
        if turn.tick is None:
            self._passed[name] = due.latest
        elif not await self._make(schedule, seen, turn.tick):
            return False
        if turn.missed:
            log.warning("schedule.missed", schedule=name, missed=turn.missed, after=after.isoformat(),
                        catch_up=schedule.catch_up)  # fmt: skip
        return True

    async def _make(self, schedule: ScheduleSettings, seen: Seen, tick: datetime) -> bool:
        """Make the job of a run time; tell whether it was us who made it."""
        self._begun[schedule.name] = tick
        job_id = await self._store.make(schedule, seen, tick)
        del self._begun[schedule.name]
        if job_id is not None:
            log.info("schedule.job_made", schedule=schedule.name, job_id=job_id, handler=schedule.handler,
                     late_s=round((seen.now - tick).total_seconds(), 1))  # fmt: skip
        return job_id is not None

    def _after(self, name: str, seen: Seen) -> datetime:
        """Return the time after which run times count that have come."""
        if seen.done > seen.now + SKEW:  # what was made under that clock, the jobs' ids tell
            return self._passed.setdefault(name, seen.now)
        return max(seen.done, self._passed.get(name, seen.done))

    def _failed(self, name: str, reason: str) -> None:
        """Say once why the jobs of a schedule cannot be made."""
        if self._failing.get(name) != reason:
            log.warning("schedule.failed", schedule=name, reason=reason, hint="tried again every second")
        self._failing[name] = reason
