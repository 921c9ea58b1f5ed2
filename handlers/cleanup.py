"""The `cleanup` handler: applies the retention now, for a nightly schedule or by hand.

Workers have no database; the deleting is done by the supervisor, by the `[retention]` table of its configuration.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from supervisor import JobContext, handler


class CleanupPayload(BaseModel):
    """Takes nothing: what is kept how long stands in config.toml."""

    model_config = ConfigDict(extra="forbid")


@handler("cleanup", timeout_s=600, max_attempts=3)
def cleanup(_payload: CleanupPayload, job: JobContext) -> dict[str, Any]:
    """Delete ended jobs past their retention with their files, and files that belong to nobody.

    Returns {"deleted": {"completed", "failed", "orphaned_files", "batches", "markers"}}, each a number; the cancelled
    count with the failed, `batches` had no job left, and `markers` are those of `job.once`.
    """
    deleted = job.link.apply_retention()
    job.log.info("retention applied", **deleted)
    return {"deleted": deleted}
