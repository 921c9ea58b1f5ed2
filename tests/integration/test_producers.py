"""Producing jobs, with and without `await`, against a real mongod: every test here runs through both queues."""

import asyncio
import inspect
import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from bson import ObjectId
from pydantic import BaseModel
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import OperationFailure

from supervisor import AsyncQueue, Queue
from supervisor.client.documents import id_text
from supervisor.client.operations import AT_A_BREATH
from supervisor.core.job import Status
from supervisor.errors import JobNotFoundError, JobStateError, PayloadError, UnknownHandlerError, UsageError
from supervisor.registry import HandlerSpec, Registry
from supervisor.store.batches import BatchStore
from supervisor.store.claims import ClaimStore
from supervisor.store.results import ResultStore
from tests.support.failpoints import failing
from tests.support.jobs import JOBS, OWNER, claim_some, ended, raised, returned, room


class Page(BaseModel):
    path: str


def count(payload: Page) -> dict:
    return {"path": payload.path}


class Both:
    """Calls a method of a queue, and waits for it if it has to be awaited."""

    def __init__(self, queue):
        self.queue = queue

    def __getattr__(self, name):
        async def call(*arguments, **options):
            answer = getattr(self.queue, name)(*arguments, **options)
            return await answer if inspect.isawaitable(answer) else answer

        return call


@pytest.fixture
def registry():
    found = Registry()
    found.add(HandlerSpec("count", count, Page, takes_context=False, module="tests"))
    found.add(HandlerSpec("sum", print, dict, takes_context=False, module="tests"))
    return found


@pytest.fixture(params=["sync", "async"])
async def queue(request, mongo_uri, database, jobs, registry):
    if request.param == "sync":
        with MongoClient(mongo_uri, tz_aware=True) as client:
            yield Both(Queue(client, database.name, registry=registry))
    else:
        async with AsyncMongoClient(mongo_uri, tz_aware=True) as client:
            yield Both(AsyncQueue(client, database.name, registry=registry))


@pytest.fixture
async def prepared_name(database, jobs):
    """The name of a database that has its collections: a transaction should not have to make them."""
    await database.create_collection("orders")
    return database.name


async def end(database, outcome=None, count=100):
    """Run up to `count` pending jobs to their end."""
    claims = await claim_some(ClaimStore(database, JOBS, OWNER), count, room("count", "sum"))
    await ResultStore(database, JOBS).apply([ended(each, outcome or returned()) for each in claims])
    return len(claims)


# one job


async def test_a_job_is_inserted_by_its_handlers_name_or_by_the_handler(queue, jobs):
    first = await queue.enqueue("count", {"path": "a"}, priority=3)
    second = await queue.enqueue(count, Page(path="b"))
    found = {job["_id"]: job async for job in jobs.find()}
    assert (found[first]["handler"], found[first]["priority"], found[first]["status"]) == ("count", 3, "pending")
    assert (found[second]["handler"], found[second]["payload"]) == ("count", {"path": "b"})


async def test_a_function_that_is_no_handler_is_refused(queue):
    with pytest.raises(UsageError, match="is no handler of this queue's registry"):
        await queue.enqueue(inspect.signature, {})


async def test_a_taken_key_is_refused_by_the_id_of_the_other(queue):
    first = await queue.enqueue("count", {"path": "a"}, unique_key="k")
    with pytest.raises(JobStateError, match=f"already pending or processing: {first}"):
        await queue.enqueue("count", {"path": "a"}, unique_key="k")


async def test_a_job_is_looked_at_listed_cancelled_and_retried(queue):
    job_id = await queue.enqueue("count", {"path": "a"})
    assert (await queue.get(job_id))["payload"] == {"path": "a"}
    assert [job["_id"] for job in await queue.list("pending")] == [job_id]
    assert await queue.cancel(job_id) == "cancelled"
    with pytest.raises(JobStateError, match="is cancelled already"):
        await queue.cancel(job_id)
    await queue.retry(job_id)
    with pytest.raises(JobStateError, match="only failed and cancelled jobs can be retried"):
        await queue.retry(job_id)
    assert (await queue.counts())["count"]["pending"] == 1
    assert await queue.supervisors() == []
    for ask in (queue.get, queue.cancel, queue.retry, queue.batch):
        with pytest.raises(JobNotFoundError):
            await ask("nope")


