"""Inserting many jobs: in few calls, of which the next is made and sent while the server works on the one before."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import bson
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError, PyMongoError

from supervisor.client.calls import Call, InTurn, Steps, call
from supervisor.core import files

FIRST_JOBS, MOST_JOBS, MOST_BYTES = 500, 10_000, 8 << 20
"""Of one insert. It has to end within the deadline of a call, so only a fast database gets more at a time."""
FAST_S, SLOW_S = 0.5, 1.0
_DUPLICATE_KEY = 11000
_LENGTH = struct.Struct("<i")
_FILE_ID = b"file_id\0"
"""How a field of this name stands in BSON."""


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
    """New jobs that differ in their id and their payload only; each is made when it is its turn to be inserted.

    In BSON a document is its fields one behind the other, between its length and a zero: what all have in common is
    encoded once, and each payload where it was checked.
    """

    def __init__(self, rest: Mapping[str, Any], payloads: Sequence[bytes]) -> None:
        self._rest = rest
        self._payloads = payloads

    def __iter__(self) -> Iterator[Made]:
        between = bson.encode(self._rest)[4:-1] + b"\x03payload\0"
        for payload in self._payloads:
            job_id = ObjectId()
            fields = b"\x07_id\0" + job_id.binary + between + payload + b"\0"
            yield Made(_LENGTH.pack(len(fields) + 4) + fields, job_id, None, ())

    def naming_files(self) -> list[Made]:
        """Return all of them at once, with the files that they name; none if there are no such files."""
        if not any(_FILE_ID in each for each in (*self._payloads, bson.encode(self._rest))):
            return []
        return [made._replace(file_ids=files.named_in(bson.decode(made.data))) for made in self]


def insert_many(collection: str, jobs: Iterable[Made], session: Any = None) -> Steps[tuple[list[Any], list[Any]]]:
    """Insert jobs; return their ids, and of those that are there already the `unique_key`, or else the id.

    All others are inserted.
    """
    ids: list[Any] = []
    names: list[list[Any]] = []

    def calls() -> Iterator[Call]:
        coming, size = iter(jobs), FIRST_JOBS
        while taken := list(islice(coming, size)):
            begun = time.monotonic()
            for chunk in _small_enough(taken):
                ids.extend([job.job_id for job in chunk])
                names.append([job.unique_key or job.job_id for job in chunk])
                encoded = [RawBSONDocument(job.data) for job in chunk]
                yield call(collection, "insert_many", encoded, ordered=False, session=session)
            size = _next_size(size, time.monotonic() - begun)

    # a transaction is one call after the other
    answers = yield InTurn(calls(), under_way=2 if session is None else 1)
    return ids, [name for chunk, answer in zip(names, answers, strict=False) for name in _refused(chunk, answer)]


def _refused(names: Sequence[Any], answer: Any) -> list[Any]:
    """Return which of these jobs an insert has refused as being there already; raises any other error."""
    if not isinstance(answer, PyMongoError):
        return []
    if not isinstance(answer, BulkWriteError):
        raise answer
    failures = answer.details["writeErrors"]
    if answer.details["writeConcernErrors"] or any(each["code"] != _DUPLICATE_KEY for each in failures):
        raise answer
    return [names[failed["index"]] for failed in failures]


def _next_size(size: int, waited_s: float) -> int:
    """Return how many jobs the next insert may have: more, or fewer, by how long the last ones were waited for."""
    if waited_s > SLOW_S:
        return max(1, size // 2)
    return min(MOST_JOBS, size * 2) if waited_s < FAST_S else size


def _small_enough(jobs: list[Made]) -> Iterator[list[Made]]:
    """Cut what would be too many bytes for one insert in halves."""
    if len(jobs) > 1 and sum(len(job.data) for job in jobs) > MOST_BYTES:
        half = len(jobs) // 2
        yield from _small_enough(jobs[:half])
        yield from _small_enough(jobs[half:])
    else:
        yield jobs
