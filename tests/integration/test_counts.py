"""Counting what waits, cheaply: the service manager's line is written every few seconds."""

import pytest

from supervisor.store import counts
from supervisor.store.counts import MOST, CountStore
from tests.support.jobs import JOBS, pending

POISON = {"kind": "poison", "message": "quarantined"}


@pytest.fixture
def store(database, jobs):
    return CountStore(database, JOBS)


async def profiled(database, question):
    """Return the answer to a question, and what the database says that finding it took."""
    await database.command("profile", 2)
    answer = await question()
    await database.command("profile", 0)
    entries = await database["system.profile"].find({"ns": f"{database.name}.{JOBS}"}).to_list()
    await database["system.profile"].drop()
    return answer, entries


async def test_a_long_queue_is_not_counted_to_its_end(database, jobs, store):
    await jobs.insert_many([pending(_id=n) for n in range(MOST + 500)], ordered=False)
    answer, (entry,) = await profiled(database, store.pending)
    assert answer == MOST + 1
    assert entry["docsExamined"] == 0
    assert entry["keysExamined"] <= MOST + 2


async def test_what_has_failed_is_not_read_to_count_what_is_quarantined(database, jobs, store):
    failed = [pending(_id=n, status="failed", error={"kind": "exception", "message": "no"}) for n in range(500)]
    poisoned = [pending(_id=f"poison {n}", status="failed", error=POISON) for n in range(2)]
    await jobs.insert_many([*failed, *poisoned, pending(_id="retried by hand", error=POISON)])
    answer, (entry,) = await profiled(database, store.quarantined)
    assert answer == 2
    assert entry["docsExamined"] <= 2
    assert entry["keysExamined"] <= 4


async def test_without_the_index_the_quarantined_are_not_counted(jobs, store):
    await jobs.drop_index(counts.INDEX)
    assert await store.quarantined() is None
    assert await store.pending() == 0