async def test_a_wait_ends_with_the_job(queue, database):
    job_id = await queue.enqueue("count", {"path": "a"})

    async def run_it():
        await asyncio.sleep(0.3)
        await end(database, returned({"words": 3}))

    running = asyncio.create_task(run_it())
    wait = getattr(queue.queue, "wait")  # noqa: B009 - the method itself, not our wrapper
    job = await wait(job_id, 10) if inspect.iscoroutinefunction(wait) else await asyncio.to_thread(wait, job_id, 10)
    await running
    assert (job["status"], await queue.result(job)) == ("completed", {"words": 3})


async def test_a_wait_gives_up_after_its_timeout(queue):
    job_id = await queue.enqueue("count", {"path": "a"})
    with pytest.raises(TimeoutError, match=r"has not ended within 0\.2 s"):
        await queue.wait(job_id, 0.2)


async def test_a_file_is_uploaded_read_and_discarded(queue, database, tmp_path):
    async def pieces():
        yield b"half "
        yield b"and half"

    (tmp_path / "a.txt").write_bytes(b"half and half")
    is_async = isinstance(queue.queue, AsyncQueue)
    file_id = await (queue.upload(pieces(), "a.txt") if is_async else queue.upload(tmp_path / "a.txt"))
    stored = await database["files.files"].find_one({"_id": file_id})
    assert (stored["filename"], stored["length"]) == ("a.txt", 13)
    job_id = await queue.enqueue("sum", {"file_id": file_id})
    assert (await database["files.files"].find_one({}))["metadata"]["job_ids"] == [job_id]
    await queue.discard(file_id)
    await queue.discard(file_id)
    assert await database["files.files"].count_documents({}) == 0


async def test_an_upload_that_breaks_off_stores_nothing(mongo_uri, database, jobs):
    async def pieces():
        yield b"x" * 600_000
        raise ConnectionResetError("gone")

    async with AsyncMongoClient(mongo_uri) as client:
        with pytest.raises(ConnectionResetError):
            await AsyncQueue(client, database.name).upload(pieces(), "a.bin")
    assert await database["files.files"].count_documents({}) == 0
    assert await database["files.chunks"].count_documents({}) == 0


# many


async def test_many_are_inserted_in_order_with_the_same_options(queue, jobs, monkeypatch):
    monkeypatch.setattr("supervisor.client.inserting.CHUNK_JOBS", 7)
    ids = await queue.enqueue_many("count", ({"path": str(number)} for number in range(20)), priority=2, group_key="g")
    found = {job["_id"]: job async for job in jobs.find()}
    assert [found[job_id]["payload"]["path"] for job_id in ids] == [str(number) for number in range(20)]
    assert {(job["priority"], job["group_key"], job["status"]) for job in found.values()} == {(2, "g", "pending")}


def keyed(*keys):
    return [{"handler": "count", "payload": {"path": key}, "unique_key": key} for key in keys]


async def test_of_a_batch_nothing_is_inserted_if_any_of_it_is_there_already(queue, database, jobs, monkeypatch):
    monkeypatch.setattr("supervisor.client.inserting.CHUNK_JOBS", 3)
    await queue.enqueue("count", {"path": "7"}, unique_key="7")
    await queue.enqueue("sum", {}, job_id="mine")
    for batch, reason in (
        (keyed(*"0123456789"), "1 of 10 jobs are there already, so none was enqueued: 7"),
        ([*keyed("a"), {"handler": "sum", "job_id": "mine"}], "1 of 2 jobs are there already, so none .*: mine"),
    ):
        with pytest.raises(JobStateError, match=reason):
            await queue.enqueue_batch(batch, batch_id="b")
    for batch, reason in (
        (keyed("a", "b", "a"), r"jobs\[2\]: unique_key: 'a' is that of jobs\[0\] too"),
        ([{"handler": "sum", "_id": 5}] * 2, r"jobs\[1\]: _id: 5 is that of jobs\[0\] too"),
    ):
        with pytest.raises(UsageError, match=reason):
            await queue.enqueue_batch(batch, batch_id="b")
    assert await jobs.count_documents({}) == 2
    assert await database["batches"].count_documents({}) == 0
    await jobs.update_many({}, {"$set": {"status": "completed"}})  # its key is free again
    assert (await queue.enqueue_batch(keyed("7"), batch_id="b")).total == 1


