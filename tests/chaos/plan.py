"""How much of everything a run of a given scale has."""

from dataclasses import dataclass, field

SUPERVISORS = 3
WORKERS = 3
LEASE_S = 5.0

JOBS, LEAST_JOBS = 10_000, 240
SECONDS, LEAST_SECONDS = 600.0, 25.0
FAULTS = {
    # at scale 1, and at least
    "worker killed": (260, 8),
    "worker stopped": (40, 2),
    "supervisor killed": (24, 2),
    "supervisor stopped": (24, 2),
    "supervisor terminated": (14, 1),
    "workers edited": (40, 2),
    "invalid edit": (20, 2),
    "failover": (16, 4),
}


@dataclass(frozen=True)
class Plan:
    """One run. The seed decides its random choices; when the machine gets to each is its own business."""

    seed: int
    scale: float = 1.0
    jobs: int = field(init=False)
    seconds: float = field(init=False)
    """The faults and the arrival of the jobs are spread over this time."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "jobs", max(LEAST_JOBS, round(JOBS * self.scale)))
        object.__setattr__(self, "seconds", max(LEAST_SECONDS, SECONDS * self.scale))

    def count(self, fault: str) -> int:
        """Return how often `fault` is injected."""
        full, least = FAULTS[fault]
        return max(least, round(full * self.scale))
