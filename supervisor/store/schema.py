"""Indexes and the `$jsonSchema` validator of the jobs collection, and the check that they are there.

`init` creates them. A supervisor creates them by itself only in an empty collection: building an index on a large one
can hang while a member of the replica set is down, and that is not a thing to do at start-up.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from supervisor.core.batch import COLLECTION as BATCHES
from supervisor.core.files import OWNERS
from supervisor.core.job import ACTIVE, FIELDS, Field, Status
from supervisor.core.outcome import ErrorKind
from supervisor.errors import DatabaseRefusedError
from supervisor.store.counts import INDEX as QUARANTINED
from supervisor.store.files import FILES

_BSON_TYPES = {
    "string": ["string"],
    "document": ["object"],
    "array": ["array"],
    "boolean": ["bool"],
    "date": ["date"],
    "integer": ["int", "long", "double"],
    "number": ["int", "long", "double"],
}


@dataclass(frozen=True)
class Index:
    """An index of ours, and what gets slow or wrong without it."""

    name: str
    keys: tuple[tuple[str, int], ...]
    purpose: str
    unique: bool = False
    only_where: tuple[tuple[str, Any], ...] = ()
    collection: str | None = None
    """None: the collection of the jobs, whatever its name."""

    def model(self) -> IndexModel:
        """Return it as pymongo wants it."""
        options: dict[str, Any] = {"name": self.name}
        if self.unique:
            options["unique"] = True
        if self.only_where:
            options["partialFilterExpression"] = dict(self.only_where)
        return IndexModel(list(self.keys), **options)


INDEXES = (
    Index(
        "claim",
        (
            ("status", ASCENDING),
            ("handler", ASCENDING),
            ("priority", DESCENDING),
            ("run_at", ASCENDING),
            ("_id", ASCENDING),
        ),
        "claims in order without reading jobs that are not due",
    ),
    Index(
        "groups",
        (
            ("status", ASCENDING),
            ("handler", ASCENDING),
            ("group_key", ASCENDING),
            ("priority", DESCENDING),
            ("run_at", ASCENDING),
            ("_id", ASCENDING),
        ),
        "claims past the jobs of full groups (max_running_per_group)",
        only_where=(("group_key", {"$exists": True}),),
    ),
    Index(
        "lease",
        (("lease.expires_at", ASCENDING),),
        "the reaper finds expired leases",
        only_where=(("status", Status.PROCESSING.value),),
    ),
    Index(
        "cancel",
        (("cancel_requested", ASCENDING),),
        "pending jobs that somebody asked to cancel end at once, however many wait",
        only_where=(("status", Status.PENDING.value), ("cancel_requested", True)),
    ),
    Index(
        "unique_key",
        (("unique_key", ASCENDING),),
        "at most one pending or processing job with a unique_key",
        unique=True,
        only_where=(("unique_key", {"$type": "string"}), ("status", {"$in": ACTIVE})),
    ),
    Index(
        "batch",
        (("batch_id", ASCENDING), ("status", ASCENDING), ("finished_at", ASCENDING)),
        "progress of a batch",
        only_where=(("batch_id", {"$exists": True}),),
    ),
    Index(
        "ended",
        (("status", ASCENDING), ("finished_at", ASCENDING)),
        "retention and listings by end",
        only_where=(("finished_at", {"$exists": True}),),  # what has not ended has no entry to be moved by a claim
    ),
    Index(
        QUARANTINED,
        (("status", ASCENDING), ("error.kind", ASCENDING)),
        "quarantined jobs are counted without reading all that failed",
        only_where=(("error.kind", ErrorKind.POISON.value),),
    ),
    Index(
        "unended",
        (("ended_at", ASCENDING),),
        "batches with a job at their end",
        only_where=(("on_end", {"$exists": True}),),
        collection=BATCHES,
    ),
    Index("owners", ((OWNERS, ASCENDING),), "retention finds the files of the jobs that it deletes", collection=FILES),
)


def json_schema() -> dict[str, Any]:
    """Return the validator for the jobs collection, generated from the table of fields."""
    return {
        "bsonType": "object",
        "required": [name for name, field in FIELDS.items() if field.required],
        "properties": {name: _property(field) for name, field in FIELDS.items() if field.kind != "any"},
    }


def _property(field: Field, *, nested: bool = False) -> dict[str, Any]:
    allowed: dict[str, Any] = {"description": field.meaning}
    if field.kind == "status":
        return {**allowed, "enum": [status.value for status in Status]}
    if field.kind == "followers":
        return {**allowed, "bsonType": ["array", "null"], "items": _follower()}
    # a missing optional field and null are the same thing; a required one must be there
    allowed["bsonType"] = _BSON_TYPES[field.kind] + ([] if field.required and not nested else ["null"])
    if field.kind == "integer":
        allowed["multipleOf"] = 1
    if field.minimum is not None:
        allowed["minimum"] = field.minimum
    if field.maximum is not None:
        allowed["maximum"] = field.maximum
    return allowed


def _follower() -> dict[str, Any]:
    return {
        "bsonType": "object",
        "required": ["handler"],
        "properties": {
            "handler": {"bsonType": "string"},
            "payload": {"bsonType": ["object", "null"]},
            "priority": _property(FIELDS["priority"]),
            "run_at": _property(FIELDS["run_at"]),
        },
    }


async def ensure(database: AsyncDatabase[dict[str, Any]], collection: str) -> list[str]:
    """Create the collection, its validator and its indexes where they are missing; return what was done, in words.

    Existing documents that break the schema stay as they are. Raises DatabaseRefusedError for an index of the same
    name with other keys: dropping somebody's index is the operator's decision.
    """
    done = []
    validator: dict[str, Any] = {"validator": {"$jsonSchema": json_schema()}, "validationLevel": "moderate"}
    if collection not in await database.list_collection_names():
        await database.create_collection(collection, **validator)
        done.append(f"created the collection {collection} with its validator")
    else:
        await database.command({"collMod": collection, **validator})
        done.append(f"updated the validator of {collection}")
    missing = await missing_indexes(database, collection)
    for index in missing:
        try:
            await database[index.collection or collection].create_indexes([index.model()])
        except OperationFailure as error:
            raise DatabaseRefusedError(f"index {index.name!r} cannot be created: {error}") from None
        done.append(f"created the index {index.name}: {index.purpose}")
    return done


async def missing_indexes(database: AsyncDatabase[dict[str, Any]], collection: str) -> list[Index]:
    """Return those of our indexes that the collection, or that of the files, lacks, by name and keys."""
    missing = []
    for where, ours in groupby(INDEXES, lambda index: index.collection or collection):
        present = {(name, tuple(info["key"])) for name, info in (await database[where].index_information()).items()}
        missing += [index for index in ours if (index.name, index.keys) not in present]
    return missing


async def is_empty(database: AsyncDatabase[dict[str, Any]], collection: str) -> bool:
    """Tell whether the collection has no document (or does not exist)."""
    return await database[collection].find_one({}, {"_id": 1}) is None