@pytest.mark.parametrize("faster", [1, 2])
async def test_a_batch_ends_all_the_same_if_somebody_was_faster_with_some_of_it(
    mongo_uri, database, jobs, mongod, faster
):
    """Between the look whether any of it is there, and the insert, which a fail point holds up."""
    async with AsyncMongoClient(mongo_uri, tz_aware=True) as client:
        queue = AsyncQueue(client, database.name)
        held_up = {"blockConnection": True, "blockTimeMS": 3000, "namespace": jobs.full_name}
        with failing(mongod, ["insert"], **held_up) as point:
            ours = asyncio.create_task(queue.enqueue_batch(keyed("a", "b"), batch_id="b", on_end={"handler": "sum"}))
            await asyncio.to_thread(point.wait, 25)
            for key in "ab"[:faster]:  # an update, which is let through
                theirs = {"$set": {"handler": "sum", "status": "pending", "unique_key": key}}
                await jobs.update_one({"_id": key}, theirs, upsert=True)
        with pytest.raises(JobStateError, match=f"{faster} of 2 jobs are there already and were not enqueued; .*: a"):
            await ours
        if faster == 1:
            assert ((await queue.batch("b")).total, (await queue.batch("b")).counts["pending"]) == (1, 1)
            assert await BatchStore(database, JOBS).to_end(["b"]) != [], "its end is waited for"
        else:
            assert await database["batches"].count_documents({}) == 0


async def test_a_batch_that_broke_off_is_gone_on_with_by_the_same_request(queue, database, jobs, mongod, monkeypatch):
    monkeypatch.setattr("supervisor.client.inserting.CHUNK_JOBS", 2)
    batch = [*batch_of(6), *keyed("k"), {"handler": "sum", "job_id": "mine"}]
    where = {"errorCode": 8000, "namespace": jobs.full_name}
    with failing(mongod, ["insert"], {"skip": 2}, **where), pytest.raises(OperationFailure, match="failCommand"):
        await queue.enqueue_batch(batch, batch_id="b", on_end={"handler": "sum"})
    assert await jobs.count_documents({}) == 4
    assert await BatchStore(database, JOBS).to_end(["b"]) == [], "it is not whole"
    for other in (batch_of(3), batch):
        with pytest.raises(JobStateError, match="a batch with the id 'b' exists already"):
            await queue.enqueue_batch(other, batch_id="b")
    made = await queue.enqueue_batch(batch, batch_id="b", on_end={"handler": "sum"})
    assert (made.total, await jobs.count_documents({"batch_id": "b"})) == (8, 8)
    assert (await queue.batch("b")).counts["pending"] == 8
    in_order = jobs.find({"handler": "count", "unique_key": None}).sort("_id", 1)
    assert [job["payload"] async for job in in_order] == [job["payload"] for job in batch_of(6)]
    assert len(await BatchStore(database, JOBS).to_end(["b"])) == 1
    with pytest.raises(JobStateError, match="a batch with the id 'b' exists already"):
        await queue.enqueue_batch(batch, batch_id="b", on_end={"handler": "sum"})
    with pytest.raises(UsageError, match="batch_id: cannot be stored"):
        await queue.enqueue_batch(batch, batch_id=object())


