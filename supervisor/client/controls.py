"""`Controls`: pausing handlers, resizing and draining hosts, and asking supervisors about running jobs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pymongo.database import Database

from supervisor.core.fleet import EVERYWHERE, Drain, Resize
from supervisor.store.controls import (
    COLLECTION,
    OVER,
    Control,
    Pause,
    drain_upsert,
    pause_filter,
    pause_update,
    question_upsert,
    read_controls,
    resize_upsert,
)

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
        return [each for each in self._read("pause") if isinstance(each, Pause)]

    def resizes(self) -> list[Resize]:
        """Return what was last said of the size of each host and of all; of those, the newest holds for a host."""
        return [each for each in self._read("resize") if isinstance(each, Resize)]

    def drains(self) -> list[Drain]:
        """Return the drains in force."""
        return [each for each in self._read("drain") if isinstance(each, Drain)]

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

    def malformed(self) -> dict[str, str]:
        """Return what is wrong with the documents that supervisors pass over, by their ids."""
        return read_controls(self._controls.find({"kind": {"$ne": "question"}}, sort=[("_id", 1)]))[1]

    def resize(self, workers: int | str | None, host: str = EVERYWHERE) -> None:
        """Have every supervisor on `host` keep `workers` workers: a number, "auto", or None for what it is configured.

        It holds until somebody else says otherwise, an edit of `pool.workers` there included.
        """
        of_host, upsert = resize_upsert(Resize(host, workers), self.resizes())
        self._controls.update_one(of_host, upsert, upsert=True)

    def drain(self, host: str = EVERYWHERE, reason: str = "", for_s: float | None = None) -> Drain | None:
        """Have no supervisor on `host` claim anything; running jobs get `shutdown.drain_s` and are then given back.

        It holds until `undrain`, and no longer than `for_s` seconds. Returns the drain that is in force already, which
        then stays as it is.
        """
        for before in self.drains():
            if before.host == host:
                return before
        of_host, upsert = drain_upsert(Drain(host, reason), for_s)
        self._controls.update_one(of_host, upsert, upsert=True)
        return None

    def undrain(self, host: str | None = None) -> list[str]:
        """End the drain of `host` (None: all drains); return whose."""
        chosen = {} if host is None else {"host": {"$eq": host}}
        drained = [drain.host for drain in self.drains() if host in (None, drain.host)]
        self._controls.delete_many({"kind": "drain", **chosen})
        return drained

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

    def _read(self, kind: str) -> list[Control]:
        controls, _ = read_controls(self._controls.find({"kind": kind, "$nor": [OVER]}, sort=[("_id", 1)]))
        return controls
