"""Recording outcomes in a real database: fenced, in groups, exactly once, and whatever a result contains."""

import time
from datetime import UTC, datetime, timedelta

import bson
import pytest
from bson import ObjectId
from pymongo.errors import PyMongoError

from supervisor.codec import RAW
from supervisor.core.outcome import Cancelled, Crashed, ErrorKind, Interrupted, Lost, Returned, TimedOut, Usage
from supervisor.store.connection import CALL_TIMEOUT_S
from supervisor.store.records import Ended
from supervisor.store.results import ResultRefusedError
from tests.support.failpoints import failing
from tests.support.jobs import (
    OWNER,
    RIVAL,
    change,
    claim_one,
    claim_some,
    ended,
    ids,
    pending,
    raised,
    returned,
    server_now,
    statuses,
)


async def one_claimed(jobs, claims, **fields):
    """Insert a job with the id 1 and claim it."""
    await jobs.insert_one(pending(_id=1, **fields))
    return await claim_one(claims)


async def requeue(jobs):
    """Put job 1 back by hand, as an operator may."""
    await jobs.update_one({"_id": 1}, {"$set": {"status": "pending"}, "$unset": {"run_at": 1}})


# what is written


async def test_a_completed_job_has_its_result_and_an_entry_of_its_attempt(database, jobs, claims, results):
    claim = await one_claimed(jobs, claims, customer="x")
    before = await server_now(database)
    usage = Usage(run_s=1.23456, cpu_s=0.98765, peak_rss_mb=81.26)
    assert await results.apply([ended(claim, returned({"text": "ä", "n": 1}, usage=usage, logs="hello"))]) == [True]
    document = await jobs.find_one({})
    assert (document["status"], document["result"]) == ("completed", {"text": "ä", "n": 1})
    assert before <= document["finished_at"] <= await server_now(database)
    assert document["usage"] == {"wait_s": 0.0, "run_s": 1.2346, "cpu_s": 0.9877, "peak_rss_mb": 81.3}
    assert (document["attempt"], document["crashes"], document["customer"]) == (1, 0, "x")
    assert "lease" not in document
    assert "error" not in document
    (entry,) = document["attempts"]
    assert entry.pop("started_at") == document["started_at"]
    assert entry.pop("ended_at") == document["finished_at"]
    assert entry == {
        "n": 1,
        "token": 1,
        "supervisor": OWNER.supervisor,
        "host": OWNER.host,
        "slot": 0,
        "pid": 1000,
        "outcome": "completed",
        "error": None,
        "usage": document["usage"],
        "logs": "hello",
    }


async def test_a_job_without_a_result_has_null(jobs, claims, results):
    claim = await one_claimed(jobs, claims)
    assert await results.apply([ended(claim, Returned())]) == [True]
    assert (await jobs.find_one({}))["result"] is None


async def test_a_failed_attempt_is_due_again_in_the_database_s_time_and_keeps_its_error(
    database, jobs, claims, results
):
    claim = await one_claimed(jobs, claims)
    before = await server_now(database)
    outcome = raised(message="$boom", retry_in_s=3600)
    assert await results.apply([ended(claim, outcome)]) == [True]
    after, document = await server_now(database), await jobs.find_one({})
    assert (document["status"], document["attempt"]) == ("pending", 1)
    assert before + timedelta(hours=1) <= document["run_at"] <= after + timedelta(hours=1)
    assert (document["error"]["kind"], document["error"]["message"]) == ("exception", "$boom")
    assert document["attempts"][0]["error"] == document["error"]
    assert "lease" not in document
    assert "finished_at" not in document
    assert await claim_some(claims, 1) == []


@pytest.mark.parametrize(
    ("outcome", "status", "kind"),
    [
        (raised(ErrorKind.PERMANENT), "failed", "permanent"),
        (raised(ErrorKind.RESULT), "failed", "result"),
        (raised(ErrorKind.INVALID), "failed", "invalid"),
        (Cancelled(), "cancelled", "cancelled"),
    ],
)
async def test_a_job_that_ended_otherwise_has_its_error_and_its_end(jobs, claims, results, outcome, status, kind):
    claim = await one_claimed(jobs, claims)
    assert await results.apply([ended(claim, outcome)]) == [True]
    document = await jobs.find_one({})
    assert (document["status"], document["error"]["kind"]) == (status, kind)
    assert document["finished_at"]
    assert "lease" not in document
    assert "result" not in document


