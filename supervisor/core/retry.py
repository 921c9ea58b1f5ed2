"""When a failed attempt is tried again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from supervisor.core.job import Job


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how soon; `backoff_s` doubles with every attempt up to `backoff_max_s`, both in seconds."""

    max_attempts: int = 3
    max_crashes: int = 3
    backoff_s: float = 1.0
    backoff_max_s: float = 300.0

    def attempts_of(self, job: Job) -> int:
        """Return how many attempts `job` has in all; its own `max_attempts` wins."""
        return self.max_attempts if job.max_attempts is None else job.max_attempts


def backoff(attempt: int, policy: RetryPolicy, random: Callable[[], float]) -> float:
    """Return the seconds to wait after the failed `attempt` (counted from 1).

    Half of the exponential delay is fixed and half is random, so that jobs that failed together do not come back
    together, and none comes back at once. `random` returns a float in [0, 1).
    """
    # 2.0 ** 1024 overflows; a delay stops growing long before
    delay = min(policy.backoff_max_s, policy.backoff_s * 2.0 ** min(attempt - 1, 64))
    return delay * (0.5 + 0.5 * random())
