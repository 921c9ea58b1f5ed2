"""What a handler sees of its job: `JobContext`.

A handler runs in a worker, which has no database. What the context cannot answer from the call itself (files,
the parent's result) it asks the supervisor over the worker's control channel.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, BinaryIO, Protocol

import structlog


class SupervisorLink(Protocol):
    """The worker's side of the control channel; tests of handlers bring their own."""

    def report_progress(self, done: float, total: float | None, message: str | None) -> None:
        """Hand the newest progress to the supervisor; never blocks for the database."""

    def open_file(self, file_id: Any) -> BinaryIO:
        """Open a stored file; raises PermanentError `not_found` if there is none."""

    def save_file(self, name: str, data: bytes) -> Any:
        """Store `data` and return the new file's id."""

    def parent_result(self) -> dict[str, Any]:
        """Return the result of the job named by `payload.parent_job_id`; raises PermanentError `not_found`."""

    def apply_retention(self) -> dict[str, int]:
        """Delete ended jobs past their retention now; return how many of each kind."""


@dataclass(frozen=True)
class JobContext:
    """The running job as its handler sees it.

    `id` is the document's `_id`, `attempt` counts from 1, `token` is the fencing token of this claim (an integer that
    grows with every claim of the job), `settings` is the table `[handlers.NAME.settings]` of config.toml, `log` is a
    structlog logger bound to the job.
    """

    id: Any
    attempt: int
    handler: str
    token: int
    link: SupervisorLink = field(repr=False)
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    log: Any = field(default_factory=structlog.get_logger, repr=False)
    ends_at: float = float("inf")
    """When the time limit comes, on this process's monotonic clock, in seconds."""

    @property
    def deadline(self) -> float:
        """Seconds left before the time limit; not below 0."""
        return max(0.0, self.ends_at - time.monotonic())

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Report how far the job is; cheap enough to be called often (the newest report wins)."""
        self.link.report_progress(done, total, message)

    def open_file(self, file_id: Any) -> BinaryIO:
        """Open the stored file `file_id` for reading; also a context manager.

        Raises PermanentError with code `not_found` if there is no such file.
        """
        return self.link.open_file(file_id)

    def save_file(self, name: str, data: bytes) -> Any:
        """Store `data` under `name` and return the file's id (an ObjectId)."""
        return self.link.save_file(name, data)

    def parent_result(self) -> dict[str, Any]:
        """Return the result of the job whose `then` made this one (`payload.parent_job_id`)."""
        return self.link.parent_result()