async def test_an_insert_that_fails_is_told_and_few_are_made_after_it(queue, jobs, mongod, monkeypatch):
    monkeypatch.setattr("supervisor.client.inserting.CHUNK_JOBS", 2)
    where = {"errorCode": 8000, "namespace": jobs.full_name}
    with failing(mongod, ["insert"], {"skip": 2}, **where), pytest.raises(OperationFailure, match="failCommand"):
        await queue.enqueue_many("count", [{"path": str(number)} for number in range(40)])
    assert await jobs.count_documents({}) == 4


async def test_one_wrong_payload_among_many_is_named_and_nothing_is_inserted(queue, jobs):
    with pytest.raises(PayloadError, match=r"payloads\[1\]: payload of 'count': path"):
        await queue.enqueue_many("count", [{"path": "a"}, {"wrong": 1}, {"path": "b"}])
    with pytest.raises(PayloadError, match=r"payloads\[1\]: payload: is 'b', must be a document"):
        await queue.enqueue_many("count", [{"path": "a"}, "b"])
    with pytest.raises(UsageError, match="unique_key: many jobs cannot have the same one"):
        await queue.enqueue_many("count", [{"path": "a"}], unique_key="k")
    assert await jobs.count_documents({}) == 0
    assert await queue.enqueue_many("count", []) == []


@pytest.mark.parametrize("way", ["many", "batch"])
async def test_an_event_loop_has_its_turns_while_many_are_checked(mongo_uri, prepared_name, registry, way):
    """The last one is wrong, so nothing is sent: all that goes on meanwhile is the checking."""
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    payloads = [{"path": "a"}] * (10 * AT_A_BREATH) + [{"wrong": 1}]
    async with AsyncMongoClient(mongo_uri) as client:
        queue = AsyncQueue(client, prepared_name, registry=registry)
        running = asyncio.create_task(others())
        batch = [{"handler": "count", "payload": each} for each in payloads]
        enqueued = queue.enqueue_many("count", payloads) if way == "many" else queue.enqueue_batch(batch)
        with pytest.raises(PayloadError, match=rf"\[{10 * AT_A_BREATH}\]"):
            await enqueued
        running.cancel()
    assert turns >= 10


async def test_a_payload_of_a_model_arrives_as_it_was_whatever_its_types(queue, jobs, registry):
    class Order(BaseModel):
        day: date
        id: UUID
        total: Decimal
        status: Status
        scan: Path
        tags: set[int]
        at: datetime
        lines: dict[int, timedelta]

    registry.add(HandlerSpec("order", print, Order, takes_context=False, module="tests"))
    given = Order(day=date(2026, 5, 4), id=UUID(int=7), total=Decimal("1.50"), status=Status.PENDING, scan=Path("a/b"),
                  tags={3}, at=datetime(2026, 5, 4, 12, tzinfo=UTC), lines={5: timedelta(hours=1)})  # fmt: skip
    await queue.enqueue("order", given)
    await queue.enqueue_many("order", [given])
    await queue.enqueue_batch([{"handler": "order", "payload": given}])
    stored = [job["payload"] async for job in jobs.find()]
    assert stored == [stored[0]] * 3
    assert stored[0] == {
        "day": "2026-05-04", "id": str(UUID(int=7)), "total": "1.50", "status": "pending", "scan": "a/b", "tags": [3],
        "at": given.at, "lines": {"5": "PT1H"},
    }  # fmt: skip
    assert registry.get("order").parse_payload(stored[0]) == given


async def test_a_delay_is_a_run_at_in_so_many_seconds(queue, jobs):
    job_id = await queue.enqueue("sum", {}, delay_s=90.5)
    job = await jobs.find_one({"_id": job_id})
    assert job["run_at"] - job["created_at"] == timedelta(seconds=90.5)
    assert "delay_s" not in job
    for options, words in (
        ({"delay_s": -1}, "delay_s: is -1, must be a number of seconds from 0 to 1e"),
        ({"delay_s": math.nan}, "delay_s: is nan, must be"),
        ({"delay_s": "1"}, "delay_s: is '1', must be"),
        ({"delay_s": 1, "run_at": datetime.now(UTC)}, "delay_s: there is a run_at as well"),
    ):
        with pytest.raises(UsageError, match=words):
            await queue.enqueue("sum", {}, **options)
    assert await jobs.count_documents({}) == 1


