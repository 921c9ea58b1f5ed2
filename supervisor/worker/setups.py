"""A worker's setup hooks: what the fork server has not loaded for it, and what it tells of both."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any

from supervisor.registry import Registry, Setup
from supervisor.worker.outcomes import TRACEBACK_BYTES
from supervisor.worker.preload import Report


class Setups:
    """Runs the hooks of `registry`; `inherited` is what the fork server has done, None if it could do nothing."""

    def __init__(self, registry: Registry, inherited: Report | None) -> None:
        self._registry = registry
        self._inherited = inherited or Report(0)
        self._failures: dict[str, str] = {}
        """Module → traceback of its hook."""
        self._deferred: set[str] = set()
        """Modules with a hook that has ended a fork server: it is not tried before a job needs it."""
        self._seconds = 0.0

    @property
    def _hooks(self) -> list[Setup]:
        """Those of coroutine handlers run in the supervisor."""
        return [setup for setup in self._registry.setups if not setup.is_coroutine]

    def run(self, announce: Callable[[str | None], None]) -> None:
        """Run all that is left to do; a failing hook only fails the jobs of its module.

        `announce` is told before each, since this process may die of it or hang, and None at the end.
        """
        started = time.monotonic()
        for hook in self._hooks:
            if hook.name in self._inherited.deferred:
                self._deferred.add(hook.module)
            elif hook.name not in self._inherited.hooks:
                announce(hook.name)
                try:
                    hook.function()
                except Exception:  # noqa: BLE001 - a hook of the user's; tried again when a job needs it
                    self._failures[hook.module] = traceback.format_exc()[-TRACEBACK_BYTES:]
        announce(None)
        self._seconds = time.monotonic() - started

    def run_late(self, module: str) -> None:
        """Run the hooks of a module of which one has failed, or has been put off until now."""
        if module in self._deferred or module in self._failures:
            for hook in [hook for hook in self._hooks if hook.module == module]:
                hook.function()
            self._deferred.discard(module)
            self._failures.pop(module, None)

    def report(self) -> dict[str, Any]:
        """Return what a worker's greeting tells of them."""
        inherited = self._inherited
        return {
            "preload": {
                "pid": inherited.pid,
                "hooks": inherited.hooks,
                "seconds": inherited.seconds,
                "peak_mb": inherited.peak_mb,
                "failures": inherited.failures,
                "deferred": inherited.deferred,
                "left_out": [[name, why, self._handlers_of(name)] for name, why in inherited.left_out.items()],
            },
            "setup_failures": self._failures,
            "setup_s": self._seconds,
        }

    def _handlers_of(self, name: str) -> list[str]:
        """Return the handlers of a module, or of the module of a hook."""
        modules = {name, *(hook.module for hook in self._hooks if hook.name == name)}
        return sorted(spec.name for spec in self._registry.handlers.values() if spec.module in modules)
