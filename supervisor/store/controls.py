"""The collection `controls`: which handlers are paused, and what people ask of supervisors about running jobs.

    {_id: "pause:ocr", kind: "pause", handler: "ocr" | "*", reason, by: "operator" | "breaker", at}
    {_id: ObjectId, kind: "question", ask: "stack" | "logs", supervisor, job_id, token, offset, asked_at,
     answer: {…}, answered_at}

`offset` is where in the job's output to begin, in bytes; below 0, from its end. Whoever asks inserts a question, waits
for its answer and deletes it. Anybody may write here, so what does not look like a pause or a question is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId
from pymongo.asynchronous.database import AsyncDatabase

COLLECTION = "controls"
EVERY = "*"
"""Stands for all handlers in a pause."""
OPERATOR, BREAKER = "operator", "breaker"
STACK, LOGS = "stack", "logs"
Document = dict[str, Any]


@dataclass(frozen=True)
class Pause:
    """Jobs of `handler` are not claimed; `by` says who decided that, `at` is in the database's time."""

    handler: str
    reason: str = ""
    by: str = OPERATOR
    at: datetime | None = None


class ControlStore:
    """The controls as one supervisor sees them."""

    def __init__(self, database: AsyncDatabase[Document], supervisor: str) -> None:
        self._controls = database[COLLECTION]
        self._supervisor = supervisor

    def changes(self) -> list[Document]:
        """Return the change stream's pipeline that lets through what this supervisor has to look at."""
        ours = [
            {"documentKey._id": {"$regex": "^pause:"}},
            {"operationType": "insert", "fullDocument.supervisor": self._supervisor},
        ]
        return [{"$match": {"$or": ours}}, {"$project": {"_id": 1}}]

    async def read(self) -> tuple[dict[str, Pause], list[Document]]:
        """Return the pauses in force by handler, and the questions to us that have no answer. Raises PyMongoError."""
        ours = {"kind": "question", "supervisor": self._supervisor, "answer": None}
        found = await self._controls.find({"$or": [{"kind": "pause"}, ours]}).to_list()
        pauses = [to_pause(document) for document in found if document["kind"] == "pause"]
        questions = [document for document in found if document["kind"] == "question"]
        return {pause.handler: pause for pause in pauses if pause}, questions

    async def pause(self, pause: Pause) -> None:
        """Pause a handler; one that is paused already keeps its reason. Raises PyMongoError."""
        await self._controls.update_one(pause_filter(pause.handler), pause_update(pause), upsert=True)

    async def answer(self, question_id: Any, answer: Mapping[str, Any]) -> None:
        """Answer a question; nothing happens if nobody waits for it any more. Raises PyMongoError."""
        fields = {"answer": {"$literal": answer}, "answered_at": "$$NOW"}
        await self._controls.update_one({"_id": {"$eq": question_id}}, [{"$set": fields}])

    async def forget_questions(self, older_than_s: float) -> int:
        """Delete questions that whoever asked has left behind, whomever they were for; return how many."""
        long_ago = {"$subtract": ["$$NOW", int(older_than_s * 1000)]}
        left = {"kind": "question", "$expr": {"$lt": ["$asked_at", long_ago]}}
        return (await self._controls.delete_many(left)).deleted_count


def to_pause(document: Mapping[str, Any]) -> Pause | None:
    """Read a pause; None for a document that names no handler."""
    handler, at = document.get("handler"), document.get("at")
    if not isinstance(handler, str):
        return None
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


def question_upsert(question: Mapping[str, Any]) -> tuple[Document, list[Document]]:
    """Return filter and update that insert a new question, dated by the database."""
    fields = {name: {"$literal": value} for name, value in question.items()}
    return {"_id": ObjectId()}, [{"$set": {"kind": "question", **fields, "asked_at": "$$NOW"}}]
