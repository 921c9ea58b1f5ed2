"""Limits across machines against a real database: several claimers at once, one that dies half way, full groups."""

import asyncio
from datetime import timedelta
from itertools import pairwise

import pytest

from supervisor.core.gate import FleetLimits
from supervisor.store.candidates import HEAD
from supervisor.store.claims import ClaimStore
from supervisor.store.gates import COLLECTION, GateStore, gate_id
from supervisor.store.results import ResultStore
from supervisor.store.taking import Owner
from tests.support.jobs import JOBS, OWNER, ended, ids, insert_unchecked, pending, places, returned, room, server_now


@pytest.fixture
def store(database, jobs):
    return ClaimStore(database, JOBS, OWNER)


@pytest.fixture
def gates(database):
    return database[COLLECTION]


async def claim(store, count=1, **limits):
    """Claim up to `count` jobs of `count`, which has these limits."""
    fleet = {"count": FleetLimits(**limits)}
    return await store.claim(room(), places(count), lease_s=60, payload_kb=16, fleet=fleet)


async def running(jobs):
    return await jobs.count_documents({"status": "processing"})


async def test_no_more_than_the_total_run(jobs, store):
    await jobs.insert_many([pending(_id=number) for number in range(9)])
    assert ids(await claim(store, 2, total=3)) == [0, 1]
    assert ids(await claim(store, 5, total=3)) == [2]
    assert await claim(store, 5, total=3) == []
    await jobs.update_one({"_id": 1}, {"$set": {"status": "completed"}, "$unset": {"lease": ""}})
    assert ids(await claim(store, 5, total=3)) == [3]


async def test_many_claimers_at_once_never_exceed_the_total_and_miss_nothing(database, jobs):
    total, count = 3, 40
    await jobs.insert_many([pending(_id=number) for number in range(count)])
    results, most = ResultStore(database, JOBS), 0

    async def claim_until_done(number):
        nonlocal most
        owner = Owner(f"supervisor-{number}", f"host-{number}")
        store = ClaimStore(database, JOBS, owner)
        while await jobs.count_documents({"status": {"$ne": "completed"}}):
            claims = await claim(store, 2, total=total)
            most = max(most, await running(jobs))
            if claims:
                await results.apply([ended(each, returned(), owner) for each in claims])
            else:
                await asyncio.sleep(store.opens_in_s or 0.01)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(claim_until_done(number))
    assert 1 <= most <= total
    assert await jobs.count_documents({"status": "completed", "claims": 1}) == count


async def test_who_reserves_and_dies_holds_the_place_for_a_while_only(database, jobs, store, gates):
    await jobs.insert_many([pending(_id=number) for number in range(3)])
    gate = (await GateStore(database, JOBS).look({"count": FleetLimits(total=1)}))["count"]
    assert await GateStore(database, JOBS).reserve(gate, [{"id": 0, "token": 1, "group": None}])
    assert await claim(store, 3, total=1) == []
    past = await server_now(database) - timedelta(seconds=1)
    await gates.update_one({"_id": gate.id}, {"$set": {"reserved.0.until": past}})
    assert ids(await claim(store, 3, total=1)) == [0]


async def test_a_reservation_that_has_ended_takes_nothing(jobs, store, monkeypatch):
    await jobs.insert_one(pending(_id=1))
    monkeypatch.setattr("supervisor.store.gates.RESERVED_S", -0.5)  # as if the claimer had been asleep meanwhile
    assert await claim(store, total=1) == []
    assert await running(jobs) == 0


async def test_of_two_that_looked_at_the_same_time_one_reserves(database, jobs):
    await jobs.insert_many([pending(_id=number) for number in range(2)])
    store = GateStore(database, JOBS)
    gate = (await store.look({"count": FleetLimits(total=1)}))["count"]
    assert await store.reserve(gate, [{"id": 0, "token": 1, "group": None}]) is not None
    assert await store.reserve(gate, [{"id": 1, "token": 1, "group": None}]) is None


async def test_a_handler_at_its_limit_keeps_no_other_from_being_claimed(jobs, store):
    await jobs.insert_many([pending(_id=number, priority=9) for number in range(20)])
    await jobs.insert_one(pending(_id="other", handler="other"))
    fleet = {"count": FleetLimits(total=1)}

    async def claim_both():
        return ids(await store.claim(room("count", "other"), places(1), lease_s=60, payload_kb=1, fleet=fleet))

    assert await claim_both() == [0]
    assert await claim_both() == ["other"]


