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

    Returns {"deleted": {"completed": n, "failed": n, "orphaned_files": n}}, the cancelled counted with the failed.
    """
    deleted = job.link.apply_retention()
    job.log.info("retention applied", **deleted)
    return {"deleted": deleted}
