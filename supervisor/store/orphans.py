"""Stored files that nobody can need: their jobs are gone, their result was never recorded, or they were never finished.

Each sweep goes on where the last one stopped and reads a bounded number of index keys, so that it costs little however
many files there are. All that it judges by is in the query; a file that is given to another job meanwhile stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import bson
from bson import MaxKey, ObjectId
from pymongo.asynchronous.database import AsyncDatabase

from supervisor.core.files import COLLECTION, OWNERS, RESULT
from supervisor.core.job import ENDED
from supervisor.store.files import CHUNKS, FILES

GRACE_S = 3600
"""A file is left alone for this long after it was stored, or named by a job that may be about to be inserted."""
UNFINISHED_S = 86_400
"""An upload of which nothing more has come for this long will not be finished."""
_FILES_AT_ONCE, _FILES_A_SWEEP = 200, 10_000
_CHUNKS_AT_ONCE, _CHUNKS_A_SWEEP = 5_000, 100_000
_AT_ONCE = 500
_GRIDFS_INDEX = [("files_id", 1), ("n", 1)]
Document = dict[str, Any]


class OrphanStore:
    """Deletes files that belong to nobody. Safe to run on every supervisor at any time."""

    def __init__(self, database: AsyncDatabase[Document], collection: str) -> None:
        self._files, self._chunks, self._jobs_name = database[FILES], database[CHUNKS], collection
        self._last_file: Any = None
        self._last_chunk: Any = None

    async def delete_of(self, job_ids: Sequence[Any]) -> None:
        """Delete the files of these deleted jobs, except those that other jobs have too. Raises PyMongoError."""
        theirs: list[Document] = [
            {"$match": {OWNERS: {"$in": list(job_ids)}, COLLECTION: self._jobs_name}},
            self._with_jobs(),
            {"$match": {"jobs": []}},
            {"$limit": _AT_ONCE},
            {"$project": {OWNERS: 1}},
        ]
        while orphans := await (await self._files.aggregate(theirs)).to_list():
            if not any([await self._delete(orphan) for orphan in orphans]):
                return

    async def sweep(self) -> int:
        """Delete what belongs to nobody, as far as this sweep comes; return how many files. Raises PyMongoError."""
        return await self._sweep_files() + await self._sweep_chunks()

    async def _sweep_files(self) -> int:
        deleted = seen = 0
        ours = {"$eq": [f"${COLLECTION}", {"$literal": self._jobs_name}]}
        while seen < _FILES_A_SWEEP:
            # an expression compares across types, as ids may be of any
            last = {"$expr": {"$gt": ["$_id", {"$literal": self._last_file}]}}
            further = [] if self._last_file is None else [{"$match": last}]
            judged: list[Document] = [
                *further,
                {"$sort": {"_id": 1}},
                {"$limit": _FILES_AT_ONCE},
                self._with_jobs(status=1, result_file=1),
                {
                    "$project": {
                        OWNERS: 1,
                        "orphaned": {"$and": [ours, _is_old(), {"$or": [_has_no_job(), _is_void()]}]},
                    }
                },
            ]
            files = await (await self._files.aggregate(judged)).to_list()
            for file in files:
                deleted += await self._delete(file) if file["orphaned"] else 0
            self._last_file = files[-1]["_id"] if len(files) == _FILES_AT_ONCE else None
            if self._last_file is None:
                break
            seen += len(files)
        return deleted

    async def _sweep_chunks(self) -> int:
        deleted = seen = 0
        while seen < _CHUNKS_A_SWEEP:
            chunks = await self._next_chunks()
            file_ids = {bson.encode({"": chunk["files_id"]}): chunk["files_id"] for chunk in chunks}
            found = await self._files.find({"_id": {"$in": list(file_ids.values())}}, {"_id": 1}).to_list()
            for file in found:
                file_ids.pop(bson.encode({"": file["_id"]}), None)
            for file_id in file_ids.values():
                deleted += await self._delete_unfinished(file_id)
            self._last_chunk = chunks[-1]["files_id"] if len(chunks) == _CHUNKS_AT_ONCE else None
            if self._last_chunk is None:
                break
            seen += len(chunks)
        return deleted

    async def _next_chunks(self) -> list[Document]:
        """Return the next chunks, read from GridFS's own index: to look at a chunk itself is to load its 255 kB."""
        keys = {"_id": 0, "files_id": 1, "n": 1}
        cursor = self._chunks.find({}, keys, hint=_GRIDFS_INDEX, limit=_CHUNKS_AT_ONCE)
        if self._last_chunk is not None:
            behind_it: list[Any] = [("files_id", self._last_chunk), ("n", MaxKey())]
            cursor = cursor.min(behind_it)
        return await cursor.to_list()

    async def _delete_unfinished(self, file_id: Any) -> bool:
        """Delete chunks that belong to no file, if the last of them is old."""
        newest = await self._chunks.find_one({"files_id": {"$eq": file_id}}, {"_id": 1}, sort=[("n", -1)])
        if newest is None or not isinstance(newest["_id"], ObjectId):
            return False
        limit = {"$subtract": ["$$NOW", UNFINISHED_S * 1000]}
        old = {"_id": newest["_id"], "$expr": {"$lt": [{"$toDate": "$_id"}, limit]}}
        if await self._chunks.find_one(old, {"_id": 1}) is None:
            return False
        await self._chunks.delete_many({"files_id": {"$eq": file_id}})
        return True

    async def _delete(self, file: Document) -> bool:
        """Delete a file as it was judged; False if it was given to another job since, or deleted by somebody else."""
        same = {"_id": {"$eq": file["_id"]}, OWNERS: {"$eq": file["metadata"]["job_ids"]}}
        if not (await self._files.delete_one(same)).deleted_count:
            return False
        await self._chunks.delete_many({"files_id": {"$eq": file["_id"]}})
        return True

    def _with_jobs(self, **fields: int) -> Document:
        """Return the stage that joins a file's jobs as `jobs`; without further fields, from their index alone."""
        wanted = [{"$project": {"_id": 1, **fields}}]
        joined = {"localField": OWNERS, "foreignField": "_id", "pipeline": wanted, "as": "jobs"}
        return {"$lookup": {"from": self._jobs_name, **joined}}


def _is_old() -> Document:
    newest = {"$max": ["$uploadDate", "$metadata.named_at"]}
    limit = {"$subtract": ["$$NOW", GRACE_S * 1000]}
    return {"$and": [{"$eq": [{"$type": newest}, "date"]}, {"$lt": [newest, limit]}]}


def _has_no_job() -> Document:
    """All its jobs are gone, or never came to be; a file that names none is not ours or not used yet."""
    return {"$and": [{"$isArray": f"${OWNERS}"}, {"$ne": [f"${OWNERS}", []]}, {"$eq": ["$jobs", []]}]}


def _is_void() -> Document:
    """It is a result, and its job has ended with another one or with none."""
    ended = {"$in": ["$$job.status", [status.value for status in ENDED]]}
    other = {"$ne": ["$$job.result_file", "$_id"]}
    judged = {"$let": {"vars": {"job": {"$arrayElemAt": ["$jobs", 0]}}, "in": {"$and": [ended, other]}}}
    return {"$and": [{"$eq": ["$metadata.kind", RESULT]}, judged]}
