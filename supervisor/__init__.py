"""A job supervisor for Python teams with MongoDB and CPU-heavy work: what user code imports, and nothing else."""

from supervisor.context import JobContext
from supervisor.errors import JobCancelled, JobInterrupted, JobStopped, JobTimeout, PermanentError, Retry
from supervisor.registry import handler

__all__ = [
    "JobCancelled",
    "JobContext",
    "JobInterrupted",
    "JobStopped",
    "JobTimeout",
    "PermanentError",
    "Retry",
    "handler",
]
__version__ = "0.1.0"
