"""Jobs that are alike share an update, and nobody can tell from their documents."""

from datetime import datetime

import pytest
from bson import Binary, Decimal128, Int64, ObjectId

from supervisor.core.outcome import Interrupted
from supervisor.store.records import Write, write_alone, writes
from supervisor.store.results import ResultRefusedError
from supervisor.store.taking import FEWEST
from tests.support.jobs import JOBS, claim_some, ended, insert_unchecked, pending, returned

MANY = 3 * FEWEST
ODD = {"$set": {"a.b": "$status", "c": ["$$NOW", {"$literal": 1}]}}
"""A result that must not be taken for an expression."""


def undated(document):
    """Leave out what differs from job to job in any case, and times; those that are there stay as a word."""
    entries = [undated(entry) for entry in document.get("attempts", [])]
    named = {key: "a date" if isinstance(value, datetime) else value for key, value in document.items()}
    if "progress" in named:
        named["progress"] = {**named["progress"], "at": type(named["progress"]["at"])}
    return {**{key: value for key, value in named.items() if key not in ("_id", "pid", "slot")}, "attempts": entries}


async def documents(jobs):
    return [undated(document) async for document in jobs.find({}).sort("_id")]


def outcome(number):
    return returned(ODD if number % 2 else None, logs=f"printed by {number}\n" if number % 3 else "")


async def test_a_record_is_the_same_whether_it_was_written_alone_or_with_others(jobs, claims, results):
    before = {
        "error": {"kind": "exception"},
        "result": {"old": 1},
        "attempts": [{"n": 1, "token": 1}],
        "mine": {"x": 1},
    }
    found = []
    for alone in (False, True):
        await jobs.delete_many({})
        await insert_unchecked(jobs, *(pending(_id=n, attempt=1, claims=1, **before) for n in range(MANY)))
        held = await claim_some(claims, MANY)
        half = [None if claim.job.id < MANY // 2 else {"done": claim.job.id, "total": None} for claim in held]
        done = [ended(claim, outcome(claim.job.id), progress=at) for claim, at in zip(held, half, strict=True)]
        assert len(writes(done)) == 2  # with a last report of progress, and without
        if alone:
            done_alone = [Write((n,), write_alone(each)) for n, each in enumerate(done)]
            assert await results._write(done, done_alone) == [True] * MANY
        else:
            assert await results.apply(done) == [True] * MANY
        found.append(await documents(jobs))
    assert found[0] == found[1]
    assert [document.get("progress", {}).get("done") for document in found[0]] == [None] * 6 + [6, 7, 8, 9, 10, 11]
    assert [len(document["attempts"]) for document in found[0]] == [2] * MANY
    assert found[0][1]["result"] == ODD
    assert all("error" not in document and "lease" not in document for document in found[0])


async def test_a_claim_is_the_same_whether_it_was_made_alone_or_with_others(jobs, claims):
    found = []
    for at_once in (1, MANY):
        await jobs.delete_many({})
        await jobs.insert_many([pending(_id=n, lease={"old": 1}, progress={"done": 1}) for n in range(MANY)])
        claimed = [claim for _ in range(MANY // at_once) for claim in await claim_some(claims, at_once)]
        assert [claim.job.id for claim in claimed] == list(range(MANY))
        held = [{**document, "lease": undated(document["lease"])} for document in await documents(jobs)]
        found.append(held)
    assert found[0] == found[1]


async def test_one_that_the_database_refuses_does_not_harm_those_like_it(database, jobs, claims, results):
    await jobs.insert_many([pending(_id=n) for n in range(MANY)])
    held = await claim_some(claims, MANY)
    await database.command("collMod", JOBS, validator={"$nor": [{"_id": 5, "status": "completed"}]})
    done = [ended(claim, returned({"n": claim.job.id})) for claim in held]
    assert len(writes(done)) == 1
    answers = await results.apply(done)
    assert isinstance(answers.pop(5), ResultRefusedError)
    assert answers == [True] * (MANY - 1)
    assert await jobs.count_documents({"status": "completed"}) == MANY - 1
    assert await jobs.count_documents({"status": "completed", "attempts": {"$size": 1}}) == MANY - 1


async def test_what_was_claimed_ahead_and_not_begun_leaves_no_trace_but_its_token(jobs, claims, results):
    await jobs.insert_many([pending(_id=n, attempt=2, claims=7) for n in range(MANY)])
    held = await claim_some(claims, MANY)
    given_back = [ended(claim, Interrupted(reason="claimed ahead", begun=False)) for claim in held]
    assert len(writes(given_back)) == 1
    assert await results.apply(given_back) == [True] * MANY
    async for document in jobs.find({}):
        assert (document["status"], document["attempt"], document["claims"]) == ("pending", 2, 8)
        assert not {"lease", "attempts", "usage"} & set(document)
    assert await results.apply(given_back) == [True] * MANY  # its reply was lost: there is nothing left to do
    assert [claim.job.token for claim in await claim_some(claims, MANY)] == [9] * MANY


@pytest.mark.parametrize("number", [FEWEST - 1, MANY])
async def test_ids_of_all_types_are_claimed_and_recorded_together(jobs, claims, results, number):
    odd = [None, True, 2.5, Int64(2**40), Decimal128("1.5"), {"a": 1}, b"b", Binary(b"c", 5)]
    plain = [each for n in range(number) for each in (n + 10, f"text {n}", ObjectId())]
    await insert_unchecked(jobs, *(pending(_id=each) for each in [*odd, *plain]))
    held = await claim_some(claims, len(odd) + len(plain))
    assert len(held) == len(odd) + len(plain)
    assert await results.apply([ended(claim, returned({"n": 1})) for claim in held]) == [True] * len(held)
    assert await jobs.count_documents({"status": "completed", "result.n": 1}) == len(held)
