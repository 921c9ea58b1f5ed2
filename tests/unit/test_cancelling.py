"""`asyncio.wait_for` as the driver uses it in a supervisor: no cancellation is lost, on any Python."""

import asyncio

import pytest

from supervisor.cancelling import mend_wait_for


@pytest.fixture(autouse=True)
def mended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "wait_for", asyncio.wait_for)  # put back after the test
    mend_wait_for()


@pytest.mark.parametrize("turns", range(6))
def test_a_cancellation_in_any_turn_of_the_loop_around_the_end_of_a_wait_is_not_lost(turns: int) -> None:
    async def command(sent: asyncio.Event) -> None:
        await sent.wait()

    async def part(sent: asyncio.Event) -> None:
        await asyncio.wait_for(command(sent), 5)
        await asyncio.sleep(60)

    async def run() -> bool:
        sent = asyncio.Event()
        task = asyncio.create_task(part(sent))
        for _ in range(5):  # until it waits
            await asyncio.sleep(0)
        sent.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        ended = task.cancelled()
        task.cancel()
        return ended

    assert asyncio.run(run())


async def _forty_two() -> int:
    return 42


async def _raises() -> int:
    raise ValueError("as ordered")


def test_a_wait_ends_as_it_always_did() -> None:
    async def run() -> None:
        assert await asyncio.wait_for(_forty_two(), 5) == 42
        assert await asyncio.wait_for(_forty_two(), None) == 42
        with pytest.raises(ValueError, match="as ordered"):
            await asyncio.wait_for(_raises(), 5)
        for timeout in (0.01, 0, -1):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.sleep(60), timeout)
        future = asyncio.get_running_loop().create_future()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 0.01)
        assert future.cancelled()

    asyncio.run(run())
