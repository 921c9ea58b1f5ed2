"""Many supervisors at one queue: they get out of each other's way, and no job of a higher priority waits for that."""

import asyncio

import pytest

from supervisor.core.spread import Spread
from supervisor.store.claims import ClaimStore, Owner
from tests.support.jobs import JOBS, OWNER, claim_some, ids, pending

MANY = 8


@pytest.fixture
def store(database, jobs):
    return ClaimStore(database, JOBS, OWNER)


def beaten_by(rival, store, monkeypatch):
    """Let `rival` take two jobs whenever `store` has chosen its own."""
    find = store._candidates.find

    async def find_too_late(*arguments):
        found = await find(*arguments)
        await claim_some(rival, 2)
        return found

    monkeypatch.setattr(store._candidates, "find", find_too_late)


async def test_whoever_comes_too_late_for_its_jobs_looks_wider_and_again_soon(jobs, store, rival, monkeypatch):
    await jobs.insert_many([pending() for _ in range(10)])
    beaten_by(rival, store, monkeypatch)
    assert await claim_some(store, 2) == []
    assert store._candidates.spread.width == 2
    assert store.opens_in_s is not None


async def test_a_lone_job_that_somebody_else_got_is_no_reason_to_look_wider(jobs, store, rival, monkeypatch):
    await jobs.insert_one(pending())
    beaten_by(rival, store, monkeypatch)
    assert await claim_some(store, 2) == []
    assert store._candidates.spread.width == 1
    assert store.opens_in_s is None


async def test_a_wide_look_takes_others_than_the_head(jobs, store):
    await jobs.insert_many([pending(_id=n) for n in range(500)])
    store._candidates.spread = Spread(width=16)
    claimed = ids(await claim_some(store, 8))
    assert len(claimed) == 8
    assert claimed != list(range(8)), "by chance once in many billions"
    assert claimed == sorted(claimed)
    assert max(claimed) < 2 * 16 * 8, "and yet no more than some way behind it"


@pytest.mark.parametrize("priority", [0, 7, -7])
async def test_however_wide_the_look_a_higher_priority_goes_first(jobs, store, priority):
    await jobs.insert_many([pending(_id=f"urgent {n}", priority=priority + 1) for n in range(3)])
    await jobs.insert_many([pending(priority=priority) for _ in range(500)])
    store._candidates.spread = Spread(width=16, priority=priority)
    assert ids(await claim_some(store, 5))[:3] == [f"urgent {n}" for n in range(3)]


async def test_no_lower_priority_is_reached_while_there_is_a_job_of_the_one_that_is_left_out(jobs, store):
    await jobs.insert_many([pending(_id=n) for n in range(3)] + [pending(priority=-1) for _ in range(500)])
    store._candidates.spread = Spread(width=64)
    assert ids(await claim_some(store, 2)) == [0, 1]
    assert store._candidates.spread.width == 32, "so few of them are no reason to look so wide"


async def test_many_at_once_take_every_job_once(database, jobs):
    await jobs.insert_many([pending(_id=n, priority=n % 3) for n in range(300)])
    stores = [ClaimStore(database, JOBS, Owner(f"s{n}", f"h{n}")) for n in range(MANY)]

    async def take_all(store):
        claimed = []
        while await jobs.count_documents({"status": "pending"}):
            claimed += ids(await claim_some(store, 4))
        return claimed

    claimed = await asyncio.gather(*(take_all(store) for store in stores))
    assert sorted(job for each in claimed for job in each) == list(range(300))