async def test_a_job_may_say_that_it_is_pending_as_documents_do(queue, jobs):
    await queue.enqueue_batch([{"handler": "sum", "status": "pending", "then": [{"handler": "sum", "payload": {}}]}])
    assert [job["status"] async for job in jobs.find()] == ["pending"]
    with pytest.raises(UsageError, match="status: no such field"):
        await queue.enqueue_batch([{"handler": "sum", "status": "completed"}])


async def test_the_files_of_many_belong_to_their_jobs(queue, database):
    names = [ObjectId(), ObjectId()]
    await database["files.files"].insert_many(
        [{"_id": name, "metadata": {"collection": JOBS, "job_ids": [], "kind": "upload"}} for name in names]
    )
    first, second = await queue.enqueue_many("sum", [{"file_id": name} for name in names])
    files = {file["_id"]: file["metadata"]["job_ids"] async for file in database["files.files"].find()}
    assert files == {names[0]: [first], names[1]: [second]}


# transactions


@pytest.mark.parametrize("commits", [True, False])
def test_a_job_is_a_part_of_the_users_own_transaction(mongo_uri, prepared_name, commits):
    with MongoClient(mongo_uri) as client, client.start_session() as session:
        queue, orders = Queue(client, prepared_name), client[prepared_name]["orders"]
        session.start_transaction()
        orders.insert_one({"_id": 1}, session=session)
        queue.enqueue("sum", {"order": 1}, session=session)
        queue.enqueue_many("sum", [{"order": 1}] * 2, session=session)
        queue.enqueue_batch(batch_of(1), on_end={"handler": "sum"}, session=session)
        (session.commit_transaction if commits else session.abort_transaction)()
        assert client[prepared_name][JOBS].count_documents({}) == (4 if commits else 0)
        assert client[prepared_name]["batches"].count_documents({}) == (1 if commits else 0)


@pytest.mark.parametrize("commits", [True, False])
async def test_a_job_is_a_part_of_the_users_own_transaction_in_a_loop(mongo_uri, prepared_name, commits):
    async with AsyncMongoClient(mongo_uri) as client, client.start_session() as session:
        queue, orders = AsyncQueue(client, prepared_name), client[prepared_name]["orders"]
        await session.start_transaction()
        await orders.insert_one({"_id": 1}, session=session)
        await queue.enqueue("sum", {"order": 1}, session=session)
        await queue.enqueue_batch(batch_of(1), session=session)
        await (session.commit_transaction if commits else session.abort_transaction)()
        assert await client[prepared_name][JOBS].count_documents({}) == (2 if commits else 0)


# batches


def batch_of(number, **fields):
    return [{"handler": "count", "payload": {"path": str(each)}, **fields} for each in range(number)]


async def test_a_batch_tells_its_progress_until_its_end(queue, database, jobs):
    made = await queue.enqueue_batch(batch_of(5))
    assert (made.total, made.status, made.counts["pending"]) == (5, "processing", 5)
    assert await jobs.count_documents({"batch_id": made.id}) == 5
    claims = await claim_some(ClaimStore(database, JOBS, OWNER), 3)
    seen = await queue.batch(made.id)
    assert (seen.counts["processing"], seen.counts["pending"], seen.done) == (3, 2, 0)
    outcomes = [returned(), raised(), returned()]
    policy_ended = [ended(each, outcome) for each, outcome in zip(claims, outcomes, strict=True)]
    await ResultStore(database, JOBS).apply(policy_ended)
    seen = await queue.batch(made.id)
    assert (seen.counts["completed"], seen.done, seen.ended) == (2, 2, False)
    await jobs.update_many({"status": "pending"}, {"$unset": {"run_at": ""}})
    await end(database)
    seen = await queue.batch(made.id)
    assert (seen.status, dict(seen.counts)) == (
        "completed",
        {"completed": 5, "failed": 0, "cancelled": 0, "processing": 0, "pending": 0},
    )