@pytest.mark.parametrize("outcome", [Interrupted(reason="drain"), Crashed(started=False)])
async def test_an_attempt_given_back_will_be_counted_anew(jobs, claims, results, outcome):
    claim = await one_claimed(jobs, claims)
    assert await results.apply([ended(claim, outcome)]) == [True]
    document = await jobs.find_one({})
    assert (document["status"], document["attempt"], document["crashes"]) == ("pending", 0, 0)
    await jobs.update_one({}, {"$unset": {"run_at": 1}})  # a worker that died before the start backs off a moment
    again = await claim_one(claims)
    assert (again.job.attempt, again.job.token) == (1, 2)


async def test_a_crash_is_counted(jobs, claims, results):
    claim = await one_claimed(jobs, claims)
    assert await results.apply([ended(claim, Crashed(started=True, signal="SIGSEGV"))]) == [True]
    document = await jobs.find_one({})
    assert (document["attempt"], document["crashes"], document["error"]["signal"]) == (1, 1, "SIGSEGV")


async def test_completing_clears_the_error_of_an_earlier_attempt_but_not_its_entry(jobs, claims, results):
    claim = await one_claimed(jobs, claims)
    await results.apply([ended(claim, TimedOut(limit_s=1, killed=True))])
    await requeue(jobs)
    await results.apply([ended(await claim_one(claims), returned({}))])
    document = await jobs.find_one({})
    assert "error" not in document
    assert [entry["outcome"] for entry in document["attempts"]] == ["timeout", "completed"]
    assert [(entry["n"], entry["token"]) for entry in document["attempts"]] == [(1, 1), (2, 2)]


async def test_the_result_of_a_second_run_replaces_the_first_and_is_not_merged_with_it(jobs, claims, results):
    claim = await one_claimed(jobs, claims)
    await results.apply([ended(claim, returned({"old": {"a": 1}, "both": {"a": 1}}))])
    await requeue(jobs)
    await results.apply([ended(await claim_one(claims), returned({"both": {"b": 2}}))])
    assert (await jobs.find_one({}))["result"] == {"both": {"b": 2}}


async def test_a_large_result_is_named_by_its_file(jobs, claims, results):
    claim, file_id = await one_claimed(jobs, claims), ObjectId()
    record = ended(claim, Returned(spool_file="/spool/result.json"), result_file=file_id)
    assert await results.apply([record]) == [True]
    document = await jobs.find_one({})
    assert document["result_file"] == file_id
    assert "result" not in document


async def test_a_small_result_of_a_second_run_leaves_no_file_of_the_first(jobs, claims, results):
    claim = await one_claimed(jobs, claims)
    await results.apply([ended(claim, Returned(spool_file="x"), result_file=ObjectId())])
    await requeue(jobs)
    await results.apply([ended(await claim_one(claims), returned({"new": 1}))])
    document = await jobs.find_one({})
    assert document["result"] == {"new": 1}
    assert "result_file" not in document


@pytest.mark.parametrize(
    "result",
    [
        {"text": "$priority", "now": "$$NOW", "root": "$$ROOT"},
        {"$set": {"status": "failed"}, "$$NOW": 1},
        {"a.b": 1, "a": {"b.c": {"$d": 2}}, "": 3},
        {"$literal": {"$concat": ["a", "b"]}},
        {"list": ["$x", {"$y": "$z"}]},
        {"$ref": "jobs", "$id": 1},
        {"nul in a value": "a\0b"},
    ],
)
async def test_a_result_is_stored_literally(jobs, claims, results, result):
    claim = await one_claimed(jobs, claims, priority=5)
    assert await results.apply([ended(claim, returned(result))]) == [True]
    document = await jobs.with_options(RAW).find_one({"status": "completed"})
    assert document["result"].raw == bson.encode(result)


async def test_an_error_log_and_code_are_stored_literally(jobs, claims, results):
    claim = await one_claimed(jobs, claims)
    outcome = raised(ErrorKind.PERMANENT, "$status", logs="$$ROOT\n$handler")
    assert await results.apply([ended(claim, outcome)]) == [True]
    document = await jobs.find_one({})
    assert document["error"]["message"] == "$status"
    assert document["attempts"][0]["logs"] == "$$ROOT\n$handler"


async def test_no_more_than_twenty_attempts_are_kept_the_newest_last(jobs, claims, results):
    await jobs.insert_one(pending(_id=1, attempt=50, attempts=[{"n": n} for n in range(30)]))
    await results.apply([ended(await claim_one(claims), returned({}))])
    kept = [entry["n"] for entry in (await jobs.find_one({}))["attempts"]]
    assert kept == [*range(11, 30), 51]


