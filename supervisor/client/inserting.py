"""Inserting many jobs: in few calls, of which the next is made and sent while the server works on the one before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import bson
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError, PyMongoError

from supervisor.client.calls import Call, InTurn, Steps, call
from supervisor.core import files
from supervisor.core.job import ACTIVE
from supervisor.errors import JobStateError

CHUNK_JOBS, CHUNK_BYTES = 2000, 8 << 20
"""Of one insert; it has to end within the deadline of a call."""
_DUPLICATE_KEY = 11000
_FILE_ID = b"file_id\0"
"""How a field of this name stands in BSON."""
_SIZE_BYTES, _ID, _ID_BYTES = 4, b"\7_id\0", 12
"""A document in BSON is its size, then each field as type, name and value, then a zero; `_id` is an ObjectId."""


class Made(NamedTuple):
    """A new job as BSON, and what has to be known of it besides."""

    data: bytes
    job_id: Any
    unique_key: str | None
    file_ids: Sequence[Any]

    @classmethod
    def of(cls, document: Mapping[str, Any], data: bytes) -> Made:
        """Return the job of `document`, whose BSON is `data`."""
        return cls(data, document["_id"], document.get("unique_key"), files.named_in(document))


class Alike:
    """New jobs that differ in their id and their payload only; each is made when it is its turn to be inserted."""

    def __init__(self, rest: Mapping[str, Any], payloads: Sequence[bytes]) -> None:
        self._rest = rest
        self._payloads = payloads

    def __iter__(self) -> Iterator[Made]:
        # put together from what is BSON already: encoding each document takes three times as long
        same = bson.encode(self._rest)[_SIZE_BYTES:-1] + b"\3payload\0"
        fixed = _SIZE_BYTES + len(_ID) + _ID_BYTES + len(same) + 1
        for payload in self._payloads:
            job_id = ObjectId()
            size = (fixed + len(payload)).to_bytes(_SIZE_BYTES, "little")
            yield Made(b"".join((size, _ID, job_id.binary, same, payload, b"\0")), job_id, None, ())

    def naming_files(self) -> list[Made]:
        """Return all of them at once, with the files that they name; none if there are no such files."""
        if not any(_FILE_ID in each for each in (*self._payloads, bson.encode(self._rest))):
            return []
        documents = [{"_id": ObjectId(), **self._rest, "payload": bson.decode(each)} for each in self._payloads]
        return [Made.of(document, bson.encode(document)) for document in documents]


def insert_many(collection: str, jobs: Iterable[Made], session: Any = None) -> Steps[tuple[list[Any], list[Made]]]:
    """Insert jobs; return their ids and those whose id or `unique_key` is taken. All others are inserted."""
    chunks: list[list[Made]] = []

    def calls() -> Iterator[Call]:
        for chunk in _chunks(jobs):
            chunks.append(chunk)
            encoded = [RawBSONDocument(job.data) for job in chunk]
            yield call(collection, "insert_many", encoded, ordered=False, session=session)

    # a transaction is one call after the other
    answers = yield InTurn(calls(), under_way=2 if session is None else 1)
    refused = [job for chunk, answer in zip(chunks, answers, strict=False) for job in _refused(chunk, answer)]
    return [job.job_id for chunk in chunks for job in chunk], refused


def find_taken(
    collection: str, ids: Sequence[Any], keys: Sequence[str], among: Mapping[str, Any], session: Any = None
) -> Steps[list[Any]]:
    """Return which of these ids a job has already, and under which of these `unique_key`s one waits or runs.

    `among` is the filter of the jobs that are looked at.
    """
    found: list[Any] = []
    for field, values, more in (("_id", ids, {}), ("unique_key", keys, {"status": {"$in": ACTIVE}})):
        for start in range(0, len(values), CHUNK_JOBS):
            wanted = {**among, field: {"$in": values[start : start + CHUNK_JOBS]}, **more}
            found += [job[field] for job in (yield call(collection, "find", wanted, {field: 1}, session=session))]
    return found


def taken(refused: Sequence[Made], of: int) -> JobStateError:
    """Return the error that tells of refused jobs; there were so many of them in all."""
    first, some = refused[0], f"{len(refused)} of {of} jobs are there already and were not enqueued"
    return JobStateError(f"{some}; the first: {first.unique_key or first.job_id}")


def _refused(chunk: Sequence[Made], answer: Any) -> list[Made]:
    if not isinstance(answer, PyMongoError):
        return []
    if not isinstance(answer, BulkWriteError):
        raise answer
    failures = answer.details["writeErrors"]
    if answer.details["writeConcernErrors"] or any(each["code"] != _DUPLICATE_KEY for each in failures):
        raise answer
    return [chunk[failed["index"]] for failed in failures]


def _chunks(jobs: Iterable[Made]) -> Iterator[list[Made]]:
    """Group jobs so that each group is inserted in one call."""
    chunk: list[Made] = []
    size = 0
    for job in jobs:
        if chunk and (len(chunk) >= CHUNK_JOBS or size + len(job.data) > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(job)
        size += len(job.data)
    if chunk:
        yield chunk
