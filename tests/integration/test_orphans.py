"""Which stored files go: those of deleted jobs, and those that nobody can need. All others stay."""

import asyncio
from datetime import timedelta

import pytest
from bson import ObjectId
from gridfs.asynchronous import AsyncGridFSBucket

from supervisor.client.queue import Queue
from supervisor.config.settings import RetentionSettings
from supervisor.core.files import RESULT, SAVED
from supervisor.errors import JobStateError
from supervisor.store import orphans
from supervisor.store.claims import ClaimStore
from supervisor.store.files import BUCKET, CHUNKS, FILES, FileStore
from supervisor.store.orphans import GRACE_S, UNFINISHED_S, OrphanStore
from supervisor.store.results import ResultStore
from supervisor.store.retention import RetentionStore
from tests.support.jobs import JOBS, OWNER, ago, claim_one, ended, job, pending, returned, server_now

WEEK = RetentionSettings(completed_days=7, failed_days=30)
OLD_S = GRACE_S + 60


@pytest.fixture
def sweeper(database, jobs):
    return OrphanStore(database, JOBS)


@pytest.fixture
def store(database, jobs, tmp_path):
    """Return a function that stores a file of a job, as its supervisor does, and returns its id."""
    source = tmp_path / "source"
    source.write_bytes(b"x" * 300_000)

    async def store_one(job_id, kind=SAVED):
        with source.open("rb") as opened:
            return await FileStore(database, JOBS).store("name", opened, job(id=job_id), kind)

    return store_one


@pytest.fixture
def retention(database, jobs):
    return RetentionStore(database, JOBS)


@pytest.fixture
def queue(database, mongo_uri, database_name, jobs):
    with Queue.connect(mongo_uri, database_name) as connected:
        yield connected


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "scan.pdf"
    path.write_bytes(b"x" * 600_000)  # three chunks
    return path


async def grow_old(database, *file_ids, by_s=OLD_S):
    """Make files older, or all there are."""
    which = {"_id": {"$in": file_ids}} if file_ids else {}
    older = {name: {"$subtract": [f"${name}", by_s * 1000]} for name in ("uploadDate", "metadata.named_at")}
    await database[FILES].update_many(which, [{"$set": older}])


async def left(database):
    """Return the ids of all files; each must be whole, and there must be no other chunks."""
    found = {file["_id"] async for file in database[FILES].find({}, {"_id": 1})}
    assert set(await database[CHUNKS].distinct("files_id")) == found
    return found


async def test_the_files_of_a_deleted_job_go_after_the_grace_and_those_of_a_living_one_stay(
    database, jobs, store, sweeper
):
    await jobs.insert_many([pending(_id={"n": 1}, status="failed"), pending(_id=2, status="processing")])
    kept = {await store({"n": 1}), await store(2)}
    await store(3)
    assert await sweeper.sweep() == 0, "it may be about to be inserted"
    await grow_old(database)
    assert await sweeper.sweep() == 1
    assert await left(database) == kept


@pytest.mark.parametrize(("status", "swept"), [("completed", 1), ("failed", 1), ("processing", 0), ("pending", 0)])
async def test_a_result_that_was_never_recorded_goes_when_its_job_has_ended(
    database, jobs, store, sweeper, status, swept
):
    void, recorded, saved = await store(1, RESULT), await store(1, RESULT), await store(1, SAVED)
    await jobs.insert_one(pending(_id=1, status=status, result_file=recorded))
    assert await sweeper.sweep() == 0
    await grow_old(database)
    assert await sweeper.sweep() == swept
    assert await left(database) == {recorded, saved} | (set() if swept else {void})


async def test_a_file_of_somebody_else_s_or_of_another_collection_is_never_touched(database, jobs, sweeper):
    bucket = AsyncGridFSBucket(database, bucket_name=BUCKET)
    strange = [None, {}, {"job_id": 1}, {"job_ids": [1]}, {"collection": "others", "job_ids": [1]},
               {"collection": JOBS, "job_ids": 1}, {"collection": JOBS}]  # fmt: skip
    ids = {await bucket.upload_from_stream(f"{number}", b"x", metadata=each) for number, each in enumerate(strange)}
    await grow_old(database, by_s=10 * 365 * 86_400)
    assert await sweeper.sweep() == 0
    assert await left(database) == ids


async def test_chunks_of_an_upload_that_was_never_finished_go_after_a_day(database, jobs, sweeper):
    now = await server_now(database)

    def chunks(file_id, *ages_s):
        dates = [now - timedelta(seconds=age_s) for age_s in ages_s]
        # one second more, since an id has no fractions of it
        ids = [ObjectId(ObjectId.from_datetime(date).binary[:4] + ObjectId().binary[4:]) for date in dates]
        return [{"_id": made, "files_id": file_id, "n": n, "data": b"x"} for n, made in enumerate(ids)]

    day = UNFINISHED_S
    await database[CHUNKS].create_index({"files_id": 1, "n": 1}, unique=True)
    await database[CHUNKS].insert_many(
        [
            *chunks("abandoned", day + 120, day + 60),
            *chunks("growing", day + 120, day - 60),
            *chunks("young", 60),
            {"_id": "by another program", "files_id": 4, "n": 0, "data": b"x"},
        ]
    )
    whole = await AsyncGridFSBucket(database, bucket_name=BUCKET).upload_from_stream("x", b"x")
    assert await sweeper.sweep() == 1
    assert {*await database[CHUNKS].distinct("files_id")} == {"growing", "young", 4, whole}


