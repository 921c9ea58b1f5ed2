"""What the supervisor's parts share: the executions under way, and the claims."""

import asyncio
from typing import Any

import pytest

from supervisor.live import Claiming, Executions


def test_who_has_to_do_with_executions_only_can_wait_for_the_first_one() -> None:
    executions, one, other = Executions(), _execution(), _execution()
    assert not executions.some.is_set()
    executions.add(one)
    executions.add(other)
    executions.discard(one)
    assert executions.some.is_set()
    executions.discard(other)
    executions.discard(other)
    assert not executions.some.is_set()


async def test_claims_run_beside_each_other_and_whoever_wants_none_waits_for_all_and_is_let_alone() -> None:
    claiming, order, go = Claiming(), [], asyncio.Event()

    async def claim(name: str) -> None:
        async with claiming:
            order.append(f"{name} begins")
            await go.wait()
            order.append(f"{name} ends")

    async def alone() -> None:
        async with claiming.none():
            order.append("none")
            await asyncio.sleep(0)
            order.append("none any more")

    tasks = [asyncio.create_task(step) for step in (claim("a"), claim("b"), alone(), claim("c"))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*tasks)
    assert order == ["a begins", "b begins", "a ends", "b ends", "none", "none any more", "c begins", "c ends"]


async def test_a_claim_that_fails_is_over_too() -> None:
    claiming = Claiming()
    with pytest.raises(ZeroDivisionError):
        async with claiming:
            print(1 / 0)
    async with asyncio.timeout(10), claiming.none():
        pass


def _execution() -> Any:
    return object()
