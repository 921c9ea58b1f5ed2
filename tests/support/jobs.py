"""Makes jobs, outcomes and job documents, so that a test names only what it is about."""

from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase

from supervisor.core.job import Job
from supervisor.core.lookahead import Place
from supervisor.core.outcome import AnyOutcome, ErrorInfo, ErrorKind, Raised, Returned
from supervisor.core.retry import RetryPolicy
from supervisor.core.transitions import Transition, decide
from supervisor.store.claims import ClaimStore
from supervisor.store.connection import connect
from supervisor.store.records import Ended
from supervisor.store.taking import Claim, Owner, Seat

JOBS = "jobs"
OWNER = Owner("supervisor-1", "host-1")
RIVAL = Owner("supervisor-2", "host-2")
SEAT = Seat(0, 4711)
LEASE_S = 60.0
POLICY = RetryPolicy()

Jobs = AsyncCollection[dict[str, Any]]


def half() -> float:
    """Stand for a source of randomness where the jitter does not matter."""
    return 0.5


def job(**changes: Any) -> Job:
    """Return a job in its first attempt."""
    return Job(**{"id": "job-1", "handler": "count", "attempt": 1, "token": 1, **changes})


def pending(**fields: Any) -> dict[str, Any]:
    """Return a document as a producer inserts it."""
    return {"handler": "count", "payload": {}, "status": "pending", **fields}


def returned(result: Mapping[str, Any] | None = None, **fields: Any) -> Returned:
    """Return the outcome of a handler that returned `result`."""
    return Returned(result=None if result is None else bson.encode(result), **fields)


def raised(kind: ErrorKind = ErrorKind.EXCEPTION, message: str = "boom", **fields: Any) -> Raised:
    """Return the outcome of a handler that raised, or whose payload or result was refused."""
    return Raised(kind=kind, error=ErrorInfo(message, "ValueError"), **fields)


def change(of: Job, outcome: AnyOutcome) -> Transition:
    """Return what `outcome` does to a job under the default policy."""
    return decide(of, outcome, POLICY, half)


def ended(claim: Claim, outcome: AnyOutcome, owner: Owner = OWNER, **more: Any) -> Ended:
    """Return the record of `outcome` for a claimed job."""
    return Ended(change(claim.job, outcome), claim.seat, owner, **more)


def places(count: int) -> list[Place]:
    """Return free slots 0, 1, …"""
    return [Place(slot, 1000 + slot) for slot in range(count)]


def room(*handlers: str, each: int = 100) -> dict[str, int]:
    """Return room for `each` more jobs of every handler named."""
    return dict.fromkeys(handlers or ("count",), each)


async def claim_some(
    store: ClaimStore,
    count: int = 1,
    handlers: Mapping[str, int] | None = None,
    *,
    lease_s: float = LEASE_S,
    payload_kb: int = 1024,
) -> list[Claim]:
    """Claim up to `count` jobs into slots 0, 1, …"""
    return await store.claim(handlers or room(), places(count), lease_s=lease_s, payload_kb=payload_kb)


async def claim_one(store: ClaimStore, **options: Any) -> Claim:
    """Claim the next job, which must be there."""
    (claim,) = await claim_some(store, 1, **options)
    return claim


async def insert_unchecked(jobs: Jobs, *documents: Mapping[str, Any]) -> list[Any]:
    """Insert past the validator, as a program with the right to do so can; return the ids."""
    done = await jobs.insert_many([{**document} for document in documents], bypass_document_validation=True)
    return done.inserted_ids


async def insert_bytes(jobs: Jobs, *documents: bytes) -> None:
    """Insert documents that no driver would encode, byte for byte."""
    await jobs.insert_many([RawBSONDocument(data) for data in documents], bypass_document_validation=True)


async def statuses(jobs: Jobs) -> dict[Any, str]:
    """Return the status of every job by its id."""
    return {document["_id"]: document["status"] async for document in jobs.find({}, {"status": 1})}


def ids(claims: Sequence[Claim]) -> list[Any]:
    """Return the ids of what was claimed, in order."""
    return [claim.job.id for claim in claims]


async def server_now(database: AsyncDatabase[dict[str, Any]]) -> datetime:
    """Return the database's own time."""
    (answer,) = await (await database.aggregate([{"$documents": [{}]}, {"$project": {"now": "$$NOW"}}])).to_list()
    now = answer["now"]
    assert isinstance(now, datetime)
    return now


def ago(seconds: float) -> datetime:
    """Return a time in the past; a margin of hours makes the test's clock good enough."""
    return datetime.now(UTC) - timedelta(seconds=seconds)


@asynccontextmanager
async def connected(uri: str, name: str):
    """Open a database as the supervisor does, and close its client."""
    database = await connect(uri, name, wait_s=10)
    try:
        yield database
    finally:
        await database.client.close()
