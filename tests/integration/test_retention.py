"""Deleting ended jobs that are past their retention, with the files of their results."""

import pytest
from bson import ObjectId
from gridfs.asynchronous import AsyncGridFSBucket

from supervisor.config.settings import RetentionSettings
from supervisor.store.files import BUCKET
from supervisor.store.retention import RetentionStore
from tests.support.jobs import JOBS, ago, insert_unchecked, pending, statuses

DAY = 86_400
WEEK = RetentionSettings(completed_days=7, failed_days=30)


@pytest.fixture
def bucket(database):
    return AsyncGridFSBucket(database, bucket_name=BUCKET)


@pytest.fixture
def retention(database, jobs):
    return RetentionStore(database, JOBS)


def deleted(completed, failed):
    return {"completed": completed, "failed": failed, "orphaned_files": 0, "batches": 0, "markers": 0}


def over(job_id, status, days, **fields):
    """Return a job that ended so many days ago."""
    return pending(_id=job_id, status=status, finished_at=ago(days * DAY), **fields)


async def test_each_end_has_its_own_retention(jobs, retention):
    await jobs.insert_many(
        [
            over("completed old", "completed", 7.1),
            over("completed young", "completed", 6.9),
            over("failed old", "failed", 30.1),
            over("failed young", "failed", 29.9),
            over("cancelled old", "cancelled", 31),
            over("cancelled young", "cancelled", 8),
        ]
    )
    assert await retention.apply(WEEK) == deleted(1, 2)
    assert set(await statuses(jobs)) == {"completed young", "failed young", "cancelled young"}
    assert await retention.apply(WEEK) == deleted(0, 0)


async def test_days_may_be_parts_of_a_day(jobs, retention):
    await jobs.insert_many([over("two hours", "completed", 2 / 24), over("now", "completed", 0)])
    assert await retention.apply(RetentionSettings(completed_days=1 / 24, failed_days=0)) == deleted(1, 0)
    assert set(await statuses(jobs)) == {"now"}


async def test_zero_keeps_for_ever(jobs, retention):
    await jobs.insert_many([over(status, status, 10_000) for status in ("completed", "failed", "cancelled")])
    assert await retention.apply(RetentionSettings(completed_days=0, failed_days=0)) == deleted(0, 0)
    assert await jobs.count_documents({}) == 3


@pytest.mark.parametrize("status", ["pending", "processing", "foo"])
async def test_a_job_that_has_not_ended_is_kept_however_old(jobs, retention, status):
    await insert_unchecked(jobs, over(1, status, 10_000))
    assert await retention.apply(WEEK) == deleted(0, 0)
    assert await jobs.count_documents({}) == 1


@pytest.mark.parametrize("finished_at", [None, 0, "2001-01-01", {}])
async def test_a_job_without_a_date_of_its_end_is_kept(jobs, retention, finished_at):
    await insert_unchecked(
        jobs, pending(_id=1, status="completed", finished_at=finished_at), pending(_id=2, status="failed")
    )
    assert await retention.apply(WEEK) == deleted(0, 0)
    assert await jobs.count_documents({}) == 2


async def test_more_jobs_than_are_read_at_once_all_go(jobs, retention):
    await jobs.insert_many([over(n, "completed", 8) for n in range(1203)])
    await jobs.insert_one(over("young", "completed", 1))
    assert await retention.apply(WEEK) == deleted(1203, 0)
    assert set(await statuses(jobs)) == {"young"}


async def test_the_file_of_a_result_goes_with_its_job_and_other_files_stay(database, jobs, bucket, retention):
    gone = await bucket.upload_from_stream("old.json", b"x" * 300_000)
    kept = await bucket.upload_from_stream("young.json", b"x")
    other = await bucket.upload_from_stream("input.pdf", b"x")
    await jobs.insert_many([over(1, "completed", 8, result_file=gone), over(2, "completed", 1, result_file=kept)])
    assert await retention.apply(WEEK) == deleted(1, 0)
    assert {file["_id"] async for file in database[f"{BUCKET}.files"].find()} == {kept, other}
    assert await database[f"{BUCKET}.chunks"].count_documents({"files_id": gone}) == 0


@pytest.mark.parametrize(
    "result_file", [ObjectId(), "text", 5, {"$ne": None}], ids=["missing", "text", "number", "query"]
)
async def test_a_file_that_is_not_there_does_not_keep_the_job(database, jobs, bucket, retention, result_file):
    other = await bucket.upload_from_stream("input.pdf", b"x")
    await jobs.insert_one(over(1, "completed", 8, result_file=result_file))
    assert await retention.apply(WEEK) == deleted(1, 0)
    assert [file["_id"] async for file in database[f"{BUCKET}.files"].find()] == [other]


async def test_a_malformed_document_is_never_deleted_but_a_refused_payload_is(jobs, retention):
    invalid = {"error": {"kind": "invalid", "message": "priority: …"}}
    await jobs.insert_many(
        [over("malformed", "failed", 400, **invalid), over("claimed", "failed", 400, claims=1, **invalid)]
    )
    assert await retention.apply(WEEK) == deleted(0, 1)
    assert set(await statuses(jobs)) == {"malformed"}


async def test_an_array_that_holds_a_date_is_no_end(jobs, retention):
    await insert_unchecked(jobs, over("odd", "failed", 0) | {"finished_at": [ago(400 * DAY)]})
    assert await retention.apply(WEEK) == deleted(0, 0)


async def test_what_is_old_is_found_by_the_index_of_ends(jobs, retention):
    await jobs.insert_many([over("old", "completed", 8), *(over(job, "completed", 1) for job in range(200))])
    assert await retention.apply(WEEK) == deleted(1, 0)
    used = {each["name"]: each["accesses"]["ops"] async for each in await jobs.aggregate([{"$indexStats": {}}])}
    assert used["ended"] >= 2