async def test_a_batch_with_a_failed_job_has_failed(queue, database):
    made = await queue.enqueue_batch(batch_of(2, max_attempts=1))
    await end(database, raised(), count=1)
    await end(database)
    seen = await queue.batch(made.id)
    assert (seen.status, seen.counts["failed"], seen.counts["completed"]) == ("failed", 1, 1)


async def test_progress_counts_only_what_has_ended_since_and_ends_right_all_the_same(queue, database, jobs):
    made = await queue.enqueue_batch(batch_of(8))
    await end(database, count=4)
    long_ago = datetime.now(UTC) - timedelta(minutes=10)
    await jobs.update_many({"status": "completed"}, {"$set": {"finished_at": long_ago}})
    await database["batches"].update_one({}, {"$set": {"created_at": long_ago}})
    assert (await queue.batch(made.id)).counts["completed"] == 4
    counted = (await database["batches"].find_one({}))["counted"]
    assert (counted["completed"], counted["until"] > long_ago) == (4, True)
    await jobs.delete_many({"status": "completed"})  # as retention does
    assert (await queue.batch(made.id)).counts["completed"] == 4
    await end(database)
    seen = await queue.batch(made.id)
    assert (seen.status, seen.counts["completed"]) == ("completed", 8)
    assert (await queue.batch(made.id)).counts == seen.counts


async def test_ends_that_other_programs_write_are_counted_at_the_end(queue, database, jobs):
    made = await queue.enqueue_batch(batch_of(3))
    await end(database, count=2)
    await jobs.update_many({"status": "pending"}, {"$set": {"status": "cancelled"}})  # without finished_at
    seen = await queue.batch(made.id)
    assert (seen.status, seen.counts["completed"], seen.counts["cancelled"]) == ("failed", 2, 1)


async def test_a_retry_opens_a_batch_again(queue, database, jobs):
    made = await queue.enqueue_batch(batch_of(2, max_attempts=1))
    await end(database, raised())
    assert (await queue.batch(made.id)).status == "failed"
    for job in await queue.list("failed"):
        await queue.retry(job["_id"])
    seen = await queue.batch(made.id)
    assert (seen.status, seen.counts["pending"]) == ("processing", 2)
    await end(database)
    assert (await queue.batch(made.id)).status == "completed"


async def test_a_batch_of_plain_documents_is_counted(queue, jobs):
    await jobs.insert_many([{"handler": "count", "status": "pending", "batch_id": 7} for _ in range(3)])
    seen = await queue.batch(7)
    assert (seen.total, seen.counts["pending"], seen.status) == (3, 3, "processing")


