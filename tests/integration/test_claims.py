"""Claiming against a real database: the order, the race, and documents that no claimer may stumble over."""

import asyncio
import math
from datetime import UTC, datetime, timedelta

import bson
import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from pymongo.errors import PyMongoError

from supervisor.core.gate import FleetLimits
from supervisor.core.lookahead import Expected, Place
from supervisor.store.claims import SMALL_PAYLOAD_BYTES, ClaimStore
from supervisor.store.taking import Seat
from tests.support.failpoints import failing
from tests.support.jobs import (
    JOBS,
    LEASE_S,
    OWNER,
    ago,
    claim_one,
    claim_some,
    ids,
    insert_bytes,
    insert_unchecked,
    pending,
    places,
    room,
    server_now,
    statuses,
)

FUTURE = datetime(9999, 1, 1, tzinfo=UTC)
FAR_DATE = DatetimeMS(8_640_000_000_000_000)


@pytest.fixture
def store(database, jobs):
    return ClaimStore(database, JOBS, OWNER)


# order


async def test_priority_goes_from_high_to_low_and_missing_is_zero(jobs, store):
    await jobs.insert_many(
        [
            pending(_id="low", priority=-5),
            pending(_id="none"),
            pending(_id="high", priority=5),
            pending(_id="null", priority=None),
            pending(_id="lowest", priority=-(2**31)),
            pending(_id="zero", priority=0),
            pending(_id="highest", priority=2**31 - 1),
            pending(_id="whole", priority=5.0, run_at=ago(60)),
        ]
    )
    claims = await claim_some(store, 8)
    assert ids(claims) == ["highest", "high", "whole", "none", "null", "zero", "low", "lowest"]


async def test_of_one_priority_the_oldest_run_at_goes_first_and_missing_is_due(jobs, store):
    await jobs.insert_many(
        [
            pending(_id="a minute", run_at=ago(60)),
            pending(_id="an hour", run_at=ago(3600)),
            pending(_id="missing"),
            pending(_id="a year", run_at=ago(365 * 86_400)),
            pending(_id="null", run_at=None),
        ]
    )
    claims = await claim_some(store, 5)
    assert ids(claims) == ["missing", "null", "a year", "an hour", "a minute"]


async def test_of_the_same_run_at_the_smallest_id_goes_first(jobs, store):
    run_at = ago(60)
    await jobs.insert_many([pending(_id=n, run_at=run_at) for n in (3, 1, 5, 2, 4)])
    assert ids(await claim_some(store, 5)) == [1, 2, 3, 4, 5]


async def test_the_order_runs_across_handlers(jobs, store):
    await jobs.insert_many(
        [
            pending(_id=1, handler="ner", priority=1),
            pending(_id=2, handler="ocr", priority=2),
            pending(_id=3, handler="ner", run_at=ago(60)),
            pending(_id=4, handler="ocr", run_at=ago(120)),
        ]
    )
    assert ids(await claim_some(store, 4, room("ocr", "ner"))) == [2, 1, 4, 3]


async def test_a_job_of_the_future_waits_whatever_its_priority(jobs, store):
    await jobs.insert_many([pending(_id="later", priority=9, run_at=FUTURE), pending(_id="now")])
    assert ids(await claim_some(store, 2)) == ["now"]
    assert await statuses(jobs) == {"later": "pending", "now": "processing"}


async def test_a_job_falls_due_by_the_database_s_clock(database, jobs, store):
    now = await server_now(database)
    await jobs.insert_many([pending(_id="just", run_at=now), pending(_id="soon", run_at=now + timedelta(minutes=5))])
    assert ids(await claim_some(store, 2)) == ["just"]


# how many, and whose


async def test_each_seat_gets_one_job_at_most(jobs, store):
    await jobs.insert_many([pending(_id=n) for n in range(5)])
    claims = await claim_some(store, 3)
    assert ids(claims) == [0, 1, 2]
    assert [claim.seat for claim in claims] == [Seat(place.slot, place.pid) for place in places(3)]
    assert ids(await claim_some(store, 3)) == [3, 4]
    assert await claim_some(store, 3) == []


async def test_without_a_seat_nothing_is_claimed(jobs, store):
    await jobs.insert_one(pending(_id=1))
    assert await claim_some(store, 0) == []
    assert await statuses(jobs) == {1: "pending"}


