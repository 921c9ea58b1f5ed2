"""The producer: inserts the jobs a few at a time, and remembers outside of the database what was acknowledged."""

import threading
from typing import Any

from pymongo import ReadPreference, WriteConcern
from pymongo.errors import BulkWriteError, PyMongoError

from tests.chaos.kinds import Document, Kind, draw
from tests.chaos.world import World

QUEUE = 20
"""Pending jobs that it keeps at most: what a fault puts back is soon claimed again, and the recovery can be timed."""
EVERY_S = 0.1
_DUPLICATE_KEY = 11000


class Producer(threading.Thread):
    """Spreads the jobs over the plan's time, or takes longer where the supervisors do."""

    def __init__(self, world: World) -> None:
        super().__init__(name="producer", daemon=True)
        self.ordered: dict[str, Kind] = {}
        """The kind of each job whose insert was acknowledged by a majority, by its id."""
        self.finished = threading.Event()
        self._world = world
        self._rng = world.random("jobs")

    def run(self) -> None:
        try:
            with self._world.client(timeout_ms=5000) as client:
                jobs = self._world.jobs(client).with_options(write_concern=WriteConcern(w="majority", j=True))
                waiting = draw(self._rng, self._world.plan.jobs)
                while waiting and not self._world.over.is_set():
                    count = self._room(jobs, len(waiting))
                    batch, waiting = waiting[:count], waiting[count:]
                    self._insert(jobs, batch)
                    self._world.wait(EVERY_S)
        except Exception as error:
            self._world.troubles.append(f"the producer failed: {type(error).__name__}: {error}")
        finally:
            self.finished.set()

    def _room(self, jobs: Any, left: int) -> int:
        plan = self._world.plan
        due = round(plan.jobs * min(1.0, self._world.elapsed() / plan.seconds)) - (plan.jobs - left)
        try:
            near = jobs.with_options(read_preference=ReadPreference.NEAREST)
            return max(0, min(due, QUEUE - near.count_documents({"status": "pending"})))
        except PyMongoError:
            return 0

    def _insert(self, jobs: Any, kinds: list[Kind]) -> None:
        """Insert until it is acknowledged; a malformed document has to be carried past the validator."""
        for past_validator in (False, True):
            chosen = [kind for kind in kinds if (kind.name == "malformed") is past_validator]
            documents = [kind.document(self._rng) for kind in chosen]
            while documents and not self._acknowledged(jobs, documents, past_validator):
                self._world.wait(EVERY_S)
            self.ordered |= {str(job["_id"]): kind for job, kind in zip(documents, chosen, strict=True)}

    def _acknowledged(self, jobs: Any, documents: list[Document], past_validator: bool) -> bool:
        try:
            jobs.insert_many(documents, ordered=False, bypass_document_validation=past_validator)
        except BulkWriteError as error:
            codes = {failed["code"] for failed in error.details["writeErrors"]}
            # an earlier try got through; only a write that is acknowledged as a whole says that this is durable
            return codes == {_DUPLICATE_KEY} and not error.details["writeConcernErrors"]
        except PyMongoError:
            return False
        return True
