"""One job as a coroutine, from its start to its outcome.

It always ends with an outcome: no exception of a handler, not even SystemExit, gets into the event loop. What it cannot
do is to end a coroutine that ignores the order to stop. Such a job is not over, so its attempt is not either: it is
reported, cancelled again and again, and waited for.
"""

from __future__ import annotations

import asyncio
import functools
import time
import uuid
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor as Threads
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import structlog

from supervisor.context import AsyncJobContext
from supervisor.core.outcome import AnyOutcome, ErrorInfo, Evidence, Raised, Returned, TimedOut, Usage
from supervisor.coroutines import stacks
from supervisor.coroutines.hooks import Hooks
from supervisor.coroutines.link import CoroutineLink
from supervisor.coroutines.orders import ORDERS, obedient, without_group
from supervisor.coroutines.tail import Tail
from supervisor.pool.attempt import Attempt, JobListener, StopReason, reported
from supervisor.pool.limits import PoolLimits
from supervisor.registry import HandlerSpec
from supervisor.worker.link import job_log
from supervisor.worker.outcomes import decode_payload, outcome_of
from supervisor.worker.results import encode_result
from supervisor.worker.wire import Call, Stopped

log = structlog.get_logger("supervisor.coroutines")

SLOW_STEP_S = 0.1
"""For the event loop, and everybody in it, a long time."""
EVERY_LEVEL = structlog.make_filtering_bound_logger(0)
"""Of `job.log`, whatever an application has made of structlog."""
INSIST_EVERY_S = 1.0
"""At most so often a coroutine that ignores its order is cancelled again."""


@dataclass(frozen=True)
class Means:
    """What attempts work with; `encoders` are threads, so that a large result does not hold up the event loop."""

    workspace: Path
    hooks: Hooks
    encoders: Threads
    limits: PoolLimits
    on_slow_step: Callable[[Call, float], None]
    """Told of a step for which the event loop stood still for long, in seconds."""


