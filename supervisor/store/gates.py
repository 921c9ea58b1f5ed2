"""Gates: where supervisors agree on limits across machines, one document per limited handler.

    {_id: "jobs:ocr", turn: 17, reserved: [{id, token, group, until}], started: [{at, count, turn}]}

Whoever claims counts what runs, reserves what it wants at the gate if nobody has reserved since it looked (`turn`), and
only then takes the jobs, before `until` by the database's clock. So a limit is never exceeded, nothing is locked, and a
supervisor that dies half way holds a place for RESERVED_S seconds at most. A start is dated after it has happened;
until then it counts as happening now, so that a rate holds however long a claim takes. What runs is counted in the jobs
themselves: a count of its own would be wrong after the first crash.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import bson
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from supervisor.core.gate import FleetLimits, Opening, Started, opening, to_remember
from supervisor.core.job import Status

COLLECTION = "gates"
RESERVED_S = 5.0
"""How long a supervisor may take from reserving to claiming: the deadline of a call to the database."""
Document = dict[str, Any]


@dataclass(frozen=True)
class Gate:
    """A gate as it was seen at `now`, in the database's time."""

    id: str
    turn: int
    limits: FleetLimits
    opening: Opening
    reserved: Sequence[Document]
    started: Sequence[Started]
    now: datetime


class GateStore:
    """The gates of one collection of jobs."""

    def __init__(self, database: AsyncDatabase[Document], collection: str) -> None:
        # a turn that an election may undo is no turn
        self._gates = database.get_collection(COLLECTION, read_concern=ReadConcern("majority"))
        self._jobs = database[collection]

    async def look(self, limits: Mapping[str, FleetLimits]) -> dict[str, Gate]:
        """Return the gate of each handler in `limits`. Raises PyMongoError."""
        if not limits:
            return {}
        documents = await self._read([gate_id(self._jobs.name, handler) for handler in limits])
        # in this order: a job that is taken meanwhile is counted twice rather than not at all
        reserved = await self._not_taken_yet(list(documents.values()))
        running = await self._running(list(limits))
        gates = {}
        for handler, of_handler in limits.items():
            document = documents[gate_id(self._jobs.name, handler)]
            kept = reserved[document["_id"]]
            groups = Counter([*running.get(handler, []), *(each.get("group") for each in kept)])
            started, now = started_in(document), document["now"]
            gates[handler] = Gate(
                id=document["_id"],
                turn=document["turn"],
                limits=of_handler,
                opening=opening(of_handler, groups, started, now),
                reserved=kept,
                started=started,
                now=now,
            )
        return gates

    async def reserve(self, gate: Gate, jobs: Sequence[Document]) -> datetime | None:
        """Reserve a place for each of `jobs`, {id, token, group}; None if somebody else has been at the gate since.

        Returns until when, in the database's time, they may be taken. Raises PyMongoError.
        """
        until = gate.now + timedelta(seconds=RESERVED_S)
        wanted = [{**job, "until": until} for job in jobs]
        started = to_remember(gate.started, gate.limits, gate.now)
        if gate.limits.starts:  # dated as late as they can be, until `confirm`
            started.append(Started(until, len(jobs), gate.turn + 1))
        fields = {
            "turn": gate.turn + 1,
            "reserved": [*gate.reserved, *wanted],
            "started": [asdict(each) for each in started],
        }
        done = await self._gates.update_one({"_id": gate.id, "turn": gate.turn}, {"$set": fields})
        return until if done.matched_count else None

    async def confirm(self, gate: Gate) -> None:
        """Say that what was reserved has been started by now, so that the rate counts from now. Raises PyMongoError."""
        ours = {"$eq": ["$$each.turn", gate.turn + 1]}
        dated = {"$mergeObjects": ["$$each", {"at": "$$NOW", "turn": None}]}
        mapped = {"$map": {"input": "$started", "as": "each", "in": {"$cond": [ours, dated, "$$each"]}}}
        await self._gates.update_one({"_id": gate.id, "started.turn": gate.turn + 1}, [{"$set": {"started": mapped}}])

    async def _read(self, ids: Sequence[str]) -> dict[str, Document]:
        """Return the documents by id, made where there are none; what somebody else has written there is replaced."""
        timed: list[Document] = [{"$match": {"_id": {"$in": ids}}}, {"$set": {"now": "$$NOW"}}]
        while True:
            documents = await (await self._gates.aggregate(timed)).to_list()
            found = {each["_id"]: each for each in documents if isinstance(each.get("turn"), int)}
            missing = [each for each in ids if each not in found]
            if not missing:
                return found
            for each in missing:
                unusable = {"_id": each, "turn": {"$not": {"$type": ["int", "long", "bool"]}}}
                with contextlib.suppress(DuplicateKeyError):  # somebody else has made it
                    await self._gates.update_one(unusable, {"$set": {"turn": 0}}, upsert=True)

    async def _not_taken_yet(self, documents: Sequence[Document]) -> dict[str, list[Document]]:
        """Return, by gate, the reservations that still stand for a job that does not run yet."""
        standing = {each["_id"]: [one for one in _reserved(each) if one["until"] > each["now"]] for each in documents}
        ids = [one["id"] for ones in standing.values() for one in ones]
        if not ids:
            return standing
        waiting = {"_id": {"$in": ids}, "status": Status.PENDING.value}
        found = await self._jobs.find(waiting, {"claims": 1}).to_list()
        claims = {_key(job["_id"]): job.get("claims") or 0 for job in found}
        return {
            gate: [one for one in ones if claims.get(_key(one["id"]), one["token"]) < one["token"]]
            for gate, ones in standing.items()
        }

    async def _running(self, handlers: Sequence[str]) -> dict[str, list[str | None]]:
        """Return, by handler, the group of each job that is `processing`."""
        running = {"status": Status.PROCESSING.value, "handler": {"$in": handlers}}
        groups: dict[str, list[str | None]] = {}
        async for job in self._jobs.find(running, {"handler": 1, "group_key": 1, "_id": 0}):
            key = job.get("group_key")
            groups.setdefault(job["handler"], []).append(key if isinstance(key, str) else None)
        return groups


def gate_id(collection: str, handler: str) -> str:
    """Return the id of the gate of `handler` in a collection of jobs; a database may hold several."""
    return f"{collection}:{handler}"


def _reserved(document: Document) -> list[Document]:
    return _entries(document, "reserved", {"id": object, "token": int, "until": datetime})


def started_in(document: Document) -> list[Started]:
    """Read the latest starts from the document of a gate."""
    found = _entries(document, "started", {"at": datetime, "count": int})
    turns = [each.get("turn") for each in found]
    return [
        Started(each["at"], each["count"], turn if isinstance(turn, int) else None)
        for each, turn in zip(found, turns, strict=True)
    ]


def _entries(document: Document, name: str, types: Mapping[str, type]) -> list[Document]:
    """Return the entries of an array, without those that do not look like ours: anybody may write here."""
    found = document.get(name)
    entries = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    return [each for each in entries if all(isinstance(each.get(key), type_) for key, type_ in types.items())]


def _key(job_id: Any) -> bytes:
    return bson.encode({"": job_id})
