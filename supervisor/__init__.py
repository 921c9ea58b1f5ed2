"""A job supervisor for Python teams with MongoDB and CPU-heavy work: what user code imports, and nothing else."""

from typing import TYPE_CHECKING, Any

from supervisor.context import JobContext
from supervisor.errors import JobCancelled, JobInterrupted, JobStopped, JobTimeout, PermanentError, Retry
from supervisor.registry import describe_validation_error, handler

if TYPE_CHECKING:
    from supervisor.client.async_queue import AsyncQueue
    from supervisor.client.queue import Queue

__all__ = [
    "AsyncQueue",
    "JobCancelled",
    "JobContext",
    "JobInterrupted",
    "JobStopped",
    "JobTimeout",
    "PermanentError",
    "Queue",
    "Retry",
    "describe_validation_error",
    "handler",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load a queue, and with it the database's client, only for who asks for it: workers never do."""
    if name == "Queue":
        from supervisor.client.queue import Queue  # noqa: PLC0415 - that is the point

        return Queue
    if name == "AsyncQueue":
        from supervisor.client.async_queue import AsyncQueue  # noqa: PLC0415 - as above

        return AsyncQueue
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
