"""The validator and the indexes that `init` makes, in a real database."""

import math
from datetime import UTC, datetime

import pytest
from bson import Decimal128, Int64
from pymongo.errors import DuplicateKeyError, WriteError

from supervisor.core.job import FIELDS, find_problem
from supervisor.errors import DatabaseRefusedError
from supervisor.store import schema
from tests.support.jobs import JOBS, insert_unchecked, pending

NOW = datetime(2024, 5, 1, tzinfo=UTC)
RIGHT = {
    "string": ["", "x"],
    "document": [{}, {"a": 1}],
    "array": [[], [1]],
    "followers": [[], [{"handler": "ner"}], [{"handler": "ner", "payload": None, "priority": 2.0, "run_at": NOW}]],
    "boolean": [True, False],
    "date": [NOW],
    "integer": [1, 1.0, Int64(1)],
    "number": [1, 0.5, Int64(1)],
    "status": ["pending", "processing", "completed", "failed", "cancelled"],
    "any": ["x", 1, NOW, [], {}],
}
WRONG = {
    "string": [5, True, {}, [], NOW, b"x"],
    "document": ["x", 5, [], True],
    "array": ["x", 5, {}, True],
    "followers": [
        "x",
        {},
        [5],
        [{}],
        [{"handler": 5}],
        [{"handler": "x", "payload": 5}],
        [{"handler": "x", "run_at": 1}],
    ],
    "boolean": ["yes", 0, 1, {}],
    "date": ["2024-05-01", 0, 1.5, {}],
    "integer": ["7", 1.5, math.nan, math.inf, Int64(2**62), -(2**40), True, Decimal128("1"), {}, []],
    "number": ["7", -1, 0, 1e10, math.nan, math.inf, True, Decimal128("1"), {}, []],
    "status": ["foo", "PENDING", "", 5, None],
}


@pytest.mark.parametrize("name", FIELDS)
async def test_the_validator_takes_what_a_job_may_have(jobs, name):
    for value in RIGHT[FIELDS[name].kind]:
        assert find_problem(pending(**{name: value})) is None
        await jobs.insert_one(pending(**{name: value}))
    if not FIELDS[name].required:
        await jobs.insert_one(pending(**{name: None}))


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if field.kind != "any"])
async def test_the_validator_refuses_what_the_claim_would_refuse(jobs, name):
    for value in WRONG[FIELDS[name].kind]:
        document = pending(**{name: value})
        assert find_problem(document) is not None, value
        with pytest.raises(WriteError, match="Document failed validation"):
            await jobs.insert_one(document)
    assert await jobs.count_documents({}) == 0


@pytest.mark.parametrize("missing", ["handler", "status"])
async def test_the_validator_misses_what_every_job_needs(jobs, missing):
    document = pending()
    del document[missing]
    with pytest.raises(WriteError):
        await jobs.insert_one(document)


async def test_fields_of_the_producer_s_own_are_welcome(jobs):
    await jobs.insert_one(pending(customer={"n": 1}, _tags=["a"]))


async def test_a_document_from_before_the_validator_can_still_be_changed(jobs):
    await insert_unchecked(jobs, pending(_id=1, priority="high"))
    await jobs.update_one({"_id": 1}, {"$set": {"customer": 1}})


# making it


async def test_the_first_time_everything_is_made_and_told(database):
    done = await schema.ensure(database, JOBS)
    assert done == [
        "created the collection jobs with its validator",
        *(f"created the index {index.name}: {index.purpose}" for index in schema.INDEXES),
    ]
    assert await schema.missing_indexes(database, JOBS) == []
    made = await database[JOBS].index_information()
    assert set(made) == {"_id_", "claim", "groups", "lease", "cancel", "unique_key", "batch", "ended", "quarantined"}


async def test_the_second_time_only_the_validator_is_renewed(database, jobs):
    before = await jobs.index_information()
    assert await schema.ensure(database, JOBS) == ["updated the validator of jobs"]
    assert await jobs.index_information() == before


async def test_a_collection_that_is_there_gets_validator_and_indexes_and_keeps_its_documents(database):
    await database[JOBS].insert_one({"_id": 1, "status": 5})
    done = await schema.ensure(database, JOBS)
    assert done[0] == "updated the validator of jobs"
    assert len(done) == 1 + len(schema.INDEXES)
    assert await database[JOBS].find_one({}) == {"_id": 1, "status": 5}
    with pytest.raises(WriteError):
        await database[JOBS].insert_one({"status": 5})


async def test_an_old_validator_is_replaced(database):
    await database.create_collection(JOBS, validator={"$jsonSchema": {"required": ["nothing anybody has"]}})
    await schema.ensure(database, JOBS)
    await database[JOBS].insert_one(pending())


async def test_missing_indexes_are_named(database, jobs):
    assert [index.name for index in await schema.missing_indexes(database, "nothing")] == [
        index.name for index in schema.INDEXES if index.collection is None
    ]
    await jobs.drop_index("lease")
    assert [index.name for index in await schema.missing_indexes(database, JOBS)] == ["lease"]


async def test_an_index_of_the_same_name_with_other_keys_is_missing_and_is_never_dropped(database):
    await database[JOBS].create_index([("customer", 1)], name="claim")
    assert "claim" in [index.name for index in await schema.missing_indexes(database, JOBS)]
    with pytest.raises(DatabaseRefusedError) as refusal:
        await schema.ensure(database, JOBS)
    assert str(refusal.value).startswith("index 'claim' cannot be created: ")
    assert len(str(refusal.value).splitlines()) == 1
    assert (await database[JOBS].index_information())["claim"]["key"] == [("customer", 1)]


async def test_the_same_keys_under_another_name_are_refused_with_the_reason(database):
    claim = next(index for index in schema.INDEXES if index.name == "claim")
    await database[JOBS].create_index(list(claim.keys), name="theirs")
    with pytest.raises(DatabaseRefusedError, match=r"index 'claim' cannot be created: .*already exists"):
        await schema.ensure(database, JOBS)


async def test_duplicates_that_are_there_already_are_told(database):
    await database[JOBS].insert_many([pending(unique_key="k"), pending(unique_key="k")])
    with pytest.raises(DatabaseRefusedError, match=r"index 'unique_key' cannot be created: .*duplicate key"):
        await schema.ensure(database, JOBS)


async def test_empty_means_no_document(database):
    assert await schema.is_empty(database, JOBS)
    await schema.ensure(database, JOBS)
    assert await schema.is_empty(database, JOBS)
    await database[JOBS].insert_one(pending())
    assert not await schema.is_empty(database, JOBS)


# unique keys


@pytest.mark.parametrize("active", ["pending", "processing"])
async def test_a_key_is_taken_while_its_job_waits_or_runs(jobs, active):
    await jobs.insert_one(pending(unique_key="k", status=active))
    with pytest.raises(DuplicateKeyError):
        await jobs.insert_one(pending(unique_key="k"))
    await jobs.insert_one(pending(unique_key="other"))


@pytest.mark.parametrize("over", ["completed", "failed", "cancelled"])
async def test_a_key_is_free_when_its_job_has_ended(jobs, over):
    await jobs.insert_many([pending(unique_key="k", status=over), pending(unique_key="k", status=over)])
    await jobs.insert_one(pending(unique_key="k"))


async def test_jobs_without_a_key_are_as_many_as_one_likes(jobs):
    await jobs.insert_many([pending(), pending(), pending(unique_key=None), pending(unique_key=None)])
    assert await jobs.count_documents({}) == 4
