"""The queue of producers against a real mongod."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId
from pydantic import BaseModel
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from supervisor.client import waiting
from supervisor.client.bulk import Cancelled, Retried
from supervisor.client.operator import OperatorQueue
from supervisor.errors import (
    DatabaseUnreachableError,
    JobNotFoundError,
    JobStateError,
    PayloadError,
    UnknownHandlerError,
    UsageError,
)
from supervisor.registry import HandlerSpec, Registry
from supervisor.store import schema
from tests.support.jobs import connected
from tests.support.mongo import start_mongod
from tests.support.until import until

OWNED = {"lease": {"token": 1, "supervisor": "s", "host": "h", "slot": 0, "pid": 1, "expires_at": datetime.now(UTC)}}


class Page(BaseModel):
    path: str


class Follower(BaseModel):
    parent_job_id: object


@pytest.fixture
def registry():
    found = Registry()
    for name, model in (("count", Page), ("sum", Follower)):
        found.add(HandlerSpec(name, print, model, takes_context=False, module="tests"))
    return found


@pytest.fixture
async def prepared(mongo_uri, database_name):
    async with connected(mongo_uri, database_name) as database:
        await schema.ensure(database, "jobs")
    return database_name


@pytest.fixture
def queue(mongo_uri, prepared):
    with OperatorQueue.connect(mongo_uri, prepared) as connection:
        yield connection


@pytest.fixture
def collection(mongo_uri, prepared):
    with MongoClient(mongo_uri, tz_aware=True) as client:
        yield client[prepared]["jobs"]


def put(collection, status="pending", **fields):
    document = {"handler": "count", "status": status, "payload": {}, **fields}
    return collection.insert_one(document).inserted_id


def test_a_job_is_inserted_with_the_fields_that_were_given(queue, collection):
    before = datetime.now(UTC) - timedelta(seconds=1)
    job_id = queue.enqueue("count", Page(path="a.txt"), priority=5, group_key="g", timeout_s=2.5, unique_key=None)
    found = collection.find_one({"_id": job_id})
    assert before < found.pop("created_at") <= datetime.now(UTC)
    assert found == {
        "_id": job_id,
        "handler": "count",
        "payload": {"path": "a.txt"},
        "status": "pending",
        "priority": 5,
        "group_key": "g",
        "timeout_s": 2.5,
    }


def test_a_job_may_have_an_id_of_its_producers_own(queue):
    assert queue.enqueue("count", job_id="mine") == "mine"
    with pytest.raises(JobStateError, match="a job with the id 'mine' exists already"):
        queue.enqueue("count", job_id="mine")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"priority": 1.5}, "priority: is 1.5, must be an integer"),
        ({"max_attempts": 0}, "max_attempts: is 0, must be an integer from 1"),
        ({"group_key": "\udcff"}, "group_key: cannot be stored: "),
        ({"job_id": {1}}, "_id: cannot be stored: "),
        ({"run_at": "tomorrow"}, "run_at: is 'tomorrow', must be a date"),
        ({"then": [{"payload": {}}]}, "then: .*entry 0 is no job: handler: missing"),
    ],
)
def test_a_wrong_field_is_named(queue, collection, options, reason):
    with pytest.raises(UsageError, match=reason):
        queue.enqueue("count", **options)
    assert collection.count_documents({}) == 0


def test_an_option_that_does_not_exist_is_refused(queue):
    with pytest.raises(TypeError, match="no such option: prio"):
        queue.enqueue("count", prio=1)


def test_the_payload_must_fit_the_registered_handler(mongo_uri, prepared, registry):
    with OperatorQueue.connect(mongo_uri, prepared, registry=registry) as queue:
        with pytest.raises(PayloadError, match="payload of 'count': path: Field required"):
            queue.enqueue("count", {})
        with pytest.raises(UnknownHandlerError, match="unknown handler 'cuont'; registered: count, sum"):
            queue.enqueue("cuont", {})
        with pytest.raises(PayloadError, match="payload of 'count': path: Field required"):
            queue.enqueue("count", {"path": "x"}, then=[{"handler": "count"}])
        queue.enqueue("count", {"path": "x"}, then=[{"handler": "sum"}])


def test_a_payload_that_is_too_large_or_not_storable_is_refused(mongo_uri, prepared):
    with OperatorQueue.connect(mongo_uri, prepared, payload_kb=1) as queue:
        queue.enqueue("count", {"text": "x" * 900})
        with pytest.raises(PayloadError, match=r"payload: is 2 kB, must be at most 1 kB .*belongs in a file"):
            queue.enqueue("count", {"text": "x" * 2000})
        with pytest.raises(PayloadError, match=r"payload: cannot be stored: .*lock"):
            queue.enqueue("count", {"lock": threading.Lock()})


def test_a_second_active_job_with_a_unique_key_is_refused_by_the_firsts_id(queue, collection):
    first = queue.enqueue("count", unique_key="x")
    with pytest.raises(JobStateError, match=f"a job with unique_key 'x' is already pending or processing: {first}"):
        queue.enqueue("count", unique_key="x")
    collection.update_one({"_id": first}, {"$set": {"status": "completed"}})
    queue.enqueue("count", unique_key="x")


def test_ids_are_found_by_what_a_person_types(queue, collection):
    made = ObjectId()
    for job_id in (made, 7, "seven", "-", {"a": 1}, "8"):
        put(collection, _id=job_id)
    typed = [str(made), "7", "seven", "-", '{"a": 1}', "8"]
    assert [queue.find_id(text) for text in typed] == [made, 7, "seven", "-", {"a": 1}, "8"]
    for text in ("nope", str(ObjectId()), "99999999999999999999", "{", "\udcff", ""):
        with pytest.raises(JobNotFoundError, match="no job has the id"):
            queue.find_id(text)


def test_a_listing_pages_over_ids_of_every_type(queue, collection):
    made = [ObjectId() for _ in range(3)]
    for job_id in (1, 2, "a", "b", *made):
        put(collection, _id=job_id, result={"large": 1})
    pages, after = [], None
    while page := queue.list(limit=2, after=after):
        pages += [job["_id"] for job in page]
        after = pages[-1]
    assert pages == [*reversed(made), "b", "a", 2, 1]
    assert "result" not in queue.list(limit=1)[0]


def test_a_listing_filters_by_status_and_handler(queue, collection):
    wanted = put(collection, "failed")
    put(collection, "failed", handler="other")
    put(collection)
    assert [job["_id"] for job in queue.list("failed", "count")] == [wanted]
    with pytest.raises(ValueError, match="nonsense"):
        queue.list("nonsense")


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"group_key": "g"}, ["late", "early"]),
        ({"group_key": "g", "status": "failed", "handler": "count"}, ["late"]),
        ({"batch_id": 7}, ["late"]),
        ({"batch_id": "7"}, ["early"]),
        ({"unique_key": "u"}, ["waits"]),
        ({"error_kind": "timeout"}, ["waits", "late"]),
        ({"error_kind": "timeout", "status": "pending"}, ["waits"]),
        ({"since": HOUR * 2}, ["late"]),
        ({"until": HOUR * 2}, ["early", "gone"]),
        ({"since": HOUR * 4, "until": HOUR * 2}, ["early"]),
        ({"since": HOUR * 9, "status": "completed"}, ["early", "gone"]),
        ({"batch_id": None, "since": None, "handler": "none"}, []),
    ],
)
def test_a_listing_filters_by_what_else_is_known(queue, collection, filters, found):
    now = datetime.now(UTC)
    put(collection, "completed", _id="gone", finished_at=now - HOUR * 6)
    put(collection, "failed", _id="late", finished_at=now - HOUR, group_key="g", batch_id=7, error={"kind": "timeout"})
    put(collection, "completed", _id="early", handler="sum", finished_at=now - HOUR * 3, group_key="g", batch_id="7")
    put(collection, _id="waits", unique_key="u", error={"kind": "timeout"})
    put(collection, _id="new")
    given = {name: now - value if isinstance(value, timedelta) else value for name, value in filters.items()}
    assert [job["_id"] for job in queue.list(**given)] == found
    assert queue.count(**given) == len(found)


def test_a_listing_refuses_what_cannot_be(queue):
    with pytest.raises(UsageError, match="since and until are about when a job ended, and pending jobs have not ended"):
        queue.list("pending", since=datetime.now(UTC))
    with pytest.raises(ValueError, match="nonsense"):
        queue.list(error_kind="nonsense")


def test_a_listing_by_end_and_one_by_group_read_no_more_than_they_show(queue, collection):
    now = datetime.now(UTC)
    collection.insert_many(
        [{"handler": "count", "status": "failed", "finished_at": now - HOUR * number, "group_key": f"g{number % 50}"}
         for number in range(500)]
    )  # fmt: skip
    profiled = collection.database
    profiled.command("profile", 2)
    assert len(queue.list(limit=20, since=now - HOUR * 400)) == 20
    assert len(queue.list("failed", limit=20, until=now - HOUR * 200)) == 20
    assert len(queue.list(group_key="g7")) == 10
    profiled.command("profile", 0)
    seen = list(profiled["system.profile"].find({"op": "query", "ns": collection.full_name}))
    assert [each["docsExamined"] for each in seen] == [20, 20, 10]


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_retry_starts_over_and_keeps_what_happened(queue, collection, status):
    error = {"kind": "timeout", "message": "slow"}
    job_id = put(collection, status, attempt=3, crashes=2, claims=4, error=error, attempts=[{"n": 3}],
                 run_at=datetime.now(UTC), finished_at=datetime.now(UTC), cancel_requested=True)  # fmt: skip
    queue.retry(job_id)
    assert collection.find_one({"_id": job_id}) == {
        "_id": job_id, "handler": "count", "payload": {}, "status": "pending", "attempt": 0, "crashes": 0,
        "claims": 4, "error": error, "attempts": [{"n": 3}],
    }  # fmt: skip


@pytest.mark.parametrize("status", ["pending", "processing", "completed"])
def test_a_retry_of_another_status_names_it(queue, collection, status):
    with pytest.raises(JobStateError, match=f"is {status}; only failed and cancelled jobs can be retried"):
        queue.retry(put(collection, status))
    with pytest.raises(JobNotFoundError):
        queue.retry("nope")


def test_a_retry_that_would_break_uniqueness_is_refused(queue, collection):
    old = put(collection, "failed", unique_key="x")
    new = queue.enqueue("count", unique_key="x")
    with pytest.raises(JobStateError, match=f"already pending or processing: {new}"):
        queue.retry(old)


def test_many_are_retried_by_status_and_handler(queue, collection, monkeypatch):
    monkeypatch.setattr("supervisor.client.bulk.AT_ONCE", 2)
    for _ in range(5):
        put(collection, "failed")
    put(collection, "failed", unique_key="taken")
    put(collection, "failed", unique_key="free")
    put(collection, "failed", handler="other")
    put(collection, "cancelled")
    queue.enqueue("count", unique_key="taken")
    assert queue.retry_many("failed", "count") == Retried(count=6, skipped=1)
    assert queue.retry_many("failed", "count") == Retried(count=0, skipped=1)
    assert queue.counts()["count"] == {"pending": 7, "processing": 0, "completed": 0, "failed": 1, "cancelled": 1}
    with pytest.raises(JobStateError, match="not completed ones"):
        queue.retry_many("completed")


def test_many_are_retried_by_what_they_failed_of_and_when(queue, collection):
    now = datetime.now(UTC)
    for hours, kind in ((1, "timeout"), (1, "crash"), (5, "timeout")):
        put(collection, "failed", finished_at=now - HOUR * hours, error={"kind": kind})
    assert queue.retry_many("failed", since=now - HOUR * 2, error_kind="timeout") == Retried(count=1)
    assert queue.counts()["count"]["failed"] == 2


def test_many_that_are_retried_open_their_batch_again(queue, collection):
    made = queue.enqueue_batch([{"handler": "count"}, {"handler": "count"}])
    collection.update_many({}, {"$set": {"status": "failed", "finished_at": datetime.now(UTC) - HOUR}})
    assert queue.batch(made.id).counts["failed"] == 2
    assert queue.retry_many("failed") == Retried(count=2)
    assert queue.batch(made.id).counts == {"completed": 0, "failed": 0, "cancelled": 0, "processing": 0, "pending": 2}


def test_many_are_cancelled_by_status_handler_group_and_batch(queue, collection, monkeypatch):
    monkeypatch.setattr("supervisor.client.bulk.AT_ONCE", 2)
    mine = [put(collection, batch_id=7, group_key="g") for _ in range(5)]
    runs = put(collection, "processing", batch_id=7, **OWNED)
    others = [put(collection, handler="sum"), put(collection, batch_id=8), put(collection, "failed", batch_id=7)]
    untouched = list(collection.find({"_id": {"$in": others}}))
    with pytest.raises(JobStateError, match="only pending and processing jobs can be cancelled, not failed ones"):
        queue.cancel_many("failed")
    assert queue.cancel_many("pending", "count", group_key="nobody") == Cancelled()
    assert queue.cancel_many(batch_id=7) == Cancelled(count=5, asked=1)
    ended = list(collection.find({"_id": {"$in": mine}}))
    assert {(job["status"], job["error"]["kind"]) for job in ended} == {("cancelled", "cancelled")}
    assert collection.find_one({"_id": runs})["cancel_requested"] is True
    assert list(collection.find({"_id": {"$in": others}})) == untouched
    assert queue.cancel_many("pending", "sum") == Cancelled(count=1)


def test_a_pending_job_is_cancelled_at_once(queue, collection):
    job_id = put(collection)
    assert queue.cancel(job_id) == "cancelled"
    job = collection.find_one({"_id": job_id})
    assert (job["status"], job["error"]["kind"]) == ("cancelled", "cancelled")
    assert abs((datetime.now(UTC) - job["finished_at"]).total_seconds()) < 60


def test_cancelling_a_processing_job_is_asked_of_its_supervisor(queue, collection):
    job_id = put(collection, "processing", **OWNED)
    assert queue.cancel(job_id) == "processing"
    job = collection.find_one({"_id": job_id})
    assert (job["status"], job["cancel_requested"]) == ("processing", True)


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_an_ended_job_cannot_be_cancelled(queue, collection, status):
    with pytest.raises(JobStateError, match=f"is {status} already"):
        queue.cancel(put(collection, status))
    with pytest.raises(JobNotFoundError):
        queue.cancel("nope")


def test_counts_are_by_handler_and_status(queue, collection):
    put(collection)
    put(collection)
    put(collection, "failed", handler="other")
    assert queue.counts() == {
        "count": {"pending": 2, "processing": 0, "completed": 0, "failed": 0, "cancelled": 0},
        "other": {"pending": 0, "processing": 0, "completed": 0, "failed": 1, "cancelled": 0},
    }


def test_supervisors_are_alive_by_their_heartbeat_in_the_databases_time(queue, collection):
    supervisors = collection.database["supervisors"]
    supervisors.insert_one({"_id": "old", "host": "a", "heartbeat_at": datetime.now(UTC) - timedelta(hours=1)})
    supervisors.insert_one({"_id": "odd", "host": "b", "heartbeat_at": "yesterday"})
    assert not queue.has_supervisor()
    supervisors.update_one({"_id": "new"}, [{"$set": {"heartbeat_at": "$$NOW", "host": "c"}}], upsert=True)
    ages = {found["_id"]: found["heartbeat_age_s"] for found in queue.supervisors()}
    assert ages["old"] == pytest.approx(3600, abs=60)
    assert ages["odd"] is None
    assert ages["new"] < 5
    assert queue.has_supervisor()


def test_waiting_ends_with_the_job_and_tells_of_changes(queue, collection):
    job_id, seen = put(collection), []
    changer = threading.Thread(target=_live, args=(collection, job_id, seen))
    changer.start()
    started = time.monotonic()
    job = queue.wait(job_id, 20, seen.append)
    changer.join()
    assert job["status"] == "completed"
    assert [found["status"] for found in seen[:2]] == ["pending", "processing"]
    assert time.monotonic() - started < 10


def _live(collection, job_id, seen):
    until(lambda: len(seen) >= 1)
    collection.update_one({"_id": job_id}, {"$set": {"status": "processing", **OWNED}})
    until(lambda: len(seen) >= 2)
    collection.update_one({"_id": job_id}, {"$set": {"status": "completed"}})


def test_waiting_without_a_change_stream_goes_by_the_poll(queue, collection, monkeypatch):
    def refuse(*_arguments, **_options):
        raise PyMongoError("not authorized")

    monkeypatch.setattr("pymongo.synchronous.collection.Collection.watch", refuse)
    job_id = put(collection)
    timer = threading.Timer(0.3, collection.update_one, ({"_id": job_id}, {"$set": {"status": "failed"}}))
    timer.start()
    assert queue.wait(job_id, 10)["status"] == "failed"
    timer.join()


def test_waiting_gives_up_after_its_timeout(queue, collection):
    with pytest.raises(TimeoutError, match=r"has not ended within 0\.2 s"):
        queue.wait(put(collection), 0.2)
    with pytest.raises(JobNotFoundError):
        queue.wait("nope", 1)


def test_waiting_survives_a_restart_of_the_database(tmp_path):
    mongod = start_mongod(tmp_path)
    try:
        with OperatorQueue.connect(mongod.uri) as queue:
            job_id = queue.enqueue("count")
            ended = []
            waiter = threading.Thread(target=lambda: ended.append(queue.wait(job_id, 60)))
            waiter.start()
            mongod.kill()
            mongod.restart()
            with mongod.client(10_000) as client:
                client["supervisor"]["jobs"].update_one({"_id": job_id}, {"$set": {"status": "completed"}})
            waiter.join(60)
            assert [job["status"] for job in ended] == ["completed"]
    finally:
        mongod.stop()


def test_waiting_does_not_put_up_with_an_outage_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "OUTAGE_S", 0.5)
    mongod = start_mongod(tmp_path)
    try:
        with OperatorQueue.connect(mongod.uri, wait_s=1) as queue:
            job_id = queue.enqueue("count")
            mongod.kill()
            with pytest.raises(PyMongoError):
                queue.wait(job_id, 60)
    finally:
        mongod.stop()


def test_a_file_is_uploaded_read_back_as_a_result_and_discarded(queue, collection, tmp_path):
    path = tmp_path / "result.json"
    path.write_text(
        '{"n": {"$numberLong": "5"}, "at": {"$date": "2026-03-01T12:00:00Z"}, "text": "' + "ü" * 3_000_000 + '"}'
    )
    file_id = queue.upload(path)
    result = queue.result({"status": "completed", "result_file": file_id})
    assert (result["n"], result["at"]) == (5, datetime(2026, 3, 1, 12, tzinfo=UTC))
    assert result["text"] == "ü" * 3_000_000
    assert collection.database["files.files"].find_one({"_id": file_id})["filename"] == "result.json"
    queue.discard(file_id)
    queue.discard(file_id)
    assert collection.database["files.chunks"].count_documents({}) == 0
    with pytest.raises(JobNotFoundError, match="has been deleted"):
        queue.result({"_id": 1, "result_file": file_id})


def test_a_result_in_the_document_is_just_that(queue):
    assert queue.result({"result": {"n": 1}}) == {"n": 1}
    assert queue.result({}) is None


def test_a_document_that_python_cannot_hold_is_still_read(queue, collection):
    collection.insert_one({"_id": "far", "handler": "count", "status": "completed"})
    far = {"$set": {"finished_at": {"$add": [datetime(2026, 1, 1, tzinfo=UTC), 10**15]}}}
    collection.update_one({"_id": "far"}, [far])
    assert queue.get("far")["finished_at"] is not None


def test_a_database_that_does_not_answer_is_an_error_of_ours():
    with (
        pytest.raises(DatabaseUnreachableError, match=r"did not answer within 0\.5 s"),
        OperatorQueue.connect("mongodb://127.0.0.1:1/?directConnection=true", wait_s=0.5),
    ):
        pass
