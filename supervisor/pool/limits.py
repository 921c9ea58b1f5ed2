"""What of the configuration workers and running jobs are held to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PoolLimits:
    """All of it can change while jobs run: grace and log with each slot's next job, the others at once."""

    max_jobs_per_worker: int = 1000
    max_growth_mb: int = 512
    kill_grace_s: float = 2.0
    log_kb: int = 64
    pin: bool = False
    nice: int = 0
    spares: int = 0