@pytest.mark.parametrize(
    ("others", "exhausted"),
    [
        ([], True),
        ([pending(run_at=FUTURE), pending(handler="another")], True),
        ([pending() for _ in range(20)], False),
        ([pending(priority=9, payload=[]) for _ in range(9)], False),
    ],
    ids=["no other", "none that may run", "many", "many that cannot be jobs"],
)
async def test_a_claim_tells_whether_another_one_could_find_more(jobs, store, others, exhausted):
    await insert_unchecked(jobs, pending(), *others)
    assert len(await claim_some(store, 2)) >= 1
    assert store.exhausted is exhausted


@pytest.mark.parametrize(
    ("others", "drained"),
    [
        ([], True),
        ([pending(run_at=FUTURE), pending(handler="another")], True),
        ([pending()], True),
        ([pending(), pending()], False),
        ([pending() for _ in range(20)], False),
    ],
    ids=["no other", "none that may run", "as many as there are places", "one more", "many"],
)
async def test_a_new_job_is_taken_before_a_look_only_where_the_latest_claim_left_none_behind(
    jobs, store, others, drained
):
    await jobs.insert_many([pending(), *others])
    await claim_some(store, 2)
    document = pending(_id="new")
    await jobs.insert_one(document)
    taken = await store.claim_fresh(document, places(1)[0], lease_s=LEASE_S)
    assert (taken is not None) is drained
    assert (await jobs.find_one({"_id": "new"}))["status"] == ("processing" if drained else "pending")


async def test_a_job_that_comes_when_none_is_left_is_taken_by_what_was_told_of_it(database, jobs, store):
    assert await claim_some(store, 1) == []
    made_at = await server_now(database)
    document = pending(payload={"n": 7}, created_at=made_at)
    await jobs.insert_one(document)
    (place,) = places(1)
    (claim,) = await store.claim_fresh(document, place, lease_s=LEASE_S)
    assert (claim.job.id, claim.job.token, claim.job.attempt) == (document["_id"], 1, 1)
    assert bson.decode(claim.payload) == {"n": 7}
    stored = await jobs.find_one({"_id": document["_id"]})
    assert (stored["status"], stored["lease"]["token"], stored["lease"]["slot"]) == ("processing", 1, place.slot)
    assert claim.job.wait_s == pytest.approx((stored["started_at"] - made_at).total_seconds())
    assert await store.claim_fresh(document, place, lease_s=LEASE_S) == [], "it is taken"
    assert await store.claim_fresh(document, place, lease_s=LEASE_S) is not None, "and still no other waits"


async def test_only_handlers_with_room_are_claimed(jobs, store):
    await jobs.insert_many([pending(_id="known"), pending(_id="unknown", handler="other", priority=9)])
    assert ids(await claim_some(store, 2, room("count", "absent"))) == ["known"]
    assert await claim_some(store, 2, {}) == []
    assert (await statuses(jobs))["unknown"] == "pending"


async def test_no_handler_gets_more_than_its_room(jobs, store):
    await jobs.insert_many([pending(_id=n, handler="ocr", priority=5) for n in range(4)])
    await jobs.insert_many([pending(_id=n, handler="ner") for n in range(10, 14)])
    assert ids(await claim_some(store, 6, {"ocr": 2, "ner": 3})) == [0, 1, 10, 11, 12]


async def test_two_supervisors_never_share_a_job(jobs, store, rival):
    await jobs.insert_many([pending(_id=n) for n in range(200)])

    mine, theirs = [], []
    while await jobs.count_documents({"status": "pending"}):
        # both look at the same moment, each time: which of them gets how many is chance
        won, lost = await asyncio.gather(claim_some(store, 8), claim_some(rival, 8))
        mine += ids(won)
        theirs += ids(lost)
    assert sorted(mine + theirs) == list(range(200))
    assert await jobs.count_documents({"lease.supervisor": OWNER.supervisor}) == len(mine)
    assert await jobs.count_documents({"attempt": 1, "lease.token": 1}) == 200


