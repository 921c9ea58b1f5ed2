"""Setup hooks of modules with coroutine handlers: run once in this process, before the first job."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterable, Sequence

from supervisor.registry import Setup
from supervisor.worker.outcomes import TRACEBACK_BYTES


class Hooks:
    """Runs the hooks of `modules`: an `async def` in the event loop, any other in a thread."""

    def __init__(self, setups: Sequence[Setup], modules: Iterable[str]) -> None:
        self._waiting = {module: [each for each in setups if each.module == module] for module in modules}
        self._one_at_a_time = asyncio.Lock()

    async def run_all(self) -> dict[str, str]:
        """Run all hooks; return the tracebacks of those modules whose hooks have failed."""
        failures = {}
        for module in list(self._waiting):
            try:
                await self.ensure(module)
            except (Exception, SystemExit):  # noqa: BLE001 - a hook of the user's; tried again when a job needs it
                failures[module] = traceback.format_exc()[-TRACEBACK_BYTES:]
        return failures

    async def ensure(self, module: str) -> None:
        """Run those hooks of `module` that have not run yet; raises what a hook raises."""
        if not self._waiting.get(module):
            return
        async with self._one_at_a_time:
            waiting = self._waiting[module]
            while waiting:
                hook = waiting[0]
                await (hook.function() if hook.is_coroutine else asyncio.to_thread(hook.function))
                waiting.pop(0)
