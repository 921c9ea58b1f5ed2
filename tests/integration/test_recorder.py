"""Outcomes that end one after another share their writes."""

import asyncio

import pytest

from supervisor.recorder import PACE_S, Recorder
from tests.support.jobs import claim_some, ended, pending, returned

MANY = 12


@pytest.fixture
def under_way():
    """How many jobs run or are being recorded, as far as the recorder is told."""
    return [MANY]


@pytest.fixture
async def recorder(results, under_way):
    made = Recorder(results, lambda: under_way[0])
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


async def test_with_jobs_in_line_outcomes_wait_for_more_until_there_are_none(
    database, jobs, claims, recorder, monkeypatch
):
    monkeypatch.setattr("supervisor.recorder.BACKLOG_PACE_S", 3600.0)
    await jobs.insert_many([pending(_id=n) for n in range(MANY)])
    first, *others = await claim_some(claims, MANY)
    pool, coroutines = object(), object()
    recorder.note_backlog(pool, True)
    recorder.note_backlog(coroutines, False)
    assert await recorder.record(ended(first, returned())) is True, "nothing was written just before it"
    recording = [asyncio.create_task(recorder.record(ended(claim, returned()))) for claim in others]
    await asyncio.wait(recording, timeout=3 * PACE_S)
    assert not any(task.done() for task in recording)
    before = await updates(database)
    recorder.note_backlog(pool, False)
    assert await asyncio.gather(*recording) == [True] * len(others)
    assert await updates(database) - before == 1


async def test_the_last_outcomes_are_written_at_once(database, jobs, claims, recorder, under_way, monkeypatch):
    for pace in ("PACE_S", "BACKLOG_PACE_S"):
        monkeypatch.setattr(f"supervisor.recorder.{pace}", 3600.0)
    await jobs.insert_many([pending(_id=n) for n in range(4)])
    first, *others, last = await claim_some(claims, 4)
    assert await recorder.record(ended(first, returned())) is True, "nothing was written just before it"
    under_way[0] = 3
    recording = [asyncio.create_task(recorder.record(ended(claim, returned()))) for claim in others]
    await asyncio.wait(recording, timeout=0.2)
    assert not any(task.done() for task in recording), "another one may join them"
    before = await updates(database)
    assert await recorder.record(ended(last, returned())) is True
    assert await asyncio.gather(*recording) == [True] * len(others)
    assert await updates(database) - before == 1