@pytest.mark.parametrize(
    "meanwhile",
    [
        pytest.param({"status": "cancelled"}, id="cancelled"),
        pytest.param(
            {"status": "pending", "claims": 1, "attempt": 1}, id="run by somebody else, and to be tried again"
        ),
        pytest.param({"status": "processing", "claims": 1, "lease": {"token": 1, "slot": 0}}, id="taken"),
    ],
)
@pytest.mark.parametrize("others", [0, 1], ids=["alone", "with another"])
async def test_a_job_that_changes_between_being_seen_and_being_taken_is_left_alone(
    jobs, store, candidates, meanwhile, others
):
    await jobs.insert_many([pending(_id=n) for n in range(1 + others)])
    seen = await candidates.find(["count"], 8, 1024, {})
    await jobs.update_one({"_id": 0}, {"$set": meanwhile})
    before = await jobs.find_one({"_id": 0})
    claims = await store._take([(each, None) for each in seen], [Seat(n, n) for n in range(1 + others)], LEASE_S)
    assert ids(claims) == [1][:others]
    assert await jobs.find_one({"_id": 0}) == before


@pytest.mark.parametrize("status", ["processing", "completed", "failed", "cancelled", "foo"])
async def test_only_pending_jobs_are_claimed(jobs, store, status):
    await insert_unchecked(jobs, pending(_id=1, status=status))
    before = await jobs.find_one({})
    assert await claim_some(store, 1) == []
    assert await jobs.find_one({}) == before


# what a claim writes


async def test_a_claim_writes_the_attempt_the_token_and_the_lease(database, jobs, store):
    await jobs.insert_one(pending(_id=1, payload={"path": "a"}))
    before = await server_now(database)
    (claim,) = await store.claim(room(), [Place(3, 777)], lease_s=30, payload_kb=1)
    after = await server_now(database)
    document = await jobs.find_one({})
    expires_at = document["lease"].pop("expires_at")
    assert document["lease"] == {
        "token": 1,
        "supervisor": OWNER.supervisor,
        "host": OWNER.host,
        "slot": 3,
        "pid": 777,
    }
    assert before + timedelta(seconds=30) <= expires_at <= after + timedelta(seconds=30)
    assert before <= document["started_at"] == document["created_at"] <= after
    assert (document["status"], document["attempt"], document["claims"]) == ("processing", 1, 1)
    assert (claim.job.attempt, claim.job.token, claim.seat) == (1, 1, Seat(3, 777))
    assert bson.decode(claim.payload) == {"path": "a"}


async def test_a_claim_counts_on_and_keeps_what_was_there(jobs, store):
    created = datetime(2020, 1, 1, tzinfo=UTC)
    await jobs.insert_one(
        pending(
            _id=1,
            attempt=2,
            claims=7,
            crashes=1,
            created_at=created,
            error={"kind": "exception"},
            progress={"done": 5},
            lease={"token": 7, "supervisor": "old", "extra": 1},
            customer="x",
        )
    )
    claim = await claim_one(store)
    document = await jobs.find_one({})
    assert (claim.job.attempt, claim.job.token, claim.job.crashes) == (3, 8, 1)
    assert (document["attempt"], document["claims"], document["lease"]["token"]) == (3, 8, 8)
    assert (document["created_at"], document["error"], document["customer"]) == (created, {"kind": "exception"}, "x")
    assert "progress" not in document
    assert "extra" not in document["lease"]


async def test_a_claim_hands_over_what_the_producer_set(jobs, store):
    then = [{"handler": "ner", "payload": {"a": 1}}]
    await jobs.insert_one(
        pending(_id=1, timeout_s=1.5, max_attempts=5.0, batch_id={"n": 1}, group_key="g", trace="00-a-b-01", then=then)
    )
    job = (await claim_one(store)).job
    assert (job.id, job.handler, job.timeout_s, job.max_attempts) == (1, "count", 1.5, 5)
    assert (job.batch_id, job.group_key, job.trace, job.then) == ({"n": 1}, "g", "00-a-b-01", tuple(then))


async def test_a_supervisor_s_name_is_no_expression(database, jobs):
    strange = type(OWNER)("$handler", "$$NOW")
    await jobs.insert_one(pending(_id=1))
    await claim_one(ClaimStore(database, JOBS, strange))
    document = await jobs.find_one({})
    assert (document["lease"]["supervisor"], document["lease"]["host"]) == ("$handler", "$$NOW")


