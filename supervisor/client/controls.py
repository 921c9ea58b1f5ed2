"""`Controls`: pausing handlers, and asking supervisors about running jobs, for whoever reaches the database."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pymongo.database import Database

from supervisor.store.controls import COLLECTION, Pause, pause_filter, pause_update, question_upsert, to_pause

Document = dict[str, Any]

ANSWER_S = 5.0
"""How long an answer is waited for, in seconds."""
_LOOK_EVERY_S = 0.05


class Controls:
    """What a person does beside the jobs; all methods raise PyMongoError."""

    def __init__(self, database: Database[Document]) -> None:
        self._controls = database[COLLECTION]

    def pauses(self) -> list[Pause]:
        """Return the pauses in force."""
        return list(filter(None, map(to_pause, self._controls.find({"kind": "pause"}, sort=[("_id", 1)]))))

    def pause(self, handler: str, reason: str = "") -> Pause | None:
        """Have no supervisor claim jobs of `handler` (`*`: of any); running ones go on.

        Returns the pause that is in force already, which then stays as it is.
        """
        before = [pause for pause in self.pauses() if pause.handler == handler]
        self._controls.update_one(pause_filter(handler), pause_update(Pause(handler, reason)), upsert=True)
        return before[0] if before else None

    def resume(self, handler: str) -> bool:
        """End the pause of `handler`; tell whether there was one."""
        of_handler = {"kind": "pause", "handler": {"$eq": handler}}
        return bool(self._controls.delete_many(of_handler).deleted_count)

    def resume_all(self) -> list[str]:
        """End all pauses, those of single handlers too; return whom they were for."""
        paused = [pause.handler for pause in self.pauses()]
        self._controls.delete_many({"kind": "pause"})
        return paused

    def ask(self, question: Mapping[str, Any], timeout_s: float = ANSWER_S) -> Document | None:
        """Ask the supervisor that `question` names, and return its answer; None if there is none in time."""
        filter_, upsert = question_upsert(question)
        self._controls.update_one(filter_, upsert, upsert=True)
        give_up_at = time.monotonic() + timeout_s
        try:
            while True:
                asked = self._controls.find_one(filter_, {"answer": 1})
                if asked is None or isinstance(asked.get("answer"), dict):
                    return asked and asked["answer"]
                if time.monotonic() > give_up_at:
                    return None
                time.sleep(_LOOK_EVERY_S)
        finally:
            self._controls.delete_one(filter_)
