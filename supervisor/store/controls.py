"""The collection `controls`: what people decide for the fleet, and what they ask of supervisors about running jobs.

    {_id: "pause:ocr", kind: "pause", handler: "ocr" | "*", reason, by: "operator" | "breaker", at}
    {_id: "resize:HOST", kind: "resize", host: HOST | "*", workers: int | "auto" | null, by: "operator" | "config", at}
    {_id: "drain:HOST", kind: "drain", host: HOST | "*", reason, by, at, until?}
    {_id: ObjectId, kind: "question", ask: "stack" | "logs", supervisor, job_id, token, offset, asked_at,
     answer: {…}, answered_at}

`offset` is where in the job's output to begin, in bytes; below 0, from its end. Whoever asks inserts a question, waits
for its answer and deletes it. Anybody may write here, so what cannot be read is passed over, and said.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from supervisor.core.fleet import CONFIG, Drain, Resize, drain_of, resize_of, to_drain, to_resize
from supervisor.store.taking import Owner

COLLECTION = "controls"
EVERY = "*"
"""Stands for all handlers in a pause."""
OPERATOR, BREAKER = "operator", "breaker"
STACK, LOGS = "stack", "logs"
_MOMENT = timedelta(milliseconds=1)
Document = dict[str, Any]
OVER: Document = {"until": {"$type": "date"}, "$expr": {"$lte": ["$until", "$$NOW"]}}
"""What has ended by itself, in the database's time. Deleted now and then; until then, nobody reads it."""


@dataclass(frozen=True)
class Pause:
    """Jobs of `handler` are not claimed; `by` says who decided that, `at` is in the database's time."""

    handler: str
    reason: str = ""
    by: str = OPERATOR
    at: datetime | None = None


Control = Pause | Resize | Drain


@dataclass(frozen=True)
class Found:
    """What is in force for one supervisor and what it is asked; of what cannot be read, the fault by the id."""

    pauses: Mapping[str, Pause] = field(default_factory=dict)
    resize: Resize | None = None
    drain: Drain | None = None
    questions: Sequence[Document] = ()
    malformed: Mapping[str, str] = field(default_factory=dict)


class ControlStore:
    """The controls as one supervisor sees them."""

    def __init__(self, database: AsyncDatabase[Document], owner: Owner) -> None:
        self._controls = database[COLLECTION]
        self._owner = owner

    def changes(self) -> list[Document]:
        """Return the change stream's pipeline that lets through what this supervisor has to look at."""
        ours = [
            {"documentKey._id": {"$regex": "^(pause|resize|drain):"}},
            {"operationType": "insert", "fullDocument.supervisor": self._owner.supervisor},
        ]
        return [{"$match": {"$or": ours}}, {"$project": {"_id": 1}}]

    async def read(self) -> Found:
        """Return what is in force here, and the questions to us that have no answer. Raises PyMongoError."""
        ours = {"supervisor": self._owner.supervisor, "answer": None}
        in_force = {"kind": {"$ne": "question"}, "$nor": [OVER]}
        found = await self._controls.find({"$or": [in_force, ours]}).to_list()
        controls, malformed = read_controls(each for each in found if each.get("kind") != "question")
        return Found(
            pauses={each.handler: each for each in controls if isinstance(each, Pause)},
            resize=resize_of(self._owner.host, (each for each in controls if isinstance(each, Resize))),
            drain=drain_of(self._owner.host, (each for each in controls if isinstance(each, Drain))),
            questions=[each for each in found if each.get("kind") == "question"],
            malformed=malformed,
        )

    async def pause(self, pause: Pause) -> None:
        """Pause a handler; one that is paused already keeps its reason. Raises PyMongoError."""
        await self._controls.update_one(pause_filter(pause.handler), pause_update(pause), upsert=True)

    async def overrule(self, resize: Resize) -> None:
        """Note that this host's configuration has spoken after `resize`, unless somebody has since.

        Raises PyMongoError.
        """
        newer = {"$gt": resize.at} if resize.at else {"$type": "date"}
        of_host, update = resize_upsert(Resize(self._owner.host, None, CONFIG), [resize])
        with contextlib.suppress(DuplicateKeyError):  # it is there, and newer
            await self._controls.update_one({**of_host, "at": {"$not": newer}}, update, upsert=True)

    async def answer(self, question_id: Any, answer: Mapping[str, Any]) -> None:
        """Answer a question; nothing happens if nobody waits for it any more. Raises PyMongoError."""
        fields = {"answer": {"$literal": answer}, "answered_at": "$$NOW"}
        await self._controls.update_one({"_id": {"$eq": question_id}}, [{"$set": fields}])

    async def forget(self, older_than_s: float) -> int:
        """Delete what is over, and questions that whoever asked has left behind, whomever they were for.

        Returns how many. Raises PyMongoError.
        """
        long_ago = {"$subtract": ["$$NOW", int(older_than_s * 1000)]}
        left = {"kind": "question", "$expr": {"$lt": ["$asked_at", long_ago]}}
        return (await self._controls.delete_many({"$or": [OVER, left]})).deleted_count