async def test_the_wait_is_counted_from_when_the_job_was_due(jobs, store):
    old = ObjectId.from_datetime(ago(7200))
    await jobs.insert_many(
        [
            pending(_id=1, created_at=ago(7200), run_at=ago(600)),
            pending(_id=2, created_at=ago(900)),
            pending(_id=old),
            pending(_id=3),
        ]
    )
    waits = {claim.job.id: claim.job.wait_s for claim in await claim_some(store, 4)}
    assert waits[1] == pytest.approx(600, abs=60)
    assert waits[2] == pytest.approx(900, abs=60)
    assert waits[old] == pytest.approx(7200, abs=60)
    assert waits[3] == 0.0


@pytest.mark.parametrize("payload", [None, {}])
async def test_a_job_without_a_payload_has_an_empty_one(jobs, store, payload):
    await jobs.insert_one(pending(_id=1, payload=payload))
    assert bson.decode((await claim_one(store)).payload) == {}


@pytest.mark.parametrize(
    "job_id",
    [
        {"a": 1, "b": {"c": [1]}},
        "text",
        b"bytes",
        Binary(b"x", 128),
        2.5,
        Int64(5),
        True,
        None,
        ObjectId("65f0a1b2c3d4e5f601234567"),
        Timestamp(1, 1),
        Decimal128("1.5"),
        FAR_DATE,
        math.nan,
        MinKey(),
        "ä\0$",
    ],
    ids=repr,
)
async def test_an_id_may_be_of_any_type(jobs, store, job_id):
    await jobs.insert_one(pending(_id=job_id, payload={"a": 1}))
    claim = await claim_one(store)
    assert bson.encode({"": claim.job.id}) == bson.encode({"": job_id})
    assert bson.decode(claim.payload) == {"a": 1}


# cancelled before it ran


async def test_good_jobs_do_not_wait_for_a_claim_of_their_own_behind_each_few_that_cannot_be_jobs(jobs, store):
    await insert_unchecked(jobs, *(pending(_id=n, priority=9, cancel_requested="yes") for n in range(15)))
    await jobs.insert_many([pending(_id=n, priority=9, cancel_requested=True) for n in range(15, 30)])
    await jobs.insert_one(pending(_id="good"))
    assert ids(await claim_some(store, 1)) == ["good"]
    assert await jobs.count_documents({"status": "failed"}) == await jobs.count_documents({"status": "cancelled"}) == 15


async def test_a_pending_job_that_was_cancelled_ends_without_running(jobs, store):
    await jobs.insert_many([pending(_id="off", cancel_requested=True, priority=9), pending(_id="on")])
    assert ids(await claim_some(store, 2)) == ["on"]
    document = await jobs.find_one({"_id": "off"})
    assert (document["status"], document["error"]["kind"]) == ("cancelled", "cancelled")
    assert document["error"]["message"] == "cancelled before it ran"
    assert document["finished_at"]
    assert "attempt" not in document


# malformed documents

MALFORMED = [
    ("priority", "high"),
    ("priority", 1.5),
    ("priority", math.nan),
    ("priority", math.inf),
    ("priority", 2**31),
    ("priority", Int64(2**62)),
    ("priority", True),
    ("priority", []),
    ("priority", [5]),
    ("priority", [math.nan]),
    ("priority", {"$gt": 1}),
    ("priority", Decimal128("5")),
    ("priority", Decimal128("NaN")),
    ("priority", ObjectId("0123456789abcdef01234567")),
    ("run_at", "now"),
    ("run_at", 0),
    ("run_at", math.nan),
    ("run_at", []),
    ("run_at", [5]),
    ("run_at", True),
    ("run_at", {"a": 1}),
    ("created_at", "now"),
    ("created_at", FAR_DATE),
    ("timeout_s", 0),
    ("timeout_s", -1),
    ("timeout_s", math.nan),
    ("timeout_s", "1"),
    ("max_attempts", 0),
    ("max_attempts", 2.5),
    ("max_attempts", "3"),
    ("unique_key", 5),
    ("group_key", {}),
    ("then", {"handler": "ner"}),
    ("then", [{"payload": {}}]),
    ("then", "ner"),
    ("attempt", -1),
    ("attempt", "0"),
    ("attempt", math.nan),
    ("attempt", Int64(2**63 - 1)),
    ("attempt", []),
    ("crashes", "0"),
    ("crashes", 0.5),
    ("claims", "7"),
    ("claims", math.nan),
    ("claims", Int64(2**63 - 1)),
    ("claims", {}),
    ("started_at", 5),
    ("cancel_requested", "yes"),
    ("cancel_requested", 1),
    ("trace", 5),
    ("payload", "text"),
    ("payload", []),
    ("payload", 5),
    ("lease", "x"),
    ("progress", 5),
    ("result", []),
    ("error", "x"),
    ("usage", []),
    ("children", {}),
    ("attempts", {}),
    ("attempts", "x"),
    ("handler", None),
    ("handler", 5),
    ("handler", {"$ne": None}),
    ("handler", []),
    ("handler", ["count"]),
    ("handler", Regex("count")),
]