async def test_the_last_report_of_progress_is_written_with_the_end(database, jobs, claims, results):
    claim = await one_claimed(jobs, claims)
    await results.report_progress(claim.job, OWNER, {"done": 1, "total": 9, "message": "old"})
    before = await server_now(database)
    record = ended(claim, returned({}), progress={"done": 9, "total": 9, "message": None})
    assert await results.apply([record]) == [True]
    progress = (await jobs.find_one({}))["progress"]
    assert progress.pop("at") >= before
    assert progress == {"done": 9, "total": 9, "message": None}


# the fence


def with_another_token(claim):
    return Ended(change(type(claim.job)(**{**vars(claim.job), "token": 2}), returned({})), claim.seat, OWNER)


LOST = [
    pytest.param(with_another_token, id="another token"),
    pytest.param(lambda claim: ended(claim, returned({}), RIVAL), id="another supervisor"),
]


@pytest.mark.parametrize("record", LOST)
async def test_a_claim_that_is_not_ours_writes_nothing(jobs, claims, results, record):
    claim = await one_claimed(jobs, claims)
    before = await jobs.find_one({})
    assert await results.apply([record(claim)]) == [False]
    assert await jobs.find_one({}) == before


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "pending"])
async def test_a_job_that_is_no_longer_processing_is_not_touched(jobs, claims, results, status):
    claim = await one_claimed(jobs, claims)
    await jobs.update_one({}, {"$set": {"status": status}})
    before = await jobs.find_one({})
    assert await results.apply([ended(claim, returned({}))]) == [False]
    assert await jobs.find_one({}) == before


async def test_a_deleted_job_is_lost(jobs, claims, results):
    claim = await one_claimed(jobs, claims)
    await jobs.delete_one({})
    assert await results.apply([ended(claim, returned({}))]) == [False]
    assert await jobs.count_documents({}) == 0


async def test_the_result_of_an_earlier_claim_is_dropped(jobs, claims, results):
    old = await one_claimed(jobs, claims)
    await results.apply([ended(old, Interrupted(reason="drain"))])
    new = await claim_one(claims)
    late, timely = ended(old, returned({"late": True})), ended(new, returned({"new": True}))
    assert await results.apply([late, timely]) == [False, True]
    document = await jobs.find_one({})
    assert document["result"] == {"new": True}
    assert [entry["token"] for entry in document["attempts"]] == [1, 2]


async def test_a_result_that_comes_after_the_reaper_is_dropped_and_said_to_be(jobs, claims, results):
    claim = await one_claimed(jobs, claims)
    await jobs.update_one({}, [{"$set": {"lease.expires_at": {"$subtract": ["$$NOW", 1]}}}])
    lost = ended(claim, Lost(supervisor=OWNER.supervisor, cause="its lease expired"), only_if_expired=True)
    assert await results.apply([lost]) == [True]
    assert await results.apply([ended(claim, returned({"late": True}))]) == [False]
    assert [entry["outcome"] for entry in (await jobs.find_one({}))["attempts"]] == ["lost"]


async def test_the_reaper_ends_only_what_is_still_expired(jobs, claims, results):
    claim = await one_claimed(jobs, claims)
    record = ended(claim, Interrupted(reason="x"), only_if_expired=True)
    assert await results.apply([record]) == [False]
    assert await statuses(jobs) == {1: "processing"}
    await jobs.update_one({}, [{"$set": {"lease.expires_at": {"$subtract": ["$$NOW", 1]}}}])
    assert await results.apply([record]) == [True]
    assert await statuses(jobs) == {1: "pending"}


@pytest.mark.parametrize("expires_at", [None, 0, "then", datetime(9999, 1, 1, tzinfo=UTC)])
async def test_a_lease_without_a_past_date_is_not_expired(jobs, claims, results, expires_at):
    claim = await one_claimed(jobs, claims)
    await jobs.update_one({}, {"$set": {"lease.expires_at": expires_at}})
    assert await results.apply([ended(claim, returned({}), only_if_expired=True)]) == [False]


# once, and together


@pytest.mark.parametrize("outcome", [returned({"n": 1}), raised(), raised(ErrorKind.PERMANENT)])
async def test_the_same_end_written_twice_is_recorded_once(jobs, claims, results, outcome):
    claim = await one_claimed(jobs, claims)
    assert await results.apply([ended(claim, outcome)]) == [True]
    first = await jobs.find_one({})
    assert await results.apply([ended(claim, outcome)]) == [True]
    assert await jobs.find_one({}) == first
    assert len(first["attempts"]) == 1


