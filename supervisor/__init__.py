"""A job supervisor for Python teams with MongoDB and CPU-heavy work: what user code imports, and nothing else."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supervisor.application import Supervisor
    from supervisor.client.async_queue import AsyncQueue
    from supervisor.client.queue import Queue
    from supervisor.context import AsyncJobContext, JobContext
    from supervisor.errors import JobCancelled, JobInterrupted, JobStopped, JobTimeout, PermanentError, Retry
    from supervisor.registry import describe_validation_error, handler

__all__ = [
    "AsyncJobContext",
    "AsyncQueue",
    "JobCancelled",
    "JobContext",
    "JobInterrupted",
    "JobStopped",
    "JobTimeout",
    "PermanentError",
    "Queue",
    "Retry",
    "Supervisor",
    "describe_validation_error",
    "handler",
]
__version__ = "0.1.0"

_HOMES = {
    "AsyncJobContext": "supervisor.context",
    "AsyncQueue": "supervisor.client.async_queue",
    "JobContext": "supervisor.context",
    "Queue": "supervisor.client.queue",
    "Supervisor": "supervisor.application",
    "describe_validation_error": "supervisor.registry",
    "handler": "supervisor.registry",
}


def __getattr__(name: str) -> Any:
    """Load a name when somebody asks for it: workers never load the database's client, and `health` loads nothing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "supervisor.errors")), name)
