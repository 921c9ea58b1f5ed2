"""Markers of side effects against a real database: once, by whom, and what is left by who died."""

import asyncio

import pytest

from supervisor.store.claims import ClaimStore
from supervisor.store.once import COLLECTION, OnceStore, Standing
from supervisor.store.results import ResultStore
from tests.support.jobs import JOBS, OWNER, RIVAL, claim_one, ended, pending, raised, returned


@pytest.fixture
def store(database, jobs):
    return OnceStore(database, JOBS)


@pytest.fixture
def run(database, jobs):
    """Insert a job and claim it."""

    async def run_one(owner=OWNER, **fields):
        await jobs.insert_one(pending(**fields))
        return await claim_one(ClaimStore(database, JOBS, owner))

    return run_one


async def test_what_has_happened_does_not_happen_again_whatever_job_asks(store, run):
    first = (await run()).job
    assert await store.begin("mail:1", first, OWNER) == Standing.FIRST
    assert await store.end("mail:1", first, happened=True)
    assert await store.begin("mail:1", first, OWNER) == Standing.DONE
    assert await store.begin("mail:1", (await run()).job, OWNER) == Standing.DONE
    assert await store.begin("mail:2", first, OWNER) == Standing.FIRST


async def test_what_has_failed_can_be_done_by_the_next_attempt(store, run):
    job = (await run()).job
    await store.begin("mail", job, OWNER)
    assert await store.end("mail", job, happened=False)
    assert await store.begin("mail", job, OWNER) == Standing.FIRST


async def test_another_job_waits_while_one_is_at_it(store, run):
    first, second = (await run()).job, (await run(owner=RIVAL)).job
    await store.begin("mail", first, OWNER)
    assert await store.begin("mail", second, RIVAL) == Standing.BUSY
    assert not await store.end("mail", second, happened=True)


async def test_what_a_dead_attempt_has_left_is_not_known(store, run, database):
    claim = await run()
    await store.begin("mail", claim.job, OWNER)
    await ResultStore(database, JOBS).apply([ended(claim, raised())])
    other = (await run(owner=RIVAL)).job
    assert await store.begin("mail", other, RIVAL) == Standing.UNKNOWN
    assert not await store.end("mail", claim.job, happened=True), "who was late says nothing any more"
    assert await store.end("mail", other, happened=True)


async def test_of_many_at_once_one_begins(store, run):
    claims = [await run() for _ in range(8)]
    found = await asyncio.gather(*(store.begin("mail", claim.job, OWNER) for claim in claims))
    assert sorted(found) == [Standing.BUSY] * 7 + [Standing.FIRST]


async def test_who_has_lost_its_lease_begins_nothing(store, run, database):
    claim = await run()
    await ResultStore(database, JOBS).apply([ended(claim, returned())])
    assert await store.begin("mail", claim.job, OWNER) == Standing.LOST
    assert await database[COLLECTION].count_documents({}) == 0


async def test_markers_are_forgotten_after_their_time(store, run):
    job = (await run()).job
    await store.begin("mail", job, OWNER)
    assert await store.forget(1) == 0
    assert await store.forget(0) == 1