def describe(value):
    return repr(value)[:40]


async def test_every_malformed_document_fails_by_name_and_the_good_ones_behind_are_claimed(jobs, store, candidates):
    bad = [
        {**pending(_id=f"{number}: {field} is {describe(value)}"), "priority": 9, field: value}
        for number, (field, value) in enumerate(MALFORMED)
    ]
    await insert_unchecked(jobs, *bad)
    await jobs.insert_many([pending(_id=number) for number in range(5)])
    claimed = []
    for _ in range(len(MALFORMED)):
        claimed += ids(await claim_some(store, 1))
        await candidates.set_aside_unreachable()
        if len(claimed) == 5:
            break
    assert claimed == [0, 1, 2, 3, 4]
    for (field, _), document in zip(MALFORMED, bad, strict=True):
        found = await jobs.find_one({"_id": document["_id"]})
        assert (found["status"], found["error"]["kind"]) == ("failed", "invalid"), document["_id"]
        assert found["error"]["message"].startswith(f"{field}: "), (document["_id"], found["error"]["message"])
        assert found["finished_at"]
        assert "lease" not in found or found["lease"] == document["lease"]
        assert "attempt" not in found or describe(found["attempt"]) == describe(document["attempt"])


async def test_missing_fields_that_every_job_needs_are_named(jobs, candidates):
    await insert_unchecked(jobs, {"_id": 1, "status": "pending"}, {"_id": 2, "status": "pending", "handler": None})
    assert await candidates.set_aside_unreachable() == 2
    messages = [document["error"]["message"] async for document in jobs.find()]
    assert messages == ["handler: missing, must be a string"] * 2


async def test_a_sound_document_is_never_set_aside(jobs, candidates):
    await jobs.insert_many(
        [
            pending(_id=1),
            pending(_id=2, priority=None),
            pending(_id=3, priority=2.0, handler="nobody has it"),
            pending(_id=4, run_at=FUTURE),
        ]
    )
    assert await candidates.set_aside_unreachable() == 0
    assert set((await statuses(jobs)).values()) == {"pending"}


NEVER_FOUND = [
    ("handler", ["somebody else's"]),
    ("run_at", Timestamp(1, 1)),
    ("run_at", Regex("x")),
    ("run_at", Code("x")),
    ("run_at", MaxKey()),
]


@pytest.mark.parametrize(("field", "value"), NEVER_FOUND, ids=describe)
async def test_a_value_that_no_scan_meets_fails_too(jobs, store, field, value, candidates):
    await insert_unchecked(jobs, {**pending(_id=1), field: value})
    await claim_some(store, 1)
    await candidates.set_aside_unreachable()
    assert await statuses(jobs) == {1: "failed"}


async def test_a_payload_above_the_limit_is_refused_and_says_what_to_do(jobs, store):
    await jobs.insert_many(
        [pending(_id="large", payload={"x": b"a" * 2048}, priority=9), pending(_id="good", payload={"x": b"a" * 1000})]
    )
    assert ids(await claim_some(store, 2, payload_kb=1)) == ["good"]
    document = await jobs.find_one({"_id": "large"})
    assert (document["status"], document["error"]["kind"]) == ("failed", "invalid")
    assert document["error"]["message"] == (
        "payload: is 2 kB, must be at most 1 kB (limits.payload_kb); larger input belongs in a file"
    )


# what cannot be decoded


def with_invalid_utf8(document):
    """Encode, and break the text XXXX in it."""
    return bson.encode(document).replace(b"XXXX", b"\xff\xfe\x00\xff")


async def test_a_payload_that_is_not_utf_8_is_handed_over_as_it_is_and_stops_nobody(jobs, store):
    bad = with_invalid_utf8(pending(_id="bad", priority=9, payload={"text": "XXXX"}))
    await insert_bytes(jobs, bad)
    await jobs.insert_one(pending(_id="good"))
    claims = await claim_some(store, 2)
    assert ids(claims) == ["bad", "good"]
    assert claims[0].payload in bad
    assert b"\xff\xfe" in claims[0].payload


