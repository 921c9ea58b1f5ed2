"""The dispatcher: places first, then a claim for at most as many jobs, then an execution for each.

Every executor has a dispatcher of its own: jobs that wait for a worker are in nobody else's way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence

import structlog
from bson.raw_bson import RawBSONDocument
from pymongo.errors import PyMongoError

from supervisor.config.settings import Settings
from supervisor.core.gate import FleetLimits
from supervisor.core.lookahead import Place
from supervisor.execution import Execution, Services, boot_time_s
from supervisor.executor import Executor
from supervisor.limits import NO_CAP, HandlerLimits, claimed, limits_of
from supervisor.live import Live
from supervisor.pulse import Pulse
from supervisor.store.claims import ClaimStore
from supervisor.store.connection import telling_answers
from supervisor.store.fresh import fresh_job
from supervisor.store.patience import first_line
from supervisor.store.taking import Claim
from supervisor.wakeup import Wakeup

log = structlog.get_logger("supervisor.dispatcher")

_RETRY_S = 1.0
_TURN_S = 1.0
"""How long a turn waits for a free place; the next turn goes on waiting."""


class Dispatcher:
    """Claims jobs for the free places of an executor until it is closed, and turns until cancelled; what it has started
    goes on without it.
    """

    def __init__(
        self,
        live: Live,
        executor: Executor,
        claims: ClaimStore,
        wakeup: Wakeup,
        services: Services,
        pulse: Pulse,
    ) -> None:
        self._live = live
        self._executor = executor
        self._claims = claims
        self._wakeup = wakeup
        self._services = services
        self._pulse = pulse
        self._tasks: set[asyncio.Task[None]] = set()
        self._claiming: asyncio.Task[bool] | None = None
        self._closed = False
        self._failing = False
        self._ends = 0
        """How many jobs have ended."""
        self._passed_over = False
        """Jobs are due, and the latest claim had no place that suits them: they wait for the end of another."""

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """The executions under way, as tasks."""
        return self._tasks

    async def run(self) -> None:
        """Fill free places for ever. Raises what an execution died of: that is a bug, and never silent."""
        heard = self._wakeup.listen()
        while True:
            self._pulse.beat()
            if await self._has_free_place():
                told, heard = self._wakeup.the_one_since(heard), self._wakeup.listen()
                if not await self._fill(told):
                    while not await self._wakeup.wait(heard):
                        self._pulse.beat()
            self._raise_bugs()

    async def close(self, within_s: float) -> None:
        """Claim no more; returns when a claim under way has ended, or after `within_s` seconds."""
        self._closed = True
        if self._claiming:
            await asyncio.wait({self._claiming}, timeout=within_s)

    async def _has_free_place(self) -> bool:
        """Wait for a free place, but not for longer than a turn may take; tell whether there is one."""
        self._executor.changed.clear()
        if not self._executor.has_free():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TURN_S):
                    await self._executor.changed.wait()
        return self._executor.has_free()

    async def _fill(self, told: RawBSONDocument | None) -> bool:
        """Claim for the places there are, once; tell whether there may be more to claim at once.

        `told` is the one document that was inserted since the time before.
        """
        places = self._executor.reserve()
        self._claiming = claim = asyncio.create_task(self._claim(places, told), name="claim")
        # shielded: a claim cancelled half way would leave jobs claimed by nobody
        try:
            return await asyncio.shield(claim)
        except asyncio.CancelledError:
            await asyncio.wait({claim})
            raise

    async def _claim(self, places: Sequence[Place], told: RawBSONDocument | None) -> bool:
        ends = self._ends
        try:
            async with self._live.claiming:
                claims = await self._next_jobs(places, told)
                settings = self._live.settings
                handlers = {claim.job.handler for claim in claims}
                limits = {name: limits_of(self._live.handlers[name], settings) for name in handlers}
                for claim in claims:
                    self._start(claim, limits[claim.job.handler], settings)
        finally:
            for place in places:
                self._executor.release(place)
        more = bool(claims) and not self._claims.exhausted
        self._services.recorder.note_backlog(self, more)
        self._executor.pace.in_line = more
        self._passed_over = not claims and not self._claims.exhausted
        return more or (self._passed_over and self._ends > ends)

    async def _next_jobs(self, places: Sequence[Place], told: RawBSONDocument | None) -> list[Claim]:
        settings = self._live.settings
        self._sent_at = boot_time_s()
        try:
            with telling_answers(self._pulse.beat):  # a claim may take many calls, and the database be slow
                room = self._room()
                fleet = self._fleet_limits(room)
                fresh = fresh_job(told, settings.limits.payload_kb)
                free = next((place for place in places if place.free), None)
                claims = None
                if fresh and free and fresh["handler"] in room.keys() - fleet.keys():
                    claims = await self._claims.claim_fresh(fresh, free, lease_s=settings.lease.seconds)
                if claims is None:
                    claims = await self._claims.claim(
                        room,
                        places,
                        lease_s=settings.lease.seconds,
                        payload_kb=settings.limits.payload_kb,
                        fleet=fleet,
                        expected=self._executor.pace.expected,
                    )
        except PyMongoError as error:
            if not self._failing:
                log.warning("database.unavailable", during="claiming", reason=first_line(error))
            self._failing = True
            self._live.outage.failed(error)
            await asyncio.sleep(_RETRY_S)
            return []
        if (wait_s := self._claims.opens_in_s) is not None:
            self._wakeup.ring_in(wait_s)
        if claims:  # else perhaps nothing was asked
            self._executor.pace.note_claim(boot_time_s() - self._sent_at)
            self._live.outage.answered()
        if self._failing:
            self._failing = False
            log.info("database.back", during="claiming")
        return claims

    def _room(self) -> dict[str, int]:
        """How many more jobs of each claimed handler may run here."""
        if self._closed:
            return {}
        running, settings = self._live.running(), self._live.settings
        room = {
            spec.name: limits_of(spec, settings).max_running - running[spec.name]
            for spec in claimed(self._live.handlers, settings)
            if self._executor.runs(spec) and self._live.may_claim(spec.name)
        }
        return {name: free for name, free in room.items() if free > 0}

    def _fleet_limits(self, handlers: Iterable[str]) -> dict[str, FleetLimits]:
        """Return the limits across machines of those of `handlers` that have any."""
        limits = {name: limits_of(self._live.handlers[name], self._live.settings).fleet for name in handlers}
        return {name: of_handler for name, of_handler in limits.items() if of_handler}

    def _start(self, claim: Claim, limits: HandlerLimits, settings: Settings) -> None:
        trusted_until = self._sent_at + settings.lease.seconds
        execution = Execution(claim, limits, settings, self._services, self._executor, trusted_until)
        self._live.executions.add(execution)
        execution.start()
        task = asyncio.create_task(self._run(execution), name=f"job {claim.job.id}")
        self._tasks.add(task)

    async def _run(self, execution: Execution) -> None:
        """See it to its end, and have the next claim know of that where it matters; a free place tells of itself."""
        matters = True
        try:
            outcome = await execution.ended()
            self._ends += 1
            if self._passed_over:
                self._wakeup.ring()
            matters = await execution.conclude(outcome) or self._is_limited(execution)
        finally:
            self._live.executions.discard(execution)
            if matters:
                self._executor.changed.set()
                self._wakeup.ring()

    def _is_limited(self, execution: Execution) -> bool:
        """Tell whether a job of its handler may have had to wait for its end, or may have from now on."""
        limits = execution.limits
        return limits.max_running < NO_CAP or bool(limits.fleet) or execution.settings is not self._live.settings

    def _raise_bugs(self) -> None:
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.discard(task)
            task.result()
