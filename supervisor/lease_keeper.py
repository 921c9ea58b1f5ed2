"""Keeping the leases of running jobs, and letting go in time of those that cannot be kept.

A lease is renewed every quarter of its life. What we may believe of it is counted on our own boot-time clock from
*before* the renewal was sent, so that we never trust it longer than the database does. A supervisor that cannot renew
stops its jobs before another host may claim them.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import structlog
from pymongo.errors import PyMongoError

from supervisor import in_step
from supervisor.core.job import Job
from supervisor.core.outcome import Interrupted
from supervisor.core.retry import RetryPolicy
from supervisor.core.transitions import decide
from supervisor.execution import Execution, boot_time_s
from supervisor.live import Live
from supervisor.pool.attempt import StopReason
from supervisor.recorder import Recorder
from supervisor.store.leases import LeaseStore, claim_key
from supervisor.store.patience import first_line
from supervisor.store.records import Ended
from supervisor.store.taking import Owner

log = structlog.get_logger("supervisor.leases")

CANCEL_EVERY_S = 0.5
STEP_S = 1.0
GUARD_EVERY_S = 0.5
RETRY_EVERY_S = 1.0


class LeaseKeeper:
    """Renews the leases of all executions, guards them, and passes on requests to cancel."""

    def __init__(self, live: Live, store: LeaseStore, recorder: Recorder, owner: Owner) -> None:
        self._live = live
        self._store = store
        self._recorder = recorder
        self._owner = owner

    async def run(self) -> None:
        """Keep the leases until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._renew_for_ever(), name="renew leases")
            group.create_task(self._guard_for_ever(), name="guard leases")
            group.create_task(self._watch_cancels(), name="watch cancels")
            group.create_task(self._watch_strays(), name="watch strays")

    async def _renew_for_ever(self) -> None:
        begun = boot_time_s()
        while True:
            if not self._live.executions:
                await self._live.executions.some.wait()
                begun = boot_time_s()
            await self._until_due(begun)
            begun = boot_time_s()
            try:
                await self.renew()
            except PyMongoError as error:
                log.warning("lease.renewal_failed", reason=first_line(error), jobs=len(self._live.executions))
                self._live.outage.failed(error)
                await asyncio.sleep(min(RETRY_EVERY_S, self._live.settings.lease.seconds / 8))
                begun = -math.inf

    async def _until_due(self, begun: float) -> None:
        """Wait for a quarter of the lease since `begun`, while there is one to renew.

        In steps, since an edit may shorten it meanwhile.
        """
        while self._live.executions:
            left_s = begun + self._live.settings.lease.seconds / 4 - boot_time_s()
            if left_s <= 0:
                return
            await in_step.sleep(min(left_s, STEP_S))

    async def renew(self, executions: Sequence[Execution] | None = None) -> None:
        """Renew the leases of all executions in one write, or of some; stop the jobs whose lease is gone.

        Raises PyMongoError.
        """
        executions = list(self._live.executions) if executions is None else executions
        sent_at, lease_s = boot_time_s(), self._live.settings.lease.seconds
        claims = [execution.claim for execution in executions]
        lost = await self._store.renew(claims, lease_s)
        if executions:  # without any, nothing was asked
            self._live.outage.answered()
        for execution, told in zip(executions, claims, strict=True):
            if execution.claim.job not in lost:
                execution.trusted_until = sent_at + lease_s
                if execution.claim is told:
                    execution.moved_at = None
            elif execution in self._live.executions and execution.holds_lease:  # else its record says what it was
                log.warning("lease.lost", job_id=str(execution.claim.job.id), slot=execution.claim.seat.slot)
                execution.stop(StopReason.LEASE_LOST)

    async def _guard_for_ever(self) -> None:
        while True:
            await self._live.executions.some.wait()
            await in_step.sleep(GUARD_EVERY_S)
            self.guard(boot_time_s())

    def guard(self, now: float) -> None:
        """Stop the jobs whose lease may run out before their processes are gone."""
        for execution in [each for each in self._live.executions if each.holds_lease]:
            if now > execution.trusted_until - self._margin_s():
                log.error("lease.expiring", job_id=str(execution.claim.job.id), hint="the lease could not be renewed")
                execution.stop(StopReason.LEASE_LOST)

    def in_use(self) -> int:
        """Return how many leases are held; may be called from any thread, as may `first_end`."""
        return len(self._live.executions)

    def first_end(self) -> float:
        """Return when `guard` will stop the first job, unless its lease is renewed: boot-time seconds, or infinity."""
        ends = [each.trusted_until for each in list(self._live.executions) if each.holds_lease]
        return min(ends, default=math.inf) - self._margin_s()

    def _margin_s(self) -> float:
        return min(5.0, self._live.settings.lease.seconds / 4)

    async def _watch_cancels(self) -> None:
        while True:
            await self._live.executions.some.wait()
            await in_step.sleep(CANCEL_EVERY_S)
            if self._live.executions:
                try:
                    await self._tell_moved()
                    asked = await self._store.cancel_requests()
                except PyMongoError:
                    continue  # renewal, which matters more, says that the database is away
                for execution in self._live.executions:
                    job = execution.claim.job
                    if claim_key(job.id, job.token) in asked:
                        execution.stop(StopReason.CANCEL)

    async def _tell_moved(self) -> None:
        """Have the lease of a job that was given another place name that, unless it ends in a moment."""
        since = boot_time_s() - CANCEL_EVERY_S
        moved = [each for each in self._live.executions if each.moved_at is not None and each.moved_at < since]
        if moved:
            await self.renew(moved)

    async def _watch_strays(self) -> None:
        while True:
            await asyncio.sleep(self._live.settings.lease.seconds / 4)
            try:
                await self._give_back_strays()
            except PyMongoError:
                continue  # as above

    async def _give_back_strays(self) -> None:
        """Return jobs that were claimed in our name by a claim whose reply was lost."""
        async with self._live.claiming.none():
            known: list[Job] = [execution.claim.job for execution in self._live.executions]
            strays = await self._store.strays(known)
        for job, seat in strays:
            log.warning("lease.stray", job_id=str(job.id), hint="the reply to its claim was lost")
            change = decide(job, Interrupted(reason="the claim's reply was lost"), RetryPolicy(), lambda: 0.0)
            await self._recorder.record(Ended(change, seat, self._owner))