async def test_a_date_beyond_python_s_is_handed_over_as_it_is(jobs, store):
    await jobs.insert_one(pending(_id=1, payload={"at": FAR_DATE}))
    claim = await claim_one(store)
    assert claim.payload == bson.encode({"at": FAR_DATE})


@pytest.mark.parametrize("field", ["trace", "unique_key", "group_key", "batch_id", "extra"])
async def test_text_that_is_not_utf_8_beside_the_payload_stops_nobody(jobs, store, field):
    await insert_bytes(jobs, with_invalid_utf8(pending(_id="bad", priority=9, **{field: "XXXX"})))
    await jobs.insert_one(pending(_id="good"))
    assert ids(await claim_some(store, 2)) == ["bad", "good"]


@pytest.mark.parametrize("how_many", [1, 12])
async def test_ids_that_are_not_utf_8_do_not_stay_at_the_top_for_ever(jobs, store, how_many, candidates):
    broken = [with_invalid_utf8(pending(_id=f"XXXX{number:02}", priority=9)) for number in range(how_many)]
    await insert_bytes(jobs, *broken)
    await jobs.insert_one(pending(_id="good"))
    claimed = [each for _ in range(3) for each in ids(await claim_some(store, 1))]
    await candidates.set_aside_unreachable()
    assert "good" in claimed
    assert await jobs.count_documents({"status": "pending"}) == 0


# the largest documents that a database takes

LARGEST = 16 * 1024 * 1024
PADDED = {
    "payload": lambda size: {"payload": {"x": b"a" * size}},
    "then": lambda size: {"then": [{"handler": "count", "payload": {"x": b"a" * size}}]},
    "trace": lambda size: {"trace": "a" * size},
    "a field of the producer's own": lambda size: {"extra": b"a" * size},
}


@pytest.fixture
async def warm(database):
    """Fill the cache of the mongod: an almost empty one takes no document that is as large as all the others."""
    await database["ballast"].insert_many([{"x": b"a" * 1_000_000} for _ in range(40)])


def almost_16_mb(field, room):
    """Return a document of `room` bytes less than the most that is allowed."""
    frame = len(bson.encode(pending(_id="big", priority=9, **PADDED[field](0))))
    return pending(_id="big", priority=9, **PADDED[field](LARGEST - frame - room))


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("left", [0, 100])
@pytest.mark.parametrize("field", PADDED)
async def test_a_document_of_almost_16_mb_at_the_top_leaves_the_queue_as_it_is(jobs, store, field, left):
    await insert_unchecked(jobs, almost_16_mb(field, left))
    await jobs.insert_one(pending(_id="good"))
    claimed = [each for _ in range(2) for each in ids(await claim_some(store, 1))]
    assert claimed == ["good"]
    document = await jobs.find_one({"_id": "big"})
    assert document["status"] == "failed"
    assert PADDED[field](0).keys() <= document.keys()


@pytest.mark.usefixtures("warm")
async def test_where_there_is_room_for_it_the_reason_is_given(jobs, store):
    await insert_unchecked(jobs, almost_16_mb("payload", 1000))
    assert await claim_some(store, 1) == []
    error = (await jobs.find_one({"_id": "big"}))["error"]
    assert (error["kind"], error["message"][:31]) == ("invalid", "payload: is 16383 kB, must be a")


# trouble


OUT_OF_TIME = {"writeConcernError": {"code": 50, "codeName": "MaxTimeMSExpired", "errmsg": "it took too long"}}
STEPS_DOWN = {
    "writeConcernError": {"code": 11602, "codeName": "InterruptedDueToReplStateChange", "errmsg": "it steps down"},
    "errorLabels": ["RetryableWriteError"],  # which the driver adds to what it has read
}


@pytest.mark.parametrize("others", [0, 1], ids=["alone", "with another"])
@pytest.mark.parametrize("unconfirmed", [OUT_OF_TIME, STEPS_DOWN], ids=["late", "stepped down"])
async def test_a_claim_that_no_majority_has_confirmed_starts_nothing(
    mongod, database, jobs, store, others, unconfirmed
):
    """An election could undo it, and the next claim of the job would get the same token."""
    await jobs.insert_many([pending() for _ in range(1 + others)])
    where = {"namespace": f"{database.name}.{JOBS}", **unconfirmed}
    with failing(mongod, ["update", "findAndModify"], **where), pytest.raises(PyMongoError):
        await claim_some(store, 1 + others)


