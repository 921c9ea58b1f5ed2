"""A handler's context without a supervisor: files on disk, progress in a list."""

import io
import time
from pathlib import Path
from typing import Any, BinaryIO

from supervisor import JobContext, PermanentError


class LocalLink:
    """The worker's side of the control channel, on a directory; remembers what the handler reported and saved."""

    def __init__(self, directory: Path, parent: dict[str, Any] | None = None) -> None:
        self.directory = directory
        self.parent = parent
        self.progress: list[tuple[float, float | None, str | None]] = []
        self.files: dict[str, Path] = {}

    def report_progress(self, done: float, total: float | None, message: str | None) -> None:
        self.progress.append((done, total, message))

    def open_file(self, file_id: Any) -> BinaryIO:
        if file_id not in self.files:
            raise PermanentError(f"no stored file {file_id!r}", code="not_found")
        return io.BytesIO(self.files[file_id].read_bytes())

    def save_file(self, name: str, data: bytes) -> str:
        file_id = f"file-{len(self.files) + 1}"
        self.files[file_id] = self.directory / f"{file_id}-{name}"
        self.files[file_id].write_bytes(data)
        return file_id

    def parent_result(self) -> dict[str, Any]:
        if self.parent is None:
            raise PermanentError("the job has no parent", code="not_found")
        return self.parent


def make_context(
    link: LocalLink, handler: str, *, settings: dict[str, Any] | None = None, seconds_left: float = 600.0
) -> JobContext:
    """Return the context of a first attempt whose time limit comes in `seconds_left`."""
    return JobContext(
        id="job-1",
        attempt=1,
        handler=handler,
        token=1,
        link=link,
        settings=settings or {},
        ends_at=time.monotonic() + seconds_left,
    )
