"""Leases in a real database: renewing ours, finding those of the dead, and jobs that no supervisor holds."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import bson
import pytest

from supervisor.core.lookahead import Place
from supervisor.store.leases import LeaseStore, claim_key
from supervisor.store.taking import Seat
from tests.support.jobs import (
    JOBS,
    OWNER,
    RIVAL,
    ago,
    claim_one,
    claim_some,
    insert_unchecked,
    pending,
    server_now,
    statuses,
)

FUTURE = datetime(9999, 1, 1, tzinfo=UTC)


@pytest.fixture
def leases(database, jobs):
    return LeaseStore(database, JOBS, OWNER)


async def some_claimed(jobs, store, *job_ids):
    await jobs.insert_many([pending(_id=job_id) for job_id in job_ids])
    return await claim_some(store, len(job_ids))


async def expire(jobs, **which):
    """Move the end of leases into the past."""
    await jobs.update_many(which, [{"$set": {"lease.expires_at": {"$subtract": ["$$NOW", 1]}}}])


# renewing


async def test_renewing_extends_a_lease_in_the_database_s_time(database, jobs, claims, leases):
    held = await some_claimed(jobs, claims, 1, 2)
    before = await server_now(database)
    assert await leases.renew(held, 1000) == []
    after = await server_now(database)
    for document in await jobs.find({}).to_list():
        assert before <= document["lease"]["expires_at"] - timedelta(seconds=1000) <= after
        assert (document["lease"]["token"], document["lease"]["supervisor"]) == (1, OWNER.supervisor)


async def test_only_the_jobs_named_are_renewed(jobs, claims, leases):
    held = await some_claimed(jobs, claims, 1, 2)
    before = (await jobs.find_one({"_id": 2}))["lease"]
    await leases.renew(held[:1], 1000)
    assert (await jobs.find_one({"_id": 2}))["lease"] == before


async def test_renewing_says_again_where_a_job_is(jobs, claims, leases):
    (held,) = await some_claimed(jobs, claims, 1)
    assert await leases.renew([replace(held, seat=Seat(7, 4711))], 60) == []
    lease = (await jobs.find_one({}))["lease"]
    assert (lease["slot"], lease["pid"], lease["token"]) == (7, 4711, 1)


async def test_a_lease_that_ran_out_but_was_taken_by_nobody_is_renewed(database, jobs, claims, leases):
    held = await some_claimed(jobs, claims, 1)
    await expire(jobs)
    assert await leases.renew(held, 60) == []
    assert (await jobs.find_one({}))["lease"]["expires_at"] > await server_now(database)


@pytest.mark.parametrize(
    "taken",
    [
        {"lease.token": 2},
        {"lease.supervisor": RIVAL.supervisor},
        {"status": "completed"},
        {"status": "pending"},
        {"lease": None},
    ],
    ids=repr,
)
async def test_leases_that_are_no_longer_ours_are_told_and_the_others_renewed(database, jobs, claims, leases, taken):
    held = await some_claimed(jobs, claims, 1, 2, 3)
    await expire(jobs)
    await jobs.update_one({"_id": 2}, {"$set": taken})
    before = await jobs.find_one({"_id": 2})
    assert await leases.renew(held, 60) == [held[1].job]
    now = await server_now(database)
    assert await jobs.count_documents({"_id": {"$in": [1, 3]}, "lease.expires_at": {"$gt": now}}) == 2
    assert await jobs.find_one({"_id": 2}) == before


async def test_a_deleted_job_s_lease_is_lost(jobs, claims, leases):
    held = await some_claimed(jobs, claims, 1, 2)
    await jobs.delete_one({"_id": 1})
    assert await leases.renew(held, 60) == [held[0].job]


async def test_renewing_nothing_asks_nothing(leases):
    assert await leases.renew([], 60) == []


async def test_a_document_that_breaks_the_schema_is_renewed_all_the_same(jobs, claims, leases):
    held = await some_claimed(jobs, claims, 1)
    await jobs.update_one({}, {"$set": {"progress": "strange"}}, bypass_document_validation=True)
    assert await leases.renew(held, 60) == []


# requests to cancel


async def test_only_our_running_jobs_that_were_asked_to_cancel_are_told(jobs, claims, rival, leases):
    await some_claimed(jobs, claims, 1, 2)
    await some_claimed(jobs, rival, 3)
    await jobs.insert_one(pending(_id=4))
    assert await leases.cancel_requests() == set()
    await jobs.update_many({"_id": {"$ne": 2}}, {"$set": {"cancel_requested": True}})
    assert await leases.cancel_requests() == {claim_key(1, 1)}


# strays


async def test_a_job_claimed_in_our_name_that_we_do_not_know_of_is_a_stray(jobs, claims, rival, leases):
    known = [claim.job for claim in await some_claimed(jobs, claims, 1)]
    await some_claimed(jobs, rival, 2)
    await jobs.insert_one(pending(_id=3, attempt=1, claims=4, crashes=1))
    await claims.claim({"count": 1}, [Place(7, 70)], lease_s=60, payload_kb=1)
    assert await leases.strays(known) == await leases.strays([*known, *known])
    ((job, seat),) = await leases.strays(known)
    assert (job.id, job.handler, job.attempt, job.token, job.crashes) == (3, "count", 2, 5, 1)
    assert seat == Seat(7, 70)
    assert [each.id for each, _ in await leases.strays([])] == [1, 3]


async def test_a_later_claim_of_a_job_that_we_know_is_a_stray(jobs, claims, leases):
    known = [claim.job for claim in await some_claimed(jobs, claims, 1)]
    await jobs.update_one({}, {"$set": {"lease.token": 2, "claims": 2}})
    assert [job.token for job, _ in await leases.strays(known)] == [2]


# expired


async def test_expired_leases_are_found_whoever_held_them(jobs, claims, rival, leases):
    await some_claimed(jobs, claims, 1, 2)
    await some_claimed(jobs, rival, 3, 4)
    assert await leases.expired() == []
    await expire(jobs, _id={"$in": [2, 4]})
    found = {job.id: (job.token, owner, seat) for job, seat, owner in await leases.expired()}
    assert found == {2: (1, OWNER, Seat(1, 1001)), 4: (1, RIVAL, Seat(1, 1001))}


async def test_no_more_expired_leases_are_read_than_asked_for(jobs, claims, leases):
    await some_claimed(jobs, claims, *range(5))
    await expire(jobs)
    assert len(await leases.expired(limit=3)) == 3


@pytest.mark.parametrize("status", ["pending", "completed", "failed", "cancelled"])
async def test_only_a_processing_job_has_a_lease_to_expire(jobs, claims, leases, status):
    await some_claimed(jobs, claims, 1)
    await expire(jobs)
    await jobs.update_one({}, {"$set": {"status": status}})
    assert await leases.expired() == []


@pytest.mark.parametrize("expires_at", [None, 0, math.nan, "then", [], FUTURE])
async def test_a_lease_without_a_past_date_has_not_expired(jobs, claims, leases, expires_at):
    await some_claimed(jobs, claims, 1)
    await jobs.update_one({}, {"$set": {"lease.expires_at": expires_at}})
    assert await leases.expired() == []


async def test_an_orphan_is_read_with_what_decides_its_fate(jobs, rival, leases):
    await jobs.insert_one(
        pending(_id=1, attempt=1, claims=8, crashes=2, max_attempts=5, cancel_requested=False, handler="count")
    )
    await claim_one(rival)
    await jobs.update_one({}, {"$set": {"cancel_requested": True}})
    await expire(jobs)
    ((job, _, owner),) = await leases.expired()
    assert (job.attempt, job.token, job.crashes, job.max_attempts, job.cancel_requested) == (2, 9, 2, 5, True)
    assert owner == RIVAL


@pytest.mark.parametrize("field", ["attempt", "crashes", "max_attempts", "lease.slot", "lease.pid", "lease.host"])
@pytest.mark.parametrize("value", ["x", math.nan, math.inf, {}, [], None])
async def test_an_orphan_with_a_strange_field_is_still_found(jobs, claims, leases, field, value):
    await some_claimed(jobs, claims, 1)
    await expire(jobs)
    await jobs.update_one({}, {"$set": {field: value}}, bypass_document_validation=True)
    ((job, _, _),) = await leases.expired()
    assert (job.id, job.token) == (1, 1)


# a supervisor that is known to be dead


async def test_the_jobs_of_one_supervisor_are_found_before_their_leases_expire(jobs, claims, rival, leases):
    await some_claimed(jobs, claims, 1)
    await some_claimed(jobs, rival, 2, 3)
    await jobs.update_one({"_id": 3}, {"$set": {"status": "completed"}})
    found = await leases.of_supervisor(RIVAL.supervisor)
    assert [(job.id, owner) for job, _, owner in found] == [(2, RIVAL)]
    assert await leases.of_supervisor("nobody") == []


# processing without a lease

GOOD_LEASE = {"token": 1, "supervisor": "s", "host": "h", "slot": 0, "pid": 1, "expires_at": FUTURE}
MALFORMED = [
    pytest.param(lease, id=name)
    for name, lease in {
        "missing": None,
        "text": "x",
        "empty": {},
        "an array": [],
        "no end": {**GOOD_LEASE, "expires_at": None},
        "an end in text": {**GOOD_LEASE, "expires_at": "then"},
        "an end in seconds": {**GOOD_LEASE, "expires_at": 1.7e9},
        "no token": {**GOOD_LEASE, "token": None},
        "a token in text": {**GOOD_LEASE, "token": "1"},
        "a token of NaN": {**GOOD_LEASE, "token": math.nan},
        "a token and a half": {**GOOD_LEASE, "token": 1.5},
        "a true token": {**GOOD_LEASE, "token": True},
        "no supervisor": {**GOOD_LEASE, "supervisor": None},
        "a number for a supervisor": {**GOOD_LEASE, "supervisor": 5},
    }.items()
]


@pytest.mark.parametrize("lease", MALFORMED)
async def test_a_processing_job_without_a_usable_lease_ends_as_invalid(jobs, leases, lease):
    await insert_unchecked(jobs, pending(_id=1, status="processing", lease=lease, attempt=1))
    assert await leases.set_aside_malformed() == 1
    document = await jobs.find_one({})
    assert (document["status"], document["error"]["kind"], document["attempt"]) == ("failed", "invalid", 1)
    assert document["error"]["message"].startswith("lease: missing or malformed")
    assert document["finished_at"]
    assert "lease" not in document


async def test_a_lease_in_an_array_is_malformed(jobs, leases):
    lease = [{**GOOD_LEASE, "expires_at": ago(3600)}]
    await insert_unchecked(jobs, pending(_id=1, status="processing", lease=lease))
    found = len(await leases.expired()) + await leases.set_aside_malformed()
    assert found == 1


async def test_sound_leases_and_jobs_that_are_not_processing_are_left_alone(jobs, claims, leases):
    await some_claimed(jobs, claims, 1, 2)
    await expire(jobs, _id=2)
    others = ["pending", "completed", "failed", "cancelled"]
    await insert_unchecked(jobs, *(pending(_id=status, status=status, lease={"token": "x"}) for status in others))
    assert await leases.set_aside_malformed() == 0
    assert await statuses(jobs) == {1: "processing", 2: "processing", **{status: status for status in others}}


@pytest.mark.parametrize("left", [0, 100, 1000])
async def test_one_of_almost_16_mb_keeps_no_other_waiting(jobs, leases, left):
    await insert_unchecked(jobs, *(pending(_id=n, status="processing") for n in (1, 3)))
    frame = len(bson.encode(pending(_id=2, status="processing", payload={"x": b""})))
    size = 16 * 1024 * 1024 - frame - left
    await insert_unchecked(jobs, pending(_id=2, status="processing", payload={"x": b"a" * size}))
    assert await leases.set_aside_malformed() == 3
    assert await statuses(jobs) == {1: "failed", 2: "failed", 3: "failed"}
    for document in await jobs.find({"_id": {"$ne": 2}}).to_list():
        assert document["error"]["message"].endswith("producers insert jobs as `pending`")


# cancelled before they ran


async def test_pending_jobs_that_were_cancelled_end_at_once_whoever_could_run_them_and_when(jobs, leases):
    await jobs.insert_many(
        [
            pending(_id=1, cancel_requested=True),
            pending(_id=2, cancel_requested=True, run_at=FUTURE),
            pending(_id=3, cancel_requested=True, handler="nobody's"),
            pending(_id=4),
            pending(_id=5, cancel_requested=False),
        ]
    )
    assert await leases.end_cancelled() == 3
    assert await statuses(jobs) == {**dict.fromkeys((1, 2, 3), "cancelled"), 4: "pending", 5: "pending"}
    document = await jobs.find_one({"_id": 1})
    assert (document["error"]["kind"], document["error"]["message"]) == ("cancelled", "cancelled before it ran")
    assert document["finished_at"]


async def test_a_running_job_is_left_to_its_supervisor(jobs, claims, leases):
    await some_claimed(jobs, claims, 1)
    await jobs.update_one({"_id": 1}, {"$set": {"cancel_requested": True}})
    assert await leases.end_cancelled() == 0
    assert await statuses(jobs) == {1: "processing"}


async def test_looking_for_cancelled_jobs_reads_none_that_just_wait(database, jobs, leases):
    await jobs.insert_many([pending() for _ in range(2000)])
    await jobs.insert_one(pending(_id="off", cancel_requested=True))
    await database.command("profile", 2)
    assert await leases.end_cancelled() == 1
    await database.command("profile", 0)
    entries = await database["system.profile"].find({"ns": jobs.full_name, "keysExamined": {"$exists": True}}).to_list()
    assert entries
    assert sum(entry["keysExamined"] + entry.get("docsExamined", 0) for entry in entries) < 10