async def test_in_a_group_the_one_that_is_lost_does_not_harm_the_others(jobs, claims, results):
    await jobs.insert_many([pending(_id=n) for n in range(10)])
    held = await claim_some(claims, 10)
    await jobs.update_one({"_id": 4}, {"$set": {"lease.token": 99}})
    answers = await results.apply([ended(claim, returned({"n": claim.job.id})) for claim in held])
    assert answers == [True] * 4 + [False] + [True] * 5
    assert [document["result"]["n"] async for document in jobs.find({"status": "completed"})] == [
        0,
        1,
        2,
        3,
        5,
        6,
        7,
        8,
        9,
    ]


async def test_a_group_of_none_is_nothing(results):
    assert await results.apply([]) == []


# what the database refuses


def nested(levels):
    value = {}
    for _ in range(levels):
        value = {"a": value}
    return value


TOO_LARGE = {"x": b"a" * (16 * 1024 * 1024 - 200)}


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(nested(190), id="190 levels"),
        pytest.param(nested(250), id="250 levels"),
        pytest.param(TOO_LARGE, id="16 MB"),
    ],
)
async def test_a_result_that_cannot_be_stored_is_refused_and_the_others_of_its_group_are_recorded(
    jobs, claims, results, result
):
    await jobs.insert_many([pending(_id=n) for n in range(3)])
    first, bad, last = await claim_some(claims, 3)
    answers = await results.apply([ended(first, returned({})), ended(bad, returned(result)), ended(last, returned({}))])
    assert (answers[0], answers[2]) == (True, True)
    assert isinstance(answers[1], ResultRefusedError)
    assert str(answers[1])
    assert await statuses(jobs) == {0: "completed", 1: "processing", 2: "completed"}
    assert await results.apply([ended(bad, raised(ErrorKind.RESULT))]) == [True]
    assert (await statuses(jobs))[1] == "failed"


async def test_with_followers_too_a_result_that_cannot_be_stored_is_refused(jobs, claims, results):
    claim = await one_claimed(jobs, claims, then=[{"handler": "ner"}])
    (answer,) = await results.apply([ended(claim, returned(nested(190)))])
    assert isinstance(answer, ResultRefusedError)
    assert await statuses(jobs) == {1: "processing"}


# followers

THEN = [{"handler": "ner", "payload": {"lang": "$de", "a.b": None}, "priority": 5}, {"handler": "index", "_id": "own"}]


async def followers(jobs):
    return await jobs.find({"_id": {"$ne": 1}}).sort("handler", -1).to_list()


async def test_followers_are_enqueued_with_their_parent_named(jobs, claims, results):
    claim = await one_claimed(jobs, claims, then=THEN, batch_id="b1", trace="00-a-b-01")
    assert await results.apply([ended(claim, returned({"n": 1}))]) == [True]
    ner, index = await followers(jobs)
    parent = await jobs.find_one({"_id": 1})
    assert (parent["status"], parent["result"]) == ("completed", {"n": 1})
    assert parent["children"] == [ner["_id"], "own"]
    assert isinstance(ner.pop("_id"), ObjectId)
    inherited = {"batch_id": "b1", "trace": "00-a-b-01", "status": "pending"}
    payload = {"lang": "$de", "a.b": None, "parent_job_id": 1}
    assert ner == {"handler": "ner", "priority": 5, "payload": payload, **inherited}
    assert index == {"_id": "own", "handler": "index", "payload": {"parent_job_id": 1}, **inherited}


async def test_followers_are_enqueued_once_when_the_write_is_repeated(jobs, claims, results):
    claim = await one_claimed(jobs, claims, then=THEN)
    for _ in range(3):
        assert await results.apply([ended(claim, returned({}))]) == [True]
    assert len(await followers(jobs)) == 2
    assert len((await jobs.find_one({"_id": 1}))["attempts"]) == 1


@pytest.mark.parametrize("outcome", [raised(), raised(ErrorKind.PERMANENT), Cancelled(), Interrupted(reason="drain")])
async def test_only_a_completed_job_has_followers(jobs, claims, results, outcome):
    claim = await one_claimed(jobs, claims, then=THEN)
    assert await results.apply([ended(claim, outcome)]) == [True]
    assert await followers(jobs) == []


