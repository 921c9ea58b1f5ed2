"""What applies to one handler: config.toml over its own code over the general defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from supervisor.config.checks import parse_rate
from supervisor.config.settings import HandlerSettings, Settings
from supervisor.core.gate import FleetLimits
from supervisor.core.job import Job
from supervisor.core.retry import RetryPolicy
from supervisor.registry import HandlerSpec

NO_CAP = 2**31
COROUTINES_AT_ONCE = 100
"""Jobs of a coroutine handler that names no cap: no slot limits it."""


@dataclass(frozen=True)
class HandlerLimits:
    """The limits of one handler on this supervisor; `timeout_s` in seconds."""

    timeout_s: float
    policy: RetryPolicy
    max_running: int
    memory_limit_mb: int
    """Of a worker with its subprocesses; 0 = none."""
    fleet: FleetLimits
    settings: Mapping[str, Any]


def limits_of(spec: HandlerSpec, settings: Settings) -> HandlerLimits:
    """Return what applies to `spec` now."""
    own = settings.handler(spec.name)
    attempts = _first(own.max_attempts, spec.max_attempts, settings.retry.max_attempts)
    policy = RetryPolicy(
        max_attempts=attempts,
        max_crashes=settings.retry.max_crashes,
        backoff_s=settings.retry.backoff_s,
        backoff_max_s=settings.retry.backoff_max_s,
    )
    return HandlerLimits(
        timeout_s=_first(own.timeout_s, spec.timeout_s),
        policy=policy,
        max_running=_first(own.max_running, spec.max_running, COROUTINES_AT_ONCE if spec.is_coroutine else 0) or NO_CAP,
        memory_limit_mb=_first(own.memory_limit_mb, spec.memory_limit_mb, settings.pool.memory_limit_mb),
        fleet=_fleet(own),
        settings=own.settings,
    )


def _fleet(own: HandlerSettings) -> FleetLimits:
    limits = FleetLimits(total=own.max_running_total or 0, per_group=own.max_running_per_group or 0)
    rate = parse_rate(own.rate or "")
    return limits if rate is None else replace(limits, starts=rate.count, per_s=rate.per_s)


def timeout_of(job: Job, limits: HandlerLimits) -> float:
    """Return the time limit of `job` in seconds; its own wins."""
    return limits.timeout_s if job.timeout_s is None else float(job.timeout_s)


def claimed(names: Mapping[str, HandlerSpec], settings: Settings) -> list[HandlerSpec]:
    """Return the registered handlers that this machine claims, by `pool.claim`."""
    wanted = set(settings.pool.claim)
    return [spec for name, spec in names.items() if "*" in wanted or name in wanted]


def without_effect(handlers: Mapping[str, HandlerSpec], settings: Settings) -> list[str]:
    """Return a line for each limit in the configuration that does nothing to the handler it is set for."""
    return [
        f"[handlers.{name}] memory_limit_mb: of no effect on an `async def`, which shares the supervisor's memory"
        for name, own in settings.handlers.items()
        if name in handlers and handlers[name].is_coroutine and own.memory_limit_mb
    ]


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)
