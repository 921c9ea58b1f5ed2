"""Looking after what others left behind: expired leases, dead predecessors, malformed or cancelled jobs, old ones.

Every supervisor does this; the fence makes it harmless that they do it at the same time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog
from pymongo.errors import PyMongoError

from supervisor import in_step
from supervisor.core.job import Job
from supervisor.core.outcome import Lost
from supervisor.core.primary import PrimaryWatch, Sighting
from supervisor.core.retry import RetryPolicy
from supervisor.core.transitions import decide
from supervisor.execution import boot_time_s
from supervisor.host import is_dead
from supervisor.limits import limits_of
from supervisor.live import Live
from supervisor.store.candidates import Candidates
from supervisor.store.leases import LeaseStore, claim_key
from supervisor.store.patience import first_line
from supervisor.store.presence import PresenceStore
from supervisor.store.records import Ended
from supervisor.store.results import ResultStore
from supervisor.store.retention import RetentionStore
from supervisor.store.taking import Owner, Seat

log = structlog.get_logger("supervisor.reaper")

RETENTION_EVERY_S = 3600.0
STEP_S = 2.0
SWEEP_EVERY_ROUNDS = 12
"""The look for documents that no claim can meet reads the index of all pending jobs."""
SILENT_S = 600.0
"""After this many seconds without a heartbeat a supervisor's document is removed."""
Orphan = tuple[Job, Seat, Owner]


class Reaper:
    """Runs its round every `lease.reap_every_s` seconds."""

    def __init__(
        self,
        live: Live,
        leases: LeaseStore,
        results: ResultStore,
        candidates: Candidates,
        presence: PresenceStore,
        random: Callable[[], float],
    ) -> None:
        self._live = live
        self._leases = leases
        self._results = results
        self._candidates = candidates
        self._presence = presence
        self._random = random
        self._primary = PrimaryWatch()
        self._rounds = 0

    async def run(self) -> None:
        """Make rounds until cancelled."""
        while True:
            await self._until_due()
            try:
                await self.round()
            except PyMongoError as error:
                log.warning("reaper.failed", reason=first_line(error))

    async def _until_due(self) -> None:
        """Wait for about `lease.reap_every_s`, in steps, since an edit may shorten it meanwhile."""
        begun = time.monotonic()
        share = 0.6 + 0.3 * self._random()  # spread over the supervisors, which tend to be started together
        while (left := begun + self._live.settings.lease.reap_every_s * share - time.monotonic()) > 0:
            await in_step.sleep(min(left, STEP_S))

    async def round(self) -> None:
        """Release expired leases and set malformed documents aside, once. Raises PyMongoError."""
        self._rounds += 1
        expired = await self._look_after() if await self._leases.anything_amiss() else []
        if await self.believe_clock():  # asked last: the driver may have found `expired` on a new primary
            await self._release(expired, "its lease expired", only_if_expired=True)
        if self._rounds % SWEEP_EVERY_ROUNDS == 1:
            await self._candidates.set_aside_unreachable()
            await self._presence.forget_silent(SILENT_S)

    async def _look_after(self) -> list[Orphan]:
        """End what nobody can run or wants to, and return the jobs whose lease has expired."""
        await self._leases.set_aside_malformed()
        await self._leases.end_cancelled()
        held = [execution.claim.job for execution in self._live.executions]
        ours = {
            claim_key(job.id, job.token) for job in held
        }  # their outcome is being recorded, or the guard stops them
        return [each for each in await self._leases.expired() if claim_key(each[0].id, each[0].token) not in ours]

    async def believe_clock(self) -> bool:
        """Look at the primary; tell whether what its clock says of leases is true. Raises PyMongoError.

        To be called once at the start: an election during the first round is seen only by comparison.
        """
        asked_s = boot_time_s()
        election, clock_s = await self._leases.ask_primary()
        sighting = Sighting(election, clock_s, asked_s, boot_time_s())
        lease_s = self._live.settings.lease.seconds
        if change := self._primary.see(sighting, lease_s):
            write = log.warning if change.jump_s else log.info
            write("database.clock_doubted", new_primary=change.new_primary, jump_s=round(change.jump_s, 1),
                  hint=f"no lease is taken for expired for {lease_s:g} s")  # fmt: skip
        return self._primary.believes(sighting)

    async def release_dead_predecessors(self, host: str) -> None:
        """At start: release at once what a supervisor that died on this host was running. Raises PyMongoError."""
        for document in await self._presence.on_host(host):
            if is_dead(document):
                if refused := await self._presence.end_session(document):
                    log.debug("reaper.session_left", predecessor=document["_id"], reason=refused)
                orphans = await self._leases.of_supervisor(document["_id"])
                log.warning("supervisor.predecessor_died", predecessor=document["_id"], jobs=len(orphans))
                await self._release(orphans, "its supervisor died", only_if_expired=False)
                await self._presence.forget(document["_id"])

    async def _release(self, orphans: Sequence[Orphan], cause: str, *, only_if_expired: bool) -> None:
        ended = []
        for job, seat, owner in orphans:
            lost = Lost(supervisor=owner.supervisor, cause=cause)
            change = decide(job, lost, self._policy(job), self._random)
            ended.append(Ended(change, seat, owner, only_if_expired=only_if_expired))
        if not ended:
            return
        for each, released in zip(ended, await self._results.apply(ended), strict=True):
            if released is True:
                change = each.transition
                log.warning("job.orphaned", job_id=str(change.job.id), handler=change.job.handler,
                            supervisor=each.owner.supervisor, cause=cause, status=change.status.value)  # fmt: skip
                self._live.count(change)

    def _policy(self, job: Job) -> RetryPolicy:
        spec = self._live.handlers.get(job.handler)
        return limits_of(spec, self._live.settings).policy if spec else RetryPolicy()


class Retention:
    """Deletes old jobs, once an hour."""

    def __init__(self, live: Live, store: RetentionStore) -> None:
        self._live = live
        self._store = store

    async def run(self) -> None:
        """Apply the retention until cancelled."""
        due = time.monotonic() + RETENTION_EVERY_S / 60  # not in the rush of the start
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = time.monotonic() + RETENTION_EVERY_S
            try:
                deleted = await self._store.apply(self._live.settings.retention)
            except PyMongoError as error:
                log.warning("retention.failed", reason=first_line(error))
            else:
                if any(deleted.values()):
                    log.info("retention.applied", **deleted)
