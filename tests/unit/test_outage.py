"""When a supervisor gives the database up: after a silence, not after an error."""

import asyncio

import pytest
from pymongo.errors import ExecutionTimeout, NetworkTimeout, OperationFailure, ServerSelectionTimeoutError

from supervisor.config.settings import MongoSettings
from supervisor.errors import DatabaseUnreachableError
from supervisor.outage import Outage

NO_ANSWER = ServerSelectionTimeoutError("nobody there")


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def outage(clock):
    return Outage(MongoSettings(uri="mongodb://me:secret@h/?replicaSet=r", give_up_s=60), clock)


async def is_over(outage):
    try:
        await asyncio.wait_for(outage.run(), 0.01)
    except TimeoutError:
        return False
    except DatabaseUnreachableError:
        return True


async def test_a_silence_as_long_as_configured_is_the_end_and_says_so_without_the_password(outage, clock):
    outage.failed(NO_ANSWER)
    clock.now += 59.9
    outage.failed(ExecutionTimeout("the driver's deadline", 50))
    assert not await is_over(outage)
    clock.now += 0.1
    outage.failed(NetworkTimeout("slow"))
    with pytest.raises(DatabaseUnreachableError) as end:
        await outage.run()
    assert str(end.value) == (
        "MongoDB at mongodb://me:***@h/?replicaSet=r has not answered for 60 s (mongo.give_up_s): slow"
    )


@pytest.mark.parametrize("code", [13, 18])
async def test_a_lost_login_is_no_answer(outage, clock, code):
    outage.failed(OperationFailure("who are you", code))
    clock.now += 60
    outage.failed(OperationFailure("who are you", code))
    assert await is_over(outage)


@pytest.mark.parametrize(
    "answer", [Outage.answered, lambda outage: outage.failed(OperationFailure("disk full", 14031))]
)
async def test_any_answer_starts_the_count_again_and_a_refusal_is_one(outage, clock, answer):
    outage.failed(NO_ANSWER)
    clock.now += 59
    answer(outage)
    clock.now += 59
    outage.failed(NO_ANSWER)
    clock.now += 59
    outage.failed(NO_ANSWER)
    assert not await is_over(outage)


async def test_the_time_in_which_nothing_was_asked_does_not_count(outage, clock):
    outage.answered()
    clock.now += 10_000  # the supervisor itself was stopped
    outage.failed(NO_ANSWER)
    assert not await is_over(outage)


async def test_zero_waits_for_ever(clock):
    outage = Outage(MongoSettings(give_up_s=0), clock)
    outage.failed(NO_ANSWER)
    clock.now += 1e9
    outage.failed(NO_ANSWER)
    assert not await is_over(outage)