async def test_a_sweep_is_bounded_and_the_next_one_goes_on(database, jobs, sweeper, monkeypatch):
    monkeypatch.setattr(orphans, "_FILES_AT_ONCE", 3)
    monkeypatch.setattr(orphans, "_FILES_A_SWEEP", 6)
    monkeypatch.setattr(orphans, "_CHUNKS_AT_ONCE", 3)
    monkeypatch.setattr(orphans, "_CHUNKS_A_SWEEP", 6)
    bucket = AsyncGridFSBucket(database, bucket_name=BUCKET)
    ids = [ObjectId() if number % 2 else f"text {number}" for number in range(20)]  # of two types
    for file_id in ids:
        await bucket.upload_from_stream_with_id(file_id, "x", b"x", metadata={"collection": JOBS, "job_ids": ["gone"]})
    await grow_old(database)
    assert [await sweeper.sweep() for _ in range(4)] == [6, 6, 6, 2]
    assert await left(database) == set()


async def test_many_files_are_read_by_their_index_alone(database, jobs, sweeper):
    many = [{"_id": number, "uploadDate": ago(0), "metadata": {"collection": JOBS, "job_ids": [number]}}
            for number in range(3000)]  # fmt: skip
    await database[FILES].insert_many(many)
    await database[CHUNKS].create_index({"files_id": 1, "n": 1}, unique=True)
    await jobs.insert_many([pending(_id=number, status="completed") for number in range(2000)])
    await database.command("profile", 2)
    try:
        await sweeper.delete_of([2999])
        await sweeper.sweep()
    finally:
        await database.command("profile", 0)
    plans = await database["system.profile"].find({"op": "command", "command.aggregate": {"$exists": True}}).to_list()
    assert len(plans) >= 3
    for plan in plans:
        assert "COLLSCAN" not in plan.get("planSummary", ""), plan["command"]
        assert not plan.get("hasSortStage") or "$group" in str(plan["command"]), plan["command"]
        assert plan["docsExamined"] <= 2 * orphans._FILES_AT_ONCE


# what producers upload


async def test_an_upload_goes_with_the_last_of_the_jobs_that_name_it(database, jobs, queue, retention, scan):
    file_id = await asyncio.to_thread(queue.upload, scan)
    untouched = await asyncio.to_thread(queue.upload, scan)
    first, second = [
        await asyncio.to_thread(queue.enqueue, "count", {"pages": [{"source": {"file_id": file_id}}]}) for _ in range(2)
    ]
    await grow_old(database)
    ended_long_ago = {"$set": {"status": "completed", "finished_at": ago(8 * 86_400)}}
    for job_id, files_left in [(first, {file_id, untouched}), (second, {untouched})]:
        await jobs.update_one({"_id": job_id}, ended_long_ago)
        assert await retention.apply(WEEK) == {
            "completed": 1,
            "failed": 0,
            "orphaned_files": 0,
            "batches": 0,
            "markers": 0,
        }
        assert await left(database) == files_left


async def test_a_retried_job_keeps_its_upload(database, jobs, queue, sweeper, scan):
    file_id = await asyncio.to_thread(queue.upload, scan)
    job_id = await asyncio.to_thread(queue.enqueue, "count", {"file_id": file_id})
    await grow_old(database)
    await sweeper.delete_of([job_id])  # retention had chosen the job, and it was retried in that moment
    assert await left(database) == {file_id}


async def test_an_upload_for_a_job_that_was_refused_or_deleted_by_hand_goes_after_the_grace(
    database, jobs, queue, sweeper, scan
):
    refused, deleted = [await asyncio.to_thread(queue.upload, scan) for _ in range(2)]
    job_id = await asyncio.to_thread(queue.enqueue, "count", {"file_id": deleted}, unique_key="one")
    with pytest.raises(JobStateError):
        await asyncio.to_thread(queue.enqueue, "count", {"file_id": refused}, unique_key="one")
    await grow_old(database)
    await jobs.delete_one({"_id": job_id})
    again = await asyncio.to_thread(queue.enqueue, "count", {"file_id": refused})
    assert await sweeper.sweep() == 1
    assert await left(database) == {refused}, "it was named again in time"
    await jobs.delete_one({"_id": again})
    assert await sweeper.sweep() == 0, "it was named a moment ago"
    await grow_old(database)
    assert await sweeper.sweep() == 1


async def test_a_file_that_is_named_while_it_is_judged_stays(database, jobs, queue, sweeper, scan):
    file_id = await asyncio.to_thread(queue.upload, scan)
    judged = {"_id": file_id, "metadata": {"job_ids": []}}
    await asyncio.to_thread(queue.enqueue, "count", {"file_id": file_id})
    assert not await sweeper._delete(judged)
    assert await left(database) == {file_id}


async def test_a_follower_s_file_outlives_its_parent(database, jobs, queue, retention, scan):
    file_id = await asyncio.to_thread(queue.upload, scan)
    followers = [{"handler": "archive", "payload": {"file_id": file_id}}]
    parent = await asyncio.to_thread(queue.enqueue, "count", {}, then=followers)
    claim = await claim_one(ClaimStore(database, JOBS, OWNER))
    assert await ResultStore(database, JOBS).apply([ended(claim, returned({}))]) == [True]
    await jobs.update_one({"_id": parent}, {"$set": {"finished_at": ago(8 * 86_400)}})
    await grow_old(database)
    assert await retention.apply(WEEK) == {"completed": 1, "failed": 0, "orphaned_files": 0, "batches": 0, "markers": 0}
    assert await left(database) == {file_id}


async def test_a_file_of_a_query_for_an_id_is_not_taken_for_many(database, jobs, queue, scan):
    file_id = await asyncio.to_thread(queue.upload, scan)
    await asyncio.to_thread(queue.enqueue, "count", {"file_id": {"x": 1}, "more": {"file_id": None}})
    assert (await database[FILES].find_one({"_id": file_id}))["metadata"]["job_ids"] == []