@pytest.mark.parametrize("record", LOST)
async def test_a_lost_claim_enqueues_no_followers(jobs, claims, results, record):
    claim = await one_claimed(jobs, claims, then=THEN)
    assert await results.apply([record(claim)]) == [False]
    assert await followers(jobs) == []
    assert await statuses(jobs) == {1: "processing"}


async def test_a_follower_whose_unique_key_is_active_is_left_out(jobs, claims, results):
    await jobs.insert_many(
        [pending(_id="active", unique_key="k", handler="x"), pending(_id="ended", unique_key="free", status="failed")]
    )
    claim = await one_claimed(jobs, claims, then=[{"handler": "ner", "unique_key": key} for key in ("k", "free")])
    assert await results.apply([ended(claim, returned({}))]) == [True]
    children = (await jobs.find_one({"_id": 1}))["children"]
    assert [document["unique_key"] async for document in jobs.find({"handler": "ner"})] == ["free"]
    assert len(children) == 1


async def test_a_follower_may_take_over_the_unique_key_of_its_parent(jobs, claims, results):
    claim = await one_claimed(jobs, claims, unique_key="k", then=[{"handler": "ner", "unique_key": "k"}])
    assert await results.apply([ended(claim, returned({}))]) == [True]
    assert len(await followers(jobs)) == 1


@pytest.mark.parametrize("same", [{"unique_key": "k"}, {"_id": "k"}], ids=["unique_key", "_id"])
async def test_of_two_followers_with_one_key_one_is_enqueued(jobs, claims, results, same):
    claim = await one_claimed(jobs, claims, then=[{"handler": "ner", **same}, {"handler": "index", **same}])
    assert await results.apply([ended(claim, returned({}))]) == [True]
    assert len(await followers(jobs)) == 1


async def test_a_group_with_and_without_followers_answers_in_order(jobs, claims, results):
    await jobs.insert_many([pending(_id=n, then=THEN[:1] if n % 2 else None) for n in range(4)])
    held = await claim_some(claims, 4)
    await jobs.update_many({"_id": {"$in": [2, 3]}}, {"$set": {"lease.token": 99}})
    assert ids(held) == [0, 1, 2, 3]
    assert await results.apply([ended(claim, returned({})) for claim in held]) == [True, True, False, False]
    assert await jobs.count_documents({"payload.parent_job_id": 1}) == 1
    assert await jobs.count_documents({"handler": "ner"}) == 1


async def test_a_follower_is_claimed_like_any_job_and_a_dict_id_is_no_hindrance(jobs, claims, results):
    await jobs.insert_one(pending(_id={"a": 1}, then=[{"handler": "count"}]))
    assert await results.apply([ended(await claim_one(claims), returned({}))]) == [True]
    child = await claim_one(claims)
    assert bson.decode(child.payload) == {"parent_job_id": {"a": 1}}
    assert await results.apply([ended(child, returned({}))]) == [True]


# progress


async def test_progress_is_replaced_by_the_newest_and_dated_by_the_database(database, jobs, claims, results):
    claim = await one_claimed(jobs, claims)
    await results.report_progress(claim.job, OWNER, {"done": 1, "total": 4, "message": "$$NOW", "old": 1})
    before = await server_now(database)
    assert await results.report_progress(claim.job, OWNER, {"done": 2, "total": 4, "message": "$x"})
    progress = (await jobs.find_one({}))["progress"]
    assert progress.pop("at") >= before
    assert progress == {"done": 2, "total": 4, "message": "$x"}


async def test_progress_of_a_lost_job_is_not_written(jobs, claims, results):
    claim = await one_claimed(jobs, claims)
    assert not await results.report_progress(claim.job, RIVAL, {"done": 1})
    await results.apply([ended(claim, returned({}))])
    assert not await results.report_progress(claim.job, OWNER, {"done": 1})
    assert "progress" not in await jobs.find_one({})


async def test_a_transaction_ends_within_a_call_s_deadline_and_its_next_try_is_not_in_its_own_way(
    mongod, jobs, claims, results
):
    claim = await one_claimed(jobs, claims, then=THEN)
    started = time.monotonic()
    no_end = ["commitTransaction", "abortTransaction"]
    with failing(mongod, no_end, closeConnection=True), pytest.raises(PyMongoError):
        await results.apply([ended(claim, returned({}))])
    assert time.monotonic() - started < 2 * CALL_TIMEOUT_S
    started = time.monotonic()
    assert await results.apply([ended(claim, returned({}))]) == [True]
    assert time.monotonic() - started < CALL_TIMEOUT_S
    assert len(await followers(jobs)) == 2