@pytest.mark.parametrize("hoard", [3, HEAD + 50], ids=["few", "so many that its queue's head holds nothing else"])
async def test_a_full_group_blocks_nobody_else(jobs, store, hoard):
    await jobs.insert_many([pending(_id=number, group_key="greedy", priority=5) for number in range(hoard)])
    await jobs.insert_many([pending(_id="a", group_key="a"), pending(_id="b", group_key="b"), pending(_id="none")])
    assert ids(await claim(store, 4, per_group=2))[:2] == [0, 1]
    while await claim(store, 4, per_group=2):
        pass
    assert await jobs.count_documents({"status": "processing", "group_key": "greedy"}) == 2
    assert await jobs.count_documents({"status": "processing"}) == 5


async def test_beside_a_full_group_the_order_stays(jobs, store):
    await jobs.insert_many([pending(_id=number, group_key="greedy", priority=5) for number in range(HEAD + 1)])
    await jobs.insert_many(
        [pending(_id="late"), pending(_id="high", group_key="x", priority=3), pending(_id="low", group_key="y")]
    )
    await claim(store, 1, per_group=1)
    assert ids(await claim(store, 3, per_group=1)) == ["high", "late", "low"]


async def test_groups_are_found_by_an_index(database, jobs):
    await jobs.insert_many([pending(group_key="greedy") for _ in range(500)])
    await jobs.insert_one(pending(_id="a", group_key="a"))
    of_groups = {"status": "pending", "handler": "count", "group_key": {"$in": ["a"], "$exists": True}}
    command = {"find": JOBS, "filter": {**of_groups, "priority": {"$in": [0, None]}}, "sort": {"run_at": 1, "_id": 1}}
    plan = await database.command("explain", command, verbosity="executionStats")
    assert plan["executionStats"]["totalKeysExamined"] <= 10
    command = {"distinct": JOBS, "key": "group_key",
               "query": {"status": "pending", "handler": "count", "group_key": {"$gte": ""}}}  # fmt: skip
    plan = await database.command("explain", command, verbosity="executionStats")
    assert plan["executionStats"]["totalKeysExamined"] <= 10


async def test_no_second_sees_more_starts_than_the_rate_allows(jobs, store):
    await jobs.insert_many([pending(_id=number) for number in range(10)])
    async with asyncio.timeout(30):
        while await jobs.count_documents({"status": "pending"}):
            if not await claim(store, 3, starts=4, per_s=1.0):
                await asyncio.sleep(store.opens_in_s or 0.01)
    starts = sorted([job["started_at"] async for job in jobs.find()])
    for first, fifth in zip(starts, starts[4:], strict=False):
        assert fifth - first >= timedelta(seconds=1)
    assert max((later - earlier for earlier, later in pairwise(starts)), default=timedelta()) > timedelta(seconds=0.5)


async def test_a_start_is_dated_after_it_has_happened(jobs, store, gates):
    await jobs.insert_many([pending(_id=number) for number in range(2)])
    await claim(store, 2, starts=9, per_s=60.0)
    (entry,) = (await gates.find_one({}))["started"]
    last = max([job["started_at"] async for job in jobs.find()])
    assert (entry["count"], entry["turn"]) == (2, None)
    assert last <= entry["at"] < last + timedelta(seconds=4)


@pytest.mark.parametrize(
    "nonsense",
    [
        {"turn": "x"},
        {"turn": 1.5},
        {"turn": None},
        {},
        {"turn": 3, "reserved": "x", "started": 7},
        {"turn": 3, "reserved": [1, {"id": 1}, {"token": "x"}], "started": [{}, {"at": 3, "count": None}]},
    ],
    ids=repr,
)
async def test_what_others_write_at_a_gate_stops_nobody(jobs, store, gates, nonsense):
    await gates.insert_one({"_id": gate_id(JOBS, "count"), **nonsense})
    await jobs.insert_many([pending(_id=number) for number in range(2)])
    assert ids(await claim(store, 2, total=1, starts=5)) == [0]
    assert await claim(store, 2, total=1, starts=5) == []


async def test_a_group_of_a_wrong_type_is_set_aside(jobs, store):
    await insert_unchecked(jobs, pending(_id="bad", group_key=7), pending(_id="good", group_key="g"))
    assert ids(await claim(store, 2, per_group=1)) == ["good"]
    assert (await jobs.find_one({"_id": "bad"}))["status"] == "failed"
