"""What a coroutine's context reaches the supervisor by: no channel, since they are one process."""

from __future__ import annotations

import asyncio
import shutil
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from bson import json_util

from supervisor.errors import PermanentError
from supervisor.pool.attempt import JobListener
from supervisor.worker.link import error_of_ours, number, storable


class CoroutineLink:
    """Implements `supervisor.context.AsyncSupervisorLink`. `check` raises where the job must not go on.

    Progress may be reported from any thread; requests belong to the event loop. `folder` is made when a file passes.
    """

    def __init__(self, listener: JobListener, folder: Path, parent_job_id: Any, check: Callable[[], None]) -> None:
        self._listener = listener
        self._folder = folder
        self._parent_job_id = parent_job_id
        self._check = check
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def report_progress(self, done: float, total: float | None, message: str | None) -> None:
        """Hand on the newest report."""
        self._check()
        text = None if message is None else storable(str(message))[:500]
        report = {"done": number(done), "total": number(total), "message": text}
        if threading.get_ident() == self._thread:
            self._listener.on_progress(report)
        else:
            self._loop.call_soon_threadsafe(self._listener.on_progress, report)

    async def open_file(self, file_id: Any) -> BinaryIO:
        """Have the stored file copied to the disk, and open it there."""
        reply = await self._request("open_file", file_id=file_id)
        return self._open(reply, f"no stored file has the id {file_id!r}")

    async def save_file(self, name: str, data: bytes) -> Any:
        """Put `data` on the disk and have it stored; return the file's id."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        local = self._folder / f"save-{uuid.uuid4().hex}"
        await asyncio.to_thread(local.write_bytes, data)
        try:
            return (await self._request("save_file", name=str(name), file=local.name))["file_id"]
        finally:
            local.unlink(missing_ok=True)

    async def parent_result(self) -> dict[str, Any]:
        """Have the result of the job fetched that `payload.parent_job_id` names."""
        if self._parent_job_id is None:
            raise PermanentError("the payload names no parent_job_id", code="not_found")
        reply = await self._request("parent_result", job_id=self._parent_job_id)
        with self._open(reply, f"no completed job has the id {self._parent_job_id!r}") as file:
            text = file.read().decode("utf-8")
        return dict(await asyncio.to_thread(json_util.loads, text) or {})

    async def begin_once(self, key: str) -> str:
        """Have a marker begun; return how it stands."""
        return str((await self._request("begin_once", key=key))["standing"])

    async def end_once(self, key: str, *, happened: bool) -> None:
        """Have it ended."""
        await self._request("end_once", key=key, happened=happened)

    async def enqueue(self, fields: dict[str, Any], key: str | None) -> Any:
        """Have a job inserted; return its id."""
        return (await self._request("enqueue", fields=fields, key=key))["job_id"]

    async def close(self) -> None:
        """Remove what a request that was cut short has left."""
        if self._folder.exists():
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    def _open(self, reply: dict[str, Any], missing: str) -> BinaryIO:
        if not reply.get("file"):
            raise PermanentError(missing, code="not_found")
        path = self._folder / reply["file"]
        opened: BinaryIO = path.open("rb")
        path.unlink()  # the open file lives on; nothing to clean up later
        return opened

    async def _request(self, call: str, **arguments: Any) -> dict[str, Any]:
        self._check()
        self._folder.mkdir(mode=0o700, exist_ok=True)
        reply = await self._listener.answer({"call": call, **arguments}, self._folder)
        if reply.get("error"):
            raise OSError(f"{call}: {reply['error']}")
        if refused := reply.get("refused"):
            raise error_of_ours(refused)
        return reply