async def test_a_lone_claim_that_is_refused_is_tried_in_the_way_that_tells_whose_fault_it_was(
    mongod, database, jobs, store
):
    await jobs.insert_one(pending(_id="job"))
    with failing(mongod, ["findAndModify"], namespace=f"{database.name}.{JOBS}", errorCode=112):
        assert ids(await claim_some(store, 1)) == ["job"]


# speed


async def claimed_under_watch(database, store, count):
    """Claim some jobs; return their ids and what the database says that reading them took."""
    await database.command("profile", 2)
    claims = await claim_some(store, count)
    await database.command("profile", 0)
    entries = await database["system.profile"].find({"ns": f"{database.name}.{JOBS}"}).to_list()
    await database["system.profile"].drop()
    return ids(claims), entries


async def keys_read(database, entries):
    """Run the aggregation that a claim begins with again, and return how many keys all of its parts read."""
    (aggregation,) = (entry["command"] for entry in entries if "aggregate" in entry["command"])
    command = {"aggregate": JOBS, "pipeline": aggregation["pipeline"], "cursor": {}}
    return total(await database.command("explain", command, verbosity="executionStats"), "totalKeysExamined")


def total(plan, name):
    if isinstance(plan, dict):
        return plan.get(name, 0) + sum(total(part, name) for part in plan.values())
    return sum(total(part, name) for part in plan) if isinstance(plan, list) else 0


async def test_a_claim_reads_few_keys_however_many_jobs_are_in_the_way(database, jobs, store):
    later = datetime.now(UTC) + timedelta(hours=1)
    in_the_way = [
        *(pending(_id=f"future {n}", priority=9, run_at=later + timedelta(seconds=n)) for n in range(7000)),
        *(pending(_id=f"low {n}", priority=-1, run_at=ago(n + 3600)) for n in range(7000)),
        *(pending(_id=f"other {n}", handler="other", priority=9) for n in range(6000)),
    ]
    await jobs.insert_many(in_the_way, ordered=False)
    await jobs.insert_many([pending(_id="first", priority=5), pending(_id="second"), pending(_id="third", priority=-1)])
    claimed, entries = await claimed_under_watch(database, store, 3)
    assert claimed == ["first", "second", "third"]
    assert not [entry["planSummary"] for entry in entries if "COLLSCAN" in entry.get("planSummary", "")]
    assert 0 < sum(entry.get("keysExamined", 0) for entry in entries) < 200
    assert 0 < sum(entry.get("docsExamined", 0) for entry in entries) < 200
    assert 0 < await keys_read(database, entries) < 200


# ahead of a free slot


def short(_handler):
    return Expected(0.001)


async def ahead(store, slots=1, **options):
    """Claim for slots of which each is free and may have nine short jobs waiting besides."""
    free = [Place(slot, 1000 + slot, most=10, ahead_s=0.1) for slot in range(slots)]
    return await store.claim(room(), free, lease_s=LEASE_S, payload_kb=1024, expected=short, **options)


async def test_short_jobs_are_claimed_ahead_and_spread_over_the_slots(jobs, store):
    await jobs.insert_many([pending(_id=n) for n in range(30)])
    claims = await ahead(store, slots=2)
    assert ids(claims) == list(range(20))
    assert [claim.seat.slot for claim in claims[:4]] == [0, 1, 0, 1]


async def test_a_large_payload_is_not_claimed_before_a_slot_is_free_for_it(jobs, store):
    large = {"text": "x" * SMALL_PAYLOAD_BYTES}
    await jobs.insert_many(
        [pending(_id=0, payload=large), pending(_id=1), pending(_id=2, payload=large), pending(_id=3)]
    )
    assert ids(await ahead(store)) == [0]  # and nothing behind it, which might be more to hold
    assert ids(await ahead(store)) == [1]  # the next large one keeps its place in the queue


async def test_of_a_handler_with_limits_across_machines_none_is_claimed_ahead(jobs, store):
    await jobs.insert_many([pending(_id=n) for n in range(5)])
    assert ids(await ahead(store, fleet={"count": FleetLimits(total=5)})) == [0]
