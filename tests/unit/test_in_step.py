"""Waking together: never later than asked for, at the same moment as others, and the driver with us."""

import asyncio

import pytest
from pymongo import network_layer, periodic_executor
from pymongo.periodic_executor import AsyncPeriodicExecutor

from supervisor import in_step
from supervisor.in_step import STEP_S


@pytest.mark.parametrize("seconds", [STEP_S, 1.0, 1.7, 2.0, 15.0])
def test_a_moment_comes_within_what_was_asked_for_and_at_most_a_step_before_its_end(seconds):
    async def run():
        clock = asyncio.get_running_loop().time
        before, moment, later = clock(), in_step.after(seconds), clock()
        assert before < moment <= later + seconds
        assert moment > before + seconds - STEP_S

    asyncio.run(run())


def test_what_is_shorter_than_a_step_takes_as_long_as_it_says():
    async def run():
        clock = asyncio.get_running_loop().time
        before, moment, later = clock(), in_step.after(STEP_S * 0.9), clock()
        assert before + STEP_S * 0.9 <= moment <= later + STEP_S * 0.9

    asyncio.run(run())


def test_all_moments_of_a_process_are_whole_steps_apart():
    async def run():
        moments = [in_step.after(0.5 + number * 0.173) for number in range(50)]
        steps = [(moment - moments[0]) / STEP_S for moment in moments]
        assert len(set(moments)) < len(moments)
        assert steps == pytest.approx([round(step) for step in steps], abs=1e-6)

    asyncio.run(run())


@pytest.fixture
def driver(monkeypatch):
    """The driver taken along, until the end of the test."""
    for module in (network_layer, periodic_executor):
        monkeypatch.setattr(module, "asyncio", asyncio)
    in_step.take_driver_along()


@pytest.mark.usefixtures("driver")
def test_what_the_driver_does_now_and_then_it_does_in_one_turn_of_the_loop():
    assert network_layer.asyncio.sleep is in_step.sleep
    assert network_layer.asyncio.wait_for is asyncio.wait_for

    async def run():
        turns, done = [[]], asyncio.Event()

        def target(name):
            async def note():
                if not turns[-1]:
                    asyncio.get_running_loop().call_soon(turns.append, [])
                turns[-1].append(name)
                if len(turns) > 6:
                    done.set()
                return True

            return note

        executors = [AsyncPeriodicExecutor(STEP_S / 2, STEP_S, target(name), name) for name in "ab"]
        for executor in executors:
            executor.open()
            await asyncio.sleep(STEP_S / 3)  # else they would begin in step, and stay so
        async with asyncio.timeout(20):
            await done.wait()
        for executor in executors:
            executor.close()
            await executor.join()
        return turns

    turns = asyncio.run(run())
    assert [sorted(turn) for turn in turns[4:6]] == [["a", "b"], ["a", "b"]]
