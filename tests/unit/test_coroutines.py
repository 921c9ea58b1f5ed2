"""The parts of running a coroutine: how an order reaches it, what is kept of its log, where it is, who is woken."""

import asyncio
from typing import Any

import pytest

from supervisor.context import AsyncJobContext
from supervisor.coroutines.orders import obedient, without_group
from supervisor.coroutines.stacks import of_coroutine
from supervisor.coroutines.tail import Tail
from supervisor.errors import JobCancelled, JobInterrupted, JobTimeout
from supervisor.pool.attempt import StopReason
from supervisor.testing.inline import AsyncInlineLink, InlineLink
from supervisor.wakeup import Pace, Wakeup

ORDERED = [
    (StopReason.TIMEOUT, JobTimeout),
    (StopReason.CANCEL, JobCancelled),
    (StopReason.DRAIN, JobInterrupted),
    (StopReason.LEASE_LOST, JobInterrupted),
]


def untimed(_: float) -> None:
    """Take the length of a step."""


async def cancelled_while(waiting: Any, reason: StopReason | None) -> BaseException | None:
    """Cancel a coroutine that awaits `waiting()`, and return what was raised in it."""
    seen: list[BaseException] = []

    async def handler() -> None:
        try:
            await waiting()
        except BaseException as error:
            seen.append(error)
            raise

    task = asyncio.create_task(_run(handler(), reason))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait({task})
    return seen[0] if seen else None


async def _run(coroutine: Any, reason: StopReason | None) -> Any:
    return await obedient(coroutine, lambda: reason, untimed)


@pytest.mark.parametrize(("reason", "stop"), ORDERED)
async def test_an_order_is_raised_as_what_it_is_and_as_a_cancellation(reason: StopReason, stop: type) -> None:
    error = await cancelled_while(lambda: asyncio.sleep(60), reason)
    assert isinstance(error, stop)
    assert isinstance(error, asyncio.CancelledError)
    assert not isinstance(error, Exception)
    assert type(error).__qualname__ == stop.__name__


async def test_a_cancellation_that_nobody_ordered_stays_one() -> None:
    assert type(await cancelled_while(lambda: asyncio.sleep(60), None)) is asyncio.CancelledError


async def test_a_task_group_ends_its_tasks_at_an_order() -> None:
    ended = []

    async def child() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(asyncio.current_task())

    async def group() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(child())
            await asyncio.sleep(60)

    error = await cancelled_while(group, StopReason.TIMEOUT)
    assert len(ended) == 1
    assert error is not None
    assert isinstance(without_group(error), JobTimeout)


async def test_what_a_coroutine_returns_and_raises_passes_unchanged() -> None:
    async def returns() -> int:
        await asyncio.sleep(0)
        return 42

    async def raises() -> None:
        await asyncio.sleep(0)
        raise ValueError("as ordered")

    took: list[float] = []
    assert await obedient(returns(), lambda: StopReason.TIMEOUT, took.append) == 42
    assert len(took) == 2, "one for each step"
    with pytest.raises(ValueError, match="as ordered"):
        await obedient(raises(), lambda: None, untimed)


async def test_an_error_of_what_it_awaits_is_raised_where_it_waits() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def waits() -> str:
        try:
            await future
        except KeyError as error:
            return f"caught {error}"
        return "nothing"

    task = asyncio.create_task(_run(waits(), None))
    await asyncio.sleep(0)
    future.set_exception(KeyError("x"))
    assert await task == "caught 'x'"


def test_the_end_of_a_log_is_kept_and_read_by_offsets_into_the_whole() -> None:
    tail, whole, offset, seen = Tail(100), "", 0, ""
    for number in range(500):
        tail.add(f"line {number}")
        whole += f"line {number}\n"
        text, offset = tail.part(offset, 7)
        assert whole.startswith(text, offset - len(text))
        seen += text
    assert tail.text() == whole[-100:]
    assert tail.part(-50, 1000) == (whole[-50:], len(whole))
    assert tail.part(10**9, 10) == ("", len(whole))
    assert Tail(0).text() == ""
    assert seen


async def test_a_stack_shows_the_calls_that_a_coroutine_waits_in_the_latest_first() -> None:
    async def inner() -> None:
        await asyncio.sleep(60)

    async def outer() -> None:
        await inner()

    coroutine = outer()
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    lines = of_coroutine(coroutine, task).splitlines()
    task.cancel()
    assert lines[0] == "Coroutine (most recent call first):"
    assert [line.rpartition(" in ")[2] for line in lines[1:]] == ["sleep", "inner", "outer"]
    assert of_coroutine(None, None) == lines[0], "one that has not begun"


async def test_every_listener_hears_a_ring_that_came_while_it_was_looking() -> None:
    alarm = Wakeup(_Nothing(), "jobs", lambda: 0.5, pace=Pace(3600))
    first, second = alarm.listen(), alarm.listen()
    alarm.ring()
    async with asyncio.timeout(10):
        await alarm.wait(first)
        await alarm.wait(second)
        waiting = [asyncio.create_task(alarm.wait(alarm.listen())) for _ in range(2)]
        await asyncio.sleep(0)
        alarm.ring()
        await asyncio.gather(*waiting)


class _Nothing(dict):  # type: ignore[type-arg]
    """A database of which only the collection's name is asked."""

    def __missing__(self, key: str) -> None:
        return None


async def test_what_is_awaited_is_no_longer_forgotten() -> None:
    link = AsyncInlineLink(InlineLink())
    job = AsyncJobContext(id=1, attempt=1, handler="ask", token=1, link=link)
    forgotten = job.save_file("a", b"")
    assert await job.save_file("b", b"") == "1-b"
    assert job.unawaited == {forgotten}
