"""Looking at everything that the screen shows, once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pymongo.errors import PyMongoError

from supervisor.client.backlog import Backlog
from supervisor.client.documents import id_text, is_alive
from supervisor.client.operator import OperatorQueue
from supervisor.core.pieces import parts
from supervisor.store.controls import Pause

Document = Mapping[str, Any]

PATIENCE = 10
"""Counting the queue may take one part in so many of the time: a long queue is counted less often."""


@dataclass(frozen=True)
class Look:
    """What was seen, at one time of the database's clock."""

    now: datetime
    supervisors: Sequence[Document] = ()
    pauses: Sequence[Pause] = ()
    backlogs: Mapping[str, Backlog] | None = None
    """By handler; None where the queue is too long to be counted within the deadline of a call."""
    jobs: Mapping[str, Document] = field(default_factory=dict)
    """Progress and attempt of the running jobs, by their ids as text."""

    @property
    def alive(self) -> list[Document]:
        """The supervisors that have been heard of lately."""
        return [each for each in self.supervisors if is_alive(each)]


class Lookout:
    """Looks, and knows how long counting took."""

    def __init__(self, queue: OperatorQueue) -> None:
        self._queue = queue
        self._backlogs: Mapping[str, Backlog] | None = None
        self._count_again_at = 0.0

    def look(self) -> Look:
        """Return what there is to see; takes as long as the database does. Raises PyMongoError."""
        supervisors = self._queue.supervisors()
        running = [place["job_id"] for each in supervisors if is_alive(each) for name in ("slots", "coroutines")
                   for place in parts(each, name) if place.get("job_id") is not None]  # fmt: skip
        jobs = {id_text(job["_id"]): job for job in self._queue.progress(running)}
        return Look(self._queue.now(), supervisors, self._queue.controls.pauses(), self._count(), jobs)

    def _count(self) -> Mapping[str, Backlog] | None:
        started = time.monotonic()
        if started >= self._count_again_at:
            try:
                self._backlogs = self._queue.backlogs()
            except PyMongoError as error:
                if not error.timeout:
                    raise
                self._backlogs = None
            ended = time.monotonic()
            self._count_again_at = ended + PATIENCE * (ended - started)
        return self._backlogs
