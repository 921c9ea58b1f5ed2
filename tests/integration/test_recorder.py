"""Outcomes that end one after another share their writes."""

import asyncio

import pytest

from supervisor.recorder import Recorder
from tests.support.jobs import claim_some, ended, pending, returned

MANY = 12


@pytest.fixture
async def recorder(results):
    made = Recorder(results)
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    await asyncio.wait({running})


async def updates(database):
    """How many update commands the database has had."""
    status = await database.client.admin.command("serverStatus")
    return status["metrics"]["commands"]["update"]["total"]


async def test_what_ends_one_after_another_goes_out_in_few_writes(database, jobs, claims, recorder):
    await jobs.insert_many([pending(_id=n) for n in range(MANY)])
    held = await claim_some(claims, MANY)
    before, recording = await updates(database), []
    for claim in held:
        recording.append(asyncio.create_task(recorder.record(ended(claim, returned({"n": claim.job.id})))))
        await asyncio.sleep(0.001)
    assert await asyncio.gather(*recording) == [True] * MANY
    assert await updates(database) - before <= MANY // 2
    assert await jobs.count_documents({"status": "completed"}) == MANY


async def test_an_outcome_by_itself_is_a_write_of_its_own(database, jobs, claims, recorder):
    await jobs.insert_many([pending(_id=n) for n in range(3)])
    before = await updates(database)
    for claim in await claim_some(claims, 3):
        assert await recorder.record(ended(claim, returned())) is True
    assert await updates(database) - before >= 3
