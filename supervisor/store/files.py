"""Files in GridFS: inputs that producers upload, large results, and what handlers save."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, BinaryIO

from bson import ObjectId, json_util
from gridfs.asynchronous import AsyncGridFSBucket
from gridfs.errors import NoFile
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError

from supervisor.core.files import SAVED, made_by
from supervisor.core.job import Job

BUCKET = "files"
FILES, CHUNKS = f"{BUCKET}.files", f"{BUCKET}.chunks"
PIECE_BYTES = 1 << 20


def create_new(path: Path) -> BinaryIO:
    """Open a new file for writing in a folder that a worker can write to: nothing it has put there is opened."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb")


class FileStore:
    """Moves files between GridFS and the supervisor's spool folder, in pieces, never whole in memory.

    Piece by piece also for time: each call to the database has a deadline, and a large file takes longer than one.
    """

    def __init__(self, database: AsyncDatabase[dict[str, Any]], collection: str) -> None:
        self._files = AsyncGridFSBucket(database, bucket_name=BUCKET)
        self._jobs = database[collection]

    async def fetch(self, file_id: Any, target: Path) -> bool:
        """Copy the file `file_id` to `target`; False if there is none. Raises PyMongoError."""
        try:
            stored = await self._files.open_download_stream(file_id)
        except NoFile:
            return False
        with create_new(target) as out:
            while piece := await stored.read(PIECE_BYTES):
                out.write(piece)
        return True

    async def discard(self, file_id: ObjectId) -> None:
        """Delete a file that no record came to name; one that stays behind harms nobody."""
        with contextlib.suppress(PyMongoError):
            await self._files.delete(file_id)

    async def store(self, name: str, source: BinaryIO, job: Job, kind: str = SAVED) -> ObjectId:
        """Store what `source` holds under `name`, marked with the job and the claim that made it; return its id.

        Raises PyMongoError; nothing is left of a file that could not be stored whole.
        """
        stored = self._files.open_upload_stream(name, metadata=made_by(job, self._jobs.name, kind))
        try:
            source.seek(0)
            while piece := source.read(PIECE_BYTES):
                await stored.write(piece)
            await stored.close()
        except BaseException:
            with contextlib.suppress(PyMongoError):  # pieces without a file harm nobody, and the database is away
                await stored.abort()
            raise
        return ObjectId(str(stored._id))  # noqa: SLF001 - the driver's own examples read it so

    async def parent_result(self, job_id: Any, target: Path) -> bool:
        """Write the result of the completed job `job_id` to `target` as UTF-8 Extended JSON; False if it has none."""
        parent = await self._jobs.find_one(
            {"_id": {"$eq": job_id}, "status": "completed"}, {"result": 1, "result_file": 1}
        )
        if parent is None:
            return False
        if parent.get("result_file") is not None:
            return await self.fetch(parent["result_file"], target)
        with create_new(target) as out:
            out.write(json_util.dumps(parent.get("result")).encode())
        return True