def read_controls(documents: Iterable[Mapping[str, Any]]) -> tuple[list[Control], dict[str, str]]:
    """Return the controls, and of what is none the fault by the document's id."""
    controls: list[Control] = []
    malformed: dict[str, str] = {}
    for document in documents:
        try:
            controls.append(_to_control(document))
        except ValueError as error:
            malformed[str(document["_id"])] = str(error)
    return controls, malformed


def _to_control(document: Mapping[str, Any]) -> Control:
    match document.get("kind"):
        case "pause":
            return to_pause(document)
        case "resize":
            return to_resize(document)
        case "drain":
            return to_drain(document)
    raise ValueError(f"kind: is {str(document.get('kind'))[:80]!r}, must be pause, resize, drain or question")


def to_pause(document: Mapping[str, Any]) -> Pause:
    """Read a pause; raises ValueError for a document that names no handler."""
    handler, at = document.get("handler"), document.get("at")
    if not isinstance(handler, str):
        raise ValueError(f'handler: is {str(handler)[:80]!r}, must be the name of a handler or "{EVERY}"')  # noqa: TRY004 - a fault of the document's
    reason, by = str(document.get("reason") or ""), str(document.get("by") or OPERATOR)
    return Pause(handler, reason, by, at if isinstance(at, datetime) else None)


def pause_filter(handler: str) -> Document:
    """Return the filter for the pause of a handler, as we write it."""
    return {"_id": f"pause:{handler}"}


def pause_update(pause: Pause) -> list[Document]:
    """Return the upsert that makes a pause and leaves one that is there as it is."""
    fields = {"kind": "pause", "handler": pause.handler, "reason": pause.reason, "by": pause.by}
    values = {name: {"$ifNull": [f"${name}", {"$literal": value}]} for name, value in fields.items()}
    return [{"$set": {**values, "at": {"$ifNull": ["$at", "$$NOW"]}}}]


def resize_upsert(resize: Resize, after: Iterable[Resize]) -> tuple[Document, list[Document]]:
    """Return filter and update that say how many workers a host is to have, in place of what was said before.

    It is dated behind those in `after`: a new primary's clock may be slow, and the last word is the one that holds.
    """
    newest = max((each.at for each in after if each.at), default=None)
    at = {"$max": ["$$NOW", newest and newest + _MOMENT]}
    fields = {"kind": "resize", "host": resize.host, "workers": resize.workers, "by": resize.by}
    values = {name: {"$literal": value} for name, value in fields.items()}
    return {"_id": f"resize:{resize.host}"}, [{"$set": {**values, "at": at}}]


def drain_upsert(drain: Drain, for_s: float | None = None) -> tuple[Document, list[Document]]:
    """Return filter and update that drain a host, for some seconds or until it is ended."""
    until = "$$REMOVE" if for_s is None else {"$add": ["$$NOW", int(for_s * 1000)]}
    fields = {"kind": "drain", "host": drain.host, "reason": drain.reason, "by": drain.by}
    values = {name: {"$literal": value} for name, value in fields.items()}
    return {"_id": f"drain:{drain.host}"}, [{"$set": {**values, "at": "$$NOW", "until": until}}]


def question_upsert(question: Mapping[str, Any]) -> tuple[Document, list[Document]]:
    """Return filter and update that insert a new question, dated by the database."""
    fields = {name: {"$literal": value} for name, value in question.items()}
    return {"_id": ObjectId()}, [{"$set": {"kind": "question", **fields, "asked_at": "$$NOW"}}]