@pytest.mark.parametrize(
    ("wrong", "error", "reason"),
    [
        ([], UsageError, "jobs: a batch needs at least one"),
        ([{"payload": {}}], UsageError, r"jobs\[0\]: handler: missing, must be a string"),
        ([{"handler": "count", "payload": {"path": 1}}], PayloadError, r"jobs\[0\]: payload of 'count': path"),
        ([{"handler": "nope"}], UnknownHandlerError, r"jobs\[0\]: unknown handler 'nope'"),
        ([{"handler": "sum", "payload": 3}], UsageError, r"jobs\[0\]: payload: is 3, must be a document"),
        ([{"handler": "sum", "lease": {}}], UsageError, r"jobs\[0\]: lease: no such field; allowed are handler"),
        ([{"handler": "sum", "priority": "x"}], UsageError, r"jobs\[0\]: priority: is 'x', must be an integer"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_nothing_of_a_wrong_batch_is_stored(queue, database, jobs, wrong, error, reason):
    with pytest.raises(error, match=reason):
        await queue.enqueue_batch([*batch_of(2), *wrong] if error is None else wrong)
    with pytest.raises(UsageError, match="on_end: handler: missing"):
        await queue.enqueue_batch(batch_of(2), on_end={"payload": {}})
    assert await jobs.count_documents({}) == await database["batches"].count_documents({}) == 0


async def test_a_batch_of_the_same_id_is_refused(queue):
    await queue.enqueue_batch(batch_of(1), batch_id="b")
    with pytest.raises(JobStateError, match="a batch with the id 'b' exists already"):
        await queue.enqueue_batch(batch_of(1), batch_id="b")


async def test_the_job_at_the_end_is_enqueued_once_when_all_have_ended(queue, database, jobs):
    on_end = {"handler": "sum", "payload": {"to": "a@b"}, "priority": 3}
    made = await queue.enqueue_batch(batch_of(2), on_end=on_end)
    first, second = BatchStore(database, JOBS), BatchStore(database, JOBS)
    (batch,) = await first.to_end()
    assert not await first.end_if_over(batch)
    await end(database)
    assert await first.end_if_over(batch)
    assert await second.end_if_over(batch), "who looked at the same time does no harm"
    assert await first.to_end() == []
    (last,) = [job async for job in jobs.find({"handler": "sum"})]
    assert (last["_id"], last["priority"], last["status"]) == (made.on_end_id, 3, Status.PENDING)
    assert last["payload"] == {"to": "a@b", "batch_id": made.id}
    assert (await queue.batch(made.id)).ended_at is not None


async def test_a_batch_that_is_still_being_inserted_does_not_end(queue, database):
    await queue.enqueue_batch(batch_of(1), on_end={"handler": "sum"})
    await database["batches"].update_one({}, {"$set": {"open": True}})
    await end(database)
    assert await BatchStore(database, JOBS).to_end() == []


async def test_batches_without_jobs_are_forgotten(queue, database, jobs):
    kept, gone = [(await queue.enqueue_batch(batch_of(1))).id for _ in range(2)]
    await jobs.delete_many({"batch_id": gone})
    store = BatchStore(database, JOBS)
    assert await store.forget_empty(older_than_days=1) == 0
    assert await store.forget_empty(older_than_days=0) == 1
    assert [batch["_id"] async for batch in database["batches"].find()] == [kept]


# for services


@pytest.mark.parametrize("job_id", [ObjectId("65f2a1c0e4b0a1b2c3d4e5f6"), 42, "a name", "42x", {"k": "v"}], ids=str)
async def test_an_id_is_found_by_its_text(queue, job_id):
    await queue.enqueue("sum", {}, job_id=job_id)
    assert await queue.find_id(id_text(job_id)) == job_id


@pytest.mark.parametrize(
    "text", ["", "--5", "9" * 30, '{"$ne": null}', '{"$regularExpression": {"pattern": "", "options": ""}}', "{" * 600]
)
async def test_text_that_means_no_id_finds_nothing(queue, text):
    await queue.enqueue("sum", {}, job_id="a name")
    with pytest.raises(JobNotFoundError, match="no job has the id"):
        await queue.find_id(text)


async def test_activity_tells_how_much_there_is_to_do_and_since_when(queue, database):
    assert await queue.activity() == {"active_jobs": 0, "pending_jobs": 0, "oldest_pending_s": None}
    long_ago = datetime.now(UTC) - timedelta(seconds=300)
    await queue.enqueue("sum", {}, job_id=ObjectId.from_datetime(long_ago))
    await queue.enqueue("sum", {}, run_at=datetime.now(UTC) + timedelta(hours=1))
    told = await queue.activity()
    assert (told["pending_jobs"], told["active_jobs"], told["oldest_pending_s"] >= 300) == (2, 0, True)
    await claim_some(ClaimStore(database, JOBS, OWNER), 1, room("sum"))
    told = await queue.activity()
    assert (told["pending_jobs"], told["active_jobs"], told["oldest_pending_s"]) == (1, 1, None)


async def test_a_job_is_checked_without_being_enqueued(queue, jobs):
    assert (await queue.check("count", {"path": "a"}))["payload"] == {"path": "a"}
    with pytest.raises(PayloadError, match="path: Field required"):
        await queue.check("count", {})
    assert await jobs.count_documents({}) == 0
