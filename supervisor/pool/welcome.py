"""What a new worker's greeting is worth telling: what the fork server has loaded, what it could not, what was slow."""

from __future__ import annotations

from typing import Any

import structlog

log = structlog.get_logger("supervisor.pool.pool")

SLOW_S = 1.0
"""Setup hooks that take so long in a worker are worth a word."""


class Welcome:
    """Reads greetings, and says each thing once: workers come and go, and inherit the same."""

    def __init__(self) -> None:
        self._fork_server = 0
        self._told: set[str] = set()
        self._told_slow = False

    def read(self, greeting: dict[str, Any], slot: int | None, spares: int) -> None:
        """Log what the worker of `slot`, or a spare one, tells for the first time, and what has failed in it."""
        self._read_preload(greeting["preload"], slot)
        for module, trace in greeting["setup_failures"].items():
            log.warning("worker.setup_failed", slot=slot, name=module, traceback=trace)
        log.debug("worker.started", slot=slot, pid=greeting["pid"], setup_s=round(greeting["setup_s"], 3))
        if greeting["setup_s"] >= SLOW_S and not spares and not self._told_slow:
            self._told_slow = True
            log.info("worker.slow_setup", setup_s=round(greeting["setup_s"], 1), hint=_SLOW)

    def _read_preload(self, preload: dict[str, Any], slot: int | None) -> None:
        if not preload["pid"]:
            log.warning("worker.not_preloaded", slot=slot, hint="every worker loads its own modules")
            return
        for name, trace in preload["failures"].items():
            log.warning("worker.setup_failed", slot=slot, name=name, traceback=trace)
        for name, why, handlers in preload["left_out"]:
            if name not in self._told:
                self._told.add(name)
                hint = _TRIED_LATE if name in preload["deferred"] else _LOADED_EACH
                log.warning("preload.left_to_workers", name=name, handlers=handlers, reason=why, hint=hint)
        if preload["pid"] != self._fork_server:
            self._fork_server = preload["pid"]
            log.info("preload.done", pid=preload["pid"], hooks=preload["hooks"], seconds=round(preload["seconds"], 3),
                     peak_mb=round(preload["peak_mb"]))  # fmt: skip


_SLOW = (
    "a slot is without a worker for so long after a crash; @handler.setup(fork_safe=True) loads once for all workers, "
    "and pool.spares keeps some ready"
)
_LOADED_EACH = (
    "every worker loads it for itself, which takes its time and memory; have the library start nothing while it "
    "loads, or say @handler.setup without fork_safe=True"
)
_TRIED_LATE = "a worker tries it when a job needs it; say @handler.setup without fork_safe=True"
