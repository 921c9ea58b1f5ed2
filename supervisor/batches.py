"""Noticing that a batch has ended: when the last of its jobs is recorded here, and by a look now and then."""

from __future__ import annotations

import asyncio

import bson
import structlog
from pymongo.errors import PyMongoError

from supervisor import in_step
from supervisor.core.job import ENDED
from supervisor.core.transitions import Transition
from supervisor.store.batches import BatchStore
from supervisor.store.patience import first_line

log = structlog.get_logger("supervisor.batches")

LOOK_EVERY_S = 15.0
"""For batches whose last job was cancelled by a client, or whose supervisor died before it could end them."""


class Batches:
    """`run` is its life; `note` may be called while it runs."""

    def __init__(self, store: BatchStore) -> None:
        self._store = store
        self._noted: dict[bytes, object] = {}
        self._rung = asyncio.Event()

    def note(self, change: Transition) -> None:
        """Take a recorded attempt; if its job has ended, its batch may have."""
        batch_id = change.job.batch_id
        if batch_id is not None and change.status in ENDED:
            self._noted[bson.encode({"": batch_id})] = batch_id  # an id may be of any type, also of one without a hash
            self._rung.set()

    async def run(self) -> None:
        """End batches until cancelled."""
        await self._end(None)
        while True:
            try:
                async with asyncio.timeout_at(in_step.after(LOOK_EVERY_S)):
                    await self._rung.wait()
            except TimeoutError:
                self._noted.clear()
                await self._end(None)
            else:
                self._rung.clear()
                noted, self._noted = self._noted, {}
                await self._end(list(noted.values()))

    async def _end(self, ids: list[object] | None) -> None:
        try:
            for batch in await self._store.to_end(ids):
                if await self._store.end_if_over(batch):
                    log.info("batch.ended", batch_id=str(batch["_id"]), jobs=batch.get("total"),
                             job_id=str(batch["on_end"].get("_id")))  # fmt: skip
        except PyMongoError as error:  # the next look finds them
            log.warning("batch.not_ended", reason=first_line(error))