class CoroutineAttempt:
    """A running job. Its methods belong to the event loop."""

    def __init__(self, call: Call, spec: HandlerSpec, listener: JobListener, means: Means) -> None:
        self.call = call
        self.listener = listener
        self.output = Tail(means.limits.log_kb * 1024)
        self.task: asyncio.Task[Returned | Raised | Stopped] | None = None
        self.started_at = time.monotonic()
        self._spec = spec
        self._means = means
        self._attempt = Attempt(call, listener, given_at=self.started_at)
        self._link: CoroutineLink | None = None
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended_at: float | None = None
        """When the handler ended; an order comes too late from then on."""
        self._unstoppable = False
        self._stack = ""

    @property
    def state(self) -> str:
        """What it is doing, in a word."""
        if self._unstoppable:
            return "unstoppable"
        return "running" if self._attempt.ordered is None else "stopping"

    async def run(self) -> AnyOutcome:
        """Run the job to its end, whenever that is, and return its outcome."""
        self.task = asyncio.create_task(self._handle(), name=f"coroutine {self.call.handler}")
        self._set_timer(self.call.timeout_s, lambda: self.stop(StopReason.TIMEOUT))
        try:
            await asyncio.wait({self.task})
        except asyncio.CancelledError:  # the event loop itself is ending
            self.task.cancel()
            raise
        finally:
            self._stop_timer()
        if self._link is not None:
            await self._link.close()
        said = Stopped(ErrorInfo("before it began"), Usage()) if self.task.cancelled() else self.task.result()
        return self._conclude(said)

    def stop(self, reason: StopReason) -> None:
        """Order the job to stop. The first order counts, but for a lost lease."""
        attempt = self._attempt
        if (
            self._ended_at is not None
            or self.task is None
            or (attempt.ordered is not None and reason is not StopReason.LEASE_LOST)
        ):
            return
        if attempt.ordered is None:  # where it is now says more than where its tidying up will be
            self._stack = self.stack()
        attempt.ordered = reason
        self.task.cancel()
        self._set_timer(self._means.limits.kill_grace_s, self._insist)

    def stack(self) -> str:
        """Return the calls that the handler is waiting in."""
        return stacks.of_coroutine(self._coroutine, self.task)

    def _insist(self) -> None:
        assert self.task is not None, "an order came first"
        if not self._unstoppable:
            self._unstoppable = True
            log.error("job.unstoppable", job_id=str(self.call.job_id), handler=self.call.handler,
                      ordered=self._attempt.ordered, stack=self.stack(),
                      hint="a coroutine cannot be killed; the job keeps its lease and its place until it ends",
                      )  # fmt: skip
        self.task.cancel()
        self._set_timer(max(self._means.limits.kill_grace_s, INSIST_EVERY_S), self._insist)

    async def _handle(self) -> Returned | Raised | Stopped:
        try:
            try:
                value = await self._call_handler()
            finally:
                self._ended_at = time.monotonic()
                self._stop_timer()
            if self._late_s():
                return Stopped(ErrorInfo("it returned too late"), Usage())
            return await self._encode(value)
        except BaseException as error:  # noqa: BLE001 - SystemExit and the like would end the event loop
            return outcome_of(without_group(error))

    async def _call_handler(self) -> Any:
        raw = decode_payload(self.call.payload)
        payload = self._spec.parse_payload(raw)
        await self._means.hooks.ensure(self._spec.module)
        context = self._context(raw.get("parent_job_id"))
        arguments = (payload, context) if self._spec.takes_context else (payload,)
        self._coroutine = self._spec.function(*arguments)
        value = await obedient(self._coroutine, lambda: self._attempt.ordered, self._took)
        for forgotten in context.unawaited:
            raise TypeError(forgotten.hint())
        return value

    def _took(self, step_s: float) -> None:
        if step_s > SLOW_STEP_S:
            self._means.on_slow_step(self.call, step_s)

    def _context(self, parent_job_id: Any) -> AsyncJobContext:
        call, listener = self.call, self.listener
        folder = self._means.workspace / f"coroutine-{uuid.uuid4().hex}"
        self._link = CoroutineLink(listener, folder, parent_job_id, self._refuse_to_go_on)
        return AsyncJobContext(
            id=call.job_id,
            attempt=call.attempt,
            handler=call.handler,
            token=call.token,
            link=self._link,
            settings=MappingProxyType(call.settings),
            log=job_log(self.output.add, lambda message: listener.on_log(message["log"]), EVERY_LEVEL),
            ends_at=self.started_at + call.timeout_s,
        )

    def _refuse_to_go_on(self) -> None:
        """Raise where the job has ended or should have: in tasks and threads that it has left behind, for instance."""
        if self._ended_at is not None:
            raise RuntimeError(f"job {self.call.job_id} ({self.call.handler}) has ended")
        if self._unstoppable and self._attempt.ordered is not None:
            raise ORDERS[self._attempt.ordered]

    async def _encode(self, value: Any) -> Returned:
        if value is None:
            return Returned()
        folder, name = self._means.workspace, f"result-{uuid.uuid4().hex}.json"
        encode = functools.partial(encode_result, value, self.call.result_inline_bytes, folder, name)
        result, spooled = await asyncio.get_running_loop().run_in_executor(self._means.encoders, encode)
        return Returned(result=result, spool_file=spooled and str(folder / spooled))

    def _run_s(self) -> float:
        return (self._ended_at or time.monotonic()) - self.started_at

    def _late_s(self) -> float:
        """Return how long after its limit it ended, if that is beyond the grace: it was blocking, or did not obey."""
        over_s = self._run_s() - self.call.timeout_s
        return over_s if over_s > self._means.limits.kill_grace_s else 0.0

    def _conclude(self, said: Returned | Raised | Stopped) -> AnyOutcome:
        if self._attempt.ordered is None and not isinstance(said, Returned) and self._late_s():
            self._attempt.ordered = StopReason.TIMEOUT
        said = replace(said, usage=Usage(self._run_s()))
        outcome = reported(self._attempt, said)
        if isinstance(outcome, TimedOut):
            outcome = replace(outcome, late_s=self._late_s(), evidence=Evidence(self._stack or None))
        return replace(outcome, logs=self.output.text())

    def _set_timer(self, delay_s: float, action: Any) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(delay_s, action)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
