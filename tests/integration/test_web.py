"""The routes against a real uvicorn and a real mongod: what they answer, refuse and store."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId
from fastapi import Depends, FastAPI, HTTPException, Request
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel
from pymongo import AsyncMongoClient

from supervisor import AsyncQueue
from supervisor.core.outcome import ErrorKind, Usage
from supervisor.registry import HandlerSpec, Registry
from supervisor.store.claims import ClaimStore
from supervisor.store.presence import PresenceStore
from supervisor.store.results import ResultStore
from supervisor.totals import Totals
from supervisor.web import router
from supervisor.web.events import follow
from tests.support.failpoints import failing
from tests.support.jobs import JOBS, OWNER, change, claim_some, ended, insert_unchecked, job, raised, returned, room
from tests.support.mongo import start_mongod
from tests.support.supervising import ROOT
from tests.support.until import until_async
from tests.support.web import check_problem, client_of

TOKEN = "t0ken"
UNKNOWN = "65f2a1c0e4b0a1b2c3d4e5f6"


class Page(BaseModel):
    path: str
    pages: int = 1


def count(payload: Page) -> dict:
    return {"path": payload.path}


@pytest.fixture
def registry():
    found = Registry()
    found.add(HandlerSpec("count", count, Page, takes_context=False, module="tests"))
    found.add(HandlerSpec("sum", print, dict, takes_context=False, module="tests"))
    return found


@pytest.fixture
async def queue(mongo_uri, database, jobs, registry):
    async with AsyncMongoClient(mongo_uri, tz_aware=True) as client:
        yield AsyncQueue(client, database.name, registry=registry)


@pytest.fixture
async def client(queue):
    app = FastAPI()
    app.include_router(router(queue, token=TOKEN), prefix="/api")
    async with client_of(app, TOKEN, "/api") as found:
        yield found


async def end(database, outcome=None, count=100):
    """Run up to `count` pending jobs to their end."""
    claims = await claim_some(ClaimStore(database, JOBS, OWNER), count, room("count", "sum"))
    await ResultStore(database, JOBS).apply([ended(each, outcome or returned()) for each in claims])


async def stored(database):
    """Return how many documents there are in all collections."""
    names = await database.list_collection_names()
    return {name: number for name in names if (number := await database[name].count_documents({}))}


# one job


async def test_a_job_is_enqueued_and_its_way_is_told_until_its_result(client, database, jobs):
    made = await client.post(
        "/jobs", json={"handler": "count", "payload": {"path": "a"}, "priority": 3, "group_key": "g"}
    )
    job_id = made.json()["job_id"]
    assert (made.status_code, made.json()["status"]) == (202, "pending")
    document = await jobs.find_one({"_id": ObjectId(job_id)})
    assert (document["payload"], document["priority"], document["group_key"]) == ({"path": "a"}, 3, "g")
    there = await client.get(made.request.url.join(made.headers["location"]))
    assert there.json()["job_id"] == job_id
    await end(database, returned({"words": 3, "at": datetime(2026, 5, 4, tzinfo=UTC)}))
    told = (await client.get(f"/jobs/{job_id}")).json()
    assert (told["status"], told["attempt"]) == ("completed", 1)
    assert told["result"] == {"words": 3, "at": "2026-05-04T00:00:00.000Z"}
    hidden = {"payload", "lease", "claims", "attempts", "usage", "crashes", "children", "_id"}
    assert hidden & set(told) == set()


async def test_a_failure_is_told_without_what_is_inside(client, database, jobs):
    job_id = (await client.post("/jobs", json={"handler": "sum", "max_attempts": 1})).json()["job_id"]
    await end(database, raised(ErrorKind.PERMANENT))
    await jobs.update_one({}, {"$set": {"error.traceback": "File …", "error.exit_code": 1, "error.code": "empty"}})
    told = (await client.get(f"/jobs/{job_id}")).json()
    assert told["status"] == "failed"
    assert told["error"] == {"kind": "permanent", "message": "boom", "type": "ValueError", "code": "empty"}


async def test_a_result_in_a_file_is_told_too_and_nothing_when_it_is_gone(client, queue, database, jobs):
    async def pieces():
        yield json.dumps({"text": "x" * 10}).encode()

    job_id = await queue.enqueue("sum", {})
    await end(database)
    file_id = await queue.upload(pieces(), "result.json")
    await jobs.update_one({"_id": job_id}, {"$set": {"result_file": file_id}, "$unset": {"result": ""}})
    assert (await client.get(f"/jobs/{job_id}")).json()["result"] == {"text": "x" * 10}
    await queue.discard(file_id)
    assert (await client.get(f"/jobs/{job_id}")).json()["result"] is None


@pytest.mark.parametrize("job_id", ["a name", 42, '{"k": "v"}', "--5"])
async def test_ids_of_all_kinds_are_found_by_their_text(client, jobs, job_id):
    meant = json.loads(job_id) if str(job_id).startswith("{") else job_id
    await jobs.insert_one({"_id": meant, "handler": "sum", "status": "pending"})
    told = await client.get(f"/jobs/{job_id}")
    assert (told.status_code, told.json()["status"]) == (200, "pending")


async def test_a_listing_is_paged_by_id(client, queue, jobs):
    made = [str(await queue.enqueue("sum", {"n": n})) for n in range(5)]
    await queue.enqueue("count", {"path": "a"})
    first = (await client.get("/jobs", params={"handler": "sum", "status": "pending", "limit": 2})).json()
    second = (await client.get("/jobs", params={"handler": "sum", "limit": 2, "after": first["next"]})).json()
    await jobs.delete_one({"_id": ObjectId(second["next"])})
    third = (await client.get("/jobs", params={"handler": "sum", "limit": 2, "after": second["next"]})).json()
    seen = [each["job_id"] for page in (first, second, third) for each in page["jobs"]]
    assert (seen, third["next"]) == (made[::-1], None)
    assert (await client.get("/jobs", params={"status": "failed"})).json() == {"jobs": [], "next": None}


async def test_cancel_and_retry_answer_409_where_the_status_does_not_allow_it(client, queue, database):
    job_id = await queue.enqueue("sum", {})
    check_problem(await client.post(f"/jobs/{job_id}/retry"), 409, "only failed and cancelled jobs")
    done = await client.post(f"/jobs/{job_id}/cancel")
    assert (done.status_code, done.json()) == (202, {"job_id": str(job_id), "status": "cancelled"})
    check_problem(await client.post(f"/jobs/{job_id}/cancel"), 409, "is cancelled already")
    done = await client.post(f"/jobs/{job_id}/retry")
    assert (done.status_code, done.json()["status"]) == (202, "pending")
    await claim_some(ClaimStore(database, JOBS, OWNER), 1, room("sum"))
    assert (await client.post(f"/jobs/{job_id}/cancel")).json()["status"] == "processing"
    assert (await client.get(f"/jobs/{job_id}")).json()["cancel_requested"] is True


async def test_an_unknown_id_is_404(client, queue):
    await queue.enqueue("sum", {})
    for path in ("/jobs/{}", "/jobs/{}/events", "/batches/{}"):
        for given in (UNKNOWN, "nope", "-1", "99999999999999999999", '{"$ne": null}', "%00", "%ff"):
            check_problem(await client.get(path.format(given)), 404, "has the id")


# what is refused


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        ({"handler": "nope"}, "handler", "unknown handler 'nope'; registered: count, sum"),
        ({}, "handler", "Field required"),
        ({"handler": 3}, "handler", "string"),
        ({"handler": {"$ne": None}}, "handler", "string"),
        ({"handler": "count"}, "payload", "path: Field required"),
        ({"handler": "count", "payload": {"path": 1}}, "payload", "path: Input should be a valid string"),
        ({"handler": "count", "payload": []}, "payload", "dictionary"),
        ({"handler": "sum", "payload": {"a": {"$where": "1"}}}, "payload", "may not be named '$where'"),
        ({"handler": "sum", "payload": {"__proto__": {}}}, "payload", "may not be named '__proto__'"),
        ({"handler": "sum", "payload": {"$oid": "x"}}, "payload", "is no Extended JSON"),
        ({"handler": "sum", "__proto__": {}}, "__proto__", "Extra inputs"),
        ({"handler": "sum", "lease": {}}, "lease", "Extra inputs"),
        ({"handler": "sum", "status": "completed"}, "status", "should be 'pending'"),
        ({"handler": "sum", "job_id": {"$gt": ""}}, "job_id", "must be a string of at most 200"),
        ({"handler": "sum", "batch_id": {"$gt": ""}}, "batch_id", "string"),
        ({"handler": "sum", "unique_key": {"$gt": ""}}, "unique_key", "string"),
        ({"handler": "sum", "priority": "5"}, "priority", "integer"),
        ({"handler": "sum", "priority": 2**31}, "priority", "less than"),
        ({"handler": "sum", "run_at": 5}, "run_at", "must be a time as a string"),
        ({"handler": "sum", "run_at": "soon"}, "run_at", "datetime"),
        ({"handler": "sum", "timeout_s": 0}, "timeout_s", "greater than"),
        ({"handler": "sum", "then": [{"handler": "nope"}]}, "then[0]", "then[0]: unknown handler 'nope'"),
        ([{"handler": "sum"}], "body", "body: must be an object, sent as application/json"),
        ({"handler": "sum", "then": [{"payload": {}}]}, "then.0.handler", "Field required"),
        ({"handler": "sum", "job_id": 2**70}, "_id", "cannot be stored"),
        ({"handler": "sum", "payload": {"n": 2**70}}, "payload", "cannot be stored"),
        ({"handler": "sum", "payload": {"\x00": 1}}, "payload", "cannot be stored"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_wrong_job_is_422_naming_the_field_and_nothing_is_stored(client, database, body, field, reason):
    problem = check_problem(await client.post("/jobs", json=body), 422, reason)
    assert field in [fault["field"] for fault in problem["errors"]]
    assert await stored(database) == {}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 422),
        ("{", 422),
        ("[]", 422),
        ("null", 422),
        ('{"handler": "sum", "payload": {"a": "\\ud800"}}', 422),
        ('{"handler": "\\ud800"}', 422),
        ('{"handler": "sum", "timeout_s": NaN}', 422),
        ('{"handler": "sum", "payload": ' + '{"a":' * 100 + "1" + "}" * 101, 422),
        ("[" * 100_000, 400),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_body_that_is_no_job_is_a_problem_too(client, database, body, status):
    answer = await client.post("/jobs", content=body, headers={"Content-Type": "application/json"})
    check_problem(answer, status)
    assert await stored(database) == {}


async def test_values_that_json_does_not_have_come_as_extended_json(client, jobs):
    file_id = ObjectId()
    payload = {"file_id": {"$oid": str(file_id)}, "at": [{"$date": "2026-05-04T00:00:00Z"}], "raw": {"$type": 3}}
    refused = await client.post("/jobs", json={"handler": "sum", "payload": payload})
    check_problem(refused, 422, "$type")
    payload["raw"] = {"$binary": {"base64": "aGk=", "subType": "00"}}
    assert (await client.post("/jobs", json={"handler": "sum", "payload": payload})).status_code == 202
    (inserted,) = [found async for found in jobs.find()]
    assert inserted["payload"] == {"file_id": file_id, "at": [datetime(2026, 5, 4, tzinfo=UTC)], "raw": b"hi"}


async def test_a_key_or_an_id_that_is_taken_is_409(client, jobs):
    for field in ("unique_key", "job_id"):
        body = {"handler": "sum", field: "k"}
        assert (await client.post("/jobs", json=body)).status_code == 202
        check_problem(await client.post("/jobs", json=body), 409, "'k'")
    assert await jobs.count_documents({}) == 2


async def test_a_payload_over_the_limit_is_413_and_a_body_far_over_it_is_not_read(client, database):
    payload = {"text": "x" * (1024 * 1024 + 1)}
    check_problem(
        await client.post("/jobs", json={"handler": "sum", "payload": payload}), 413, "must be at most 1024 kB"
    )
    check_problem(
        await client.post("/batches", json={"jobs": [{"handler": "sum", "payload": payload}]}), 413, "jobs[0]"
    )

    async def spaces():
        for _ in range(20):
            yield b" " * 2**20

    answer = await client.post("/jobs", content=spaces(), headers={"Content-Type": "application/json"})
    check_problem(answer, 413, "the body is larger than 8 MB")
    assert await stored(database) == {}


async def test_a_query_with_anything_else_in_it_is_422(client):
    wrong = "status[$ne]=x status=nope handler[$regex]=.* $where=1 sort=-1 limit=0 limit=x __proto__=1"
    for query in wrong.split():
        check_problem(await client.get(f"/jobs?{query}"), 422)


async def test_operators_reach_the_database_only_as_plain_text(client, queue, database):
    await queue.enqueue("sum", {}, unique_key="k")
    await database.command({"profile": 2})
    regex = '{"$regularExpression": {"pattern": ".*", "options": ""}}'
    for given in ('{"$ne": null}', regex, '{"$where": "1"}', '[{"$gt": ""}]'):
        for path in ("/jobs/{}", "/jobs/{}/events", "/batches/{}"):
            check_problem(await client.get(path.format(given)), 404)
        check_problem(await client.post(f"/jobs/{given}/cancel"), 404)
        page = (await client.get("/jobs", params={"handler": given, "after": given})).json()
        assert page["jobs"] == []
    await database.command({"profile": 0})
    asked = [
        entry.get("command", {}) async for entry in database["system.profile"].find({"ns": f"{database.name}.jobs"})
    ]
    assert len(asked) > 10
    assert [query for query in map(str, asked) if any(bad in query for bad in ("'$where':", "'$ne':", "Regex("))] == []


# batches


async def test_a_batch_is_enqueued_and_its_progress_told(client, database, jobs):
    body = {"jobs": [{"handler": "count", "payload": {"path": str(n)}} for n in range(4)], "on_end": {"handler": "sum"}}
    made = await client.post("/batches", json=body)
    assert made.status_code == 202
    batch_id = made.json()["batch_id"]
    assert made.json() == {"batch_id": batch_id, "total_items": 4}
    await end(database, count=1)
    await end(database, raised(ErrorKind.PERMANENT), count=1)
    told = (await client.get(made.request.url.join(made.headers["location"]))).json()
    assert (told["status"], told["total_items"], told["processed_items"]) == ("processing", 4, 2)
    assert told["counts"] == {"completed": 1, "failed": 1, "cancelled": 0, "processing": 0, "pending": 2}
    await end(database)
    assert (await client.get(f"/batches/{batch_id}")).json()["status"] == "failed"


async def test_a_batch_with_a_mistake_is_422_and_nothing_of_it_is_stored(client, database):
    good = {"handler": "sum"}
    for body, field, reason in (
        ({"jobs": []}, "jobs", "at least 1"),
        ({"jobs": [good, {"handler": "nope"}]}, "jobs[1]", "unknown handler"),
        ({"jobs": [good, {"handler": "count"}]}, "jobs[1]", "path: Field required"),
        ({"jobs": [good, {"handler": "sum", "lease": 1}]}, "jobs.1.lease", "Extra inputs"),
        ({"jobs": [good, 7]}, "jobs.1", "must be"),
        ({"jobs": [good], "on_end": {"handler": "nope"}}, "on_end", "unknown handler"),
    ):
        problem = check_problem(await client.post("/batches", json=body), 422, reason)
        assert problem["errors"][0]["field"] == field
    assert await stored(database) == {}


async def test_a_batch_of_which_something_is_taken_is_409_and_nothing_more_is_stored(client, database, jobs):
    await client.post("/jobs", json={"handler": "sum", "unique_key": "k"})
    before = await stored(database)
    again = {"jobs": [{"handler": "sum"}, {"handler": "sum", "unique_key": "k"}], "batch_id": "b"}
    check_problem(
        await client.post("/batches", json=again), 409, "1 of 2 jobs are there already, so none was enqueued: k"
    )
    twice = {"jobs": [{"handler": "sum", "job_id": 5}, {"handler": "sum", "job_id": 5}], "batch_id": "b"}
    problem = check_problem(await client.post("/batches", json=twice), 422, "_id: 5 is that of jobs[0] too")
    assert problem["errors"][0]["field"] == "jobs[1]"
    assert await stored(database) == before


async def test_a_batch_that_was_answered_with_503_may_be_repeated_under_its_id(client, jobs, mongod):
    body = {"jobs": [{"handler": "sum"}] * 3, "batch_id": "b"}
    with failing(mongod, ["insert"], errorCode=8000, namespace=jobs.full_name):
        check_problem(await client.post("/batches", json=body), 503)
    for status in (202, 409):
        assert (await client.post("/batches", json=body)).status_code == status
    assert await jobs.count_documents({"batch_id": "b"}) == 3


async def test_a_body_that_is_no_json_is_named(client, database):
    for content, kind, reason in (
        (b'{"handler": ', "application/json", "body: is not JSON: Expecting value, at character 12"),
        (b'{"handler": "sum"}', "text/plain", "body: must be an object, sent as application/json"),
    ):
        check_problem(await client.post("/jobs", content=content, headers={"Content-Type": kind}), 422, reason)
    assert await stored(database) == {}


async def test_a_job_may_be_posted_as_the_document_that_it_becomes(client, jobs):
    body = {"handler": "count", "payload": {"path": "a"}, "status": "pending"}
    assert (await client.post("/jobs", json=body)).status_code == 202
    assert (await client.post("/batches", json={"jobs": [body]})).status_code == 202
    assert await jobs.count_documents({"status": "pending"}) == 2


async def test_a_batch_of_plain_documents_and_one_with_an_id_of_its_own(client, jobs):
    await jobs.insert_many([{"handler": "sum", "status": "pending", "batch_id": 7} for _ in range(3)])
    assert (await client.get("/batches/7")).json()["total_items"] == 3
    body = {"jobs": [{"handler": "sum"}], "batch_id": "mine"}
    assert (await client.post("/batches", json=body)).json()["batch_id"] == "mine"
    check_problem(await client.post("/batches", json=body), 409, "'mine' exists already")


# events


async def test_events_tell_status_and_progress_until_the_end(client, queue, database, jobs):
    job_id = await queue.enqueue("sum", {})
    told = []

    async def until_told(lines, **wanted):
        """Read on until an event has all of `wanted`: what happens next, happens only then."""
        async for line in lines:
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                told.append((name, json.loads(line.removeprefix("data: "))))
                if wanted and wanted.items() <= told[-1][1].items():
                    return

    async with client.stream("GET", f"/jobs/{job_id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.aiter_lines()
        await until_told(lines, status="pending")
        (claim,) = await claim_some(ClaimStore(database, JOBS, OWNER), 1, room("sum"))
        await until_told(lines, status="processing")
        for done in (1, 2):
            await jobs.update_one({"_id": job_id}, {"$set": {"progress": {"done": done, "total": 2}}})
            await until_told(lines, done=done)
        await jobs.update_one({"_id": job_id}, {"$set": {"lease.expires_at": datetime.now(UTC)}})  # is no news
        await ResultStore(database, JOBS).apply([ended(claim, returned({"words": 1}))])
        await until_told(lines)  # to the end, which the server makes
    assert [data["status"] for name, data in told if name == "status"] == ["pending", "processing", "completed"]
    assert [data for name, data in told if name == "progress"] == [{"done": 1, "total": 2}, {"done": 2, "total": 2}]
    assert [name for name, _ in told] == ["status", "status", "progress", "progress", "status", "end"]
    assert told[-1][1]["status"] == "completed"
    again = await client.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": "end"})
    assert again.status_code == 204


@pytest.fixture
def open_streams(database):
    """Return the change streams of the jobs that the server knows."""

    async def found():
        running = [{"$currentOp": {"idleCursors": True}}, {"$match": {"ns": f"{database.name}.jobs"}}]
        operations = await (await database.client.admin.aggregate(running)).to_list()
        # a stream that is being asked is there twice: as its cursor and as the question
        return {each["cursor"]["cursorId"] for each in operations if "$changeStream" in str(each) and "cursor" in each}

    return found


async def test_many_that_follow_leave_half_of_the_connections_to_others(mongo_uri, database, jobs, open_streams):
    async with AsyncMongoClient(mongo_uri, tz_aware=True, maxPoolSize=4) as client:
        queue = AsyncQueue(client, database.name)
        ids = [await queue.enqueue("sum", {}) for _ in range(12)]
        seen = Counter()

        async def follow_one(job_id):
            async for job in queue.follow(job_id):
                seen[job["status"]] += 1

        async def two_streams():
            return len(await open_streams()) == 2

        async with asyncio.TaskGroup() as followers:
            for job_id in ids:
                followers.create_task(follow_one(job_id))
            await until_async(lambda: seen["pending"] == 12, 30)
            await until_async(two_streams, 30)  # one may be missing at the moment at which its cursor is handed back
            assert max([len(await open_streams()) for _ in range(5)]) <= 2
            await jobs.update_many({}, {"$set": {"status": "completed"}})
        assert seen["completed"] == 12
        await until_async(lambda: _none(open_streams), 30)
        later = asyncio.create_task(follow_one(await queue.enqueue("sum", {})))
        await until_async(open_streams, 30, "a stream for one that comes when all have left")
        later.cancel()
        await asyncio.wait({later})


async def test_a_client_that_leaves_ends_the_stream_and_its_change_stream(client, queue, open_streams):
    job_id = await queue.enqueue("sum", {})
    async with client.stream("GET", f"/jobs/{job_id}/events") as answer:
        lines = answer.aiter_lines()
        while "event: status" not in await anext(lines):
            pass
        await until_async(open_streams, what="a change stream to be open")
    await until_async(lambda: _none(open_streams), what="the change stream to be closed")


async def _none(count):
    return not await count()


async def test_comments_come_while_nothing_else_does_and_a_deleted_job_ends_the_stream(queue, jobs):
    job_id = await queue.enqueue("sum", {})
    seen = []
    async for text in follow(queue, job_id, comment_every_s=0.05):
        seen.append(text)
        if text.startswith(":"):
            await jobs.delete_one({"_id": job_id})
    assert seen[0].startswith("retry: ")
    assert ": nothing new\n\n" in seen
    assert seen[-1].startswith("event: deleted\n")


# who may


async def test_without_a_token_401_and_with_another_403(client, queue):
    for method, path in (("GET", "/jobs"), ("POST", "/jobs"), ("GET", f"/jobs/{UNKNOWN}"), ("GET", "/health/jobs")):
        for headers in ({"Authorization": ""}, {"Authorization": "Basic dTpw"}, {"Authorization": "Bearer"}):
            answer = await client.request(method, path, headers=headers, json={"handler": "sum"})
            check_problem(answer, 401, "a bearer token is needed")
            assert answer.headers["www-authenticate"] == "Bearer"
        for token in ("nope", TOKEN + "x", TOKEN[:-1], "\xff"):
            headers = {"Authorization": f"Bearer {token}".encode("latin-1")}
            check_problem(await client.request(method, path, headers=headers, json={"handler": "sum"}), 403)
    assert await queue.list() == []


async def test_probes_need_no_token(client):
    for path in ("/health/live", "/health/ready"):
        answer = await client.get(path, headers={"Authorization": ""})
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_an_application_guards_the_routes_with_its_own_login_and_hands_in_the_queue_late(queue):
    def logged_in(request: Request) -> None:
        if request.headers.get("x-user") != "ann":
            raise HTTPException(401, "log in first", {"WWW-Authenticate": "Cookie"})

    def of_the_app(request: Request) -> AsyncQueue:
        return request.app.state.queue

    app = FastAPI()
    app.include_router(router(of_the_app, dependencies=[Depends(logged_in)], prefix="/queue"))
    app.state.queue = queue
    async with client_of(app) as client:
        refused = await client.get("/queue/jobs")
        check_problem(refused, 401, "log in first")
        assert refused.headers["www-authenticate"] == "Cookie"
        assert (await client.get("/queue/jobs", headers={"X-User": "ann"})).status_code == 200


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"token": ""}, "token: is empty"), ({"max_upload_mb": 0}, "max_upload_mb: is 0"), ({"max_body_mb": "8"}, "'8'")],
)
def test_a_wrong_option_of_the_router_is_named(options, reason):
    with pytest.raises(ValueError, match=reason):
        router(lambda: None, **options)


def test_without_the_extra_it_says_what_to_install():
    hidden = "import sys; sys.modules['python_multipart'] = None; import supervisor.web"
    done = subprocess.run([sys.executable, "-c", hidden], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "supervisor.web needs python_multipart" in done.stderr
    assert "pip install 'mongo-job-supervisor[web]'" in done.stderr


# health


async def test_health_tells_who_works_and_how_much_there_is_to_do(client, queue, database, jobs):
    empty = (await client.get("/health/jobs")).json()
    assert empty == {"supervisors": 0, "active_jobs": 0, "pending_jobs": 0, "oldest_pending_s": None}
    for name in ("one", "two"):
        await PresenceStore(database, name).beat({"host": "h"})
    await database["supervisors"].update_one(
        {"_id": "two"}, {"$set": {"heartbeat_at": datetime.now(UTC) - timedelta(minutes=5)}}
    )
    made = ObjectId.from_datetime(datetime.now(UTC) - timedelta(seconds=100))
    await queue.enqueue("sum", {}, job_id=made)
    await queue.enqueue("sum", {}, run_at=datetime.now(UTC) + timedelta(hours=1))
    told = (await client.get("/health/jobs")).json()
    assert (told["supervisors"], told["pending_jobs"], told["active_jobs"]) == (1, 2, 0)
    assert 100 <= told["oldest_pending_s"] < 200
    await jobs.insert_one(
        {"_id": "x", "handler": "sum", "status": "pending", "created_at": datetime.now(UTC) - timedelta(seconds=500)}
    )
    await insert_unchecked(jobs, {"_id": "y", "handler": "sum", "status": "pending", "run_at": "soon"})
    assert 500 <= (await client.get("/health/jobs")).json()["oldest_pending_s"] < 600


async def test_an_outage_is_503_and_liveness_does_not_ask_the_database(tmp_path, registry):
    mongod = start_mongod(tmp_path)
    try:
        async with AsyncMongoClient(mongod.uri, tz_aware=True, timeoutMS=1000) as mongo:
            app = FastAPI()
            app.include_router(router(AsyncQueue(mongo, "test", registry=registry)))
            async with client_of(app) as client:
                job_id = (await client.post("/jobs", json={"handler": "sum"})).json()["job_id"]
                mongod.kill()
                asked = [
                    ("POST", "/jobs"), ("GET", "/jobs"), ("GET", f"/jobs/{job_id}"), ("GET", f"/jobs/{job_id}/events"),
                    ("POST", f"/jobs/{job_id}/cancel"), ("GET", "/health/ready"), ("GET", "/health/jobs"),
                ]  # fmt: skip
                answers = [client.request(method, path, json={"handler": "sum"}) for method, path in asked]
                for answer in await asyncio.gather(*answers):
                    check_problem(answer, 503, "the database does not answer")
                    assert answer.headers["retry-after"] == "5"
                assert (await client.get("/health/live")).status_code == 200
    finally:
        mongod.stop()


def totals(*changes):
    found = Totals()
    for each in changes:
        found.note(each)
    return found.report()


async def test_metrics_tell_what_ended_and_how_long_it_took_by_names_that_prometheus_reads(client, queue, database):
    await queue.enqueue("sum", {})
    ended_now = [
        change(job(handler="ocr"), returned({}, usage=Usage(run_s=0.3))),
        change(job(handler="ocr"), raised(ErrorKind.PERMANENT, usage=Usage(run_s=700.0))),
        change(job(handler='o"c\n'), raised(usage=Usage(run_s=2.0))),  # which is tried again
    ]
    report = {"totals": totals(*ended_now), "slots": [{"state": "busy"}, {"state": "idle"}, {"state": "idle"}]}
    await PresenceStore(database, "one").beat(report)
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    told = {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert (told["jobs_active",], told["jobs_pending",], told["supervisors",]) == (0, 1, 1)
    assert [told["jobs_total", status, "one"] for status in ("completed", "failed", "cancelled")] == [1, 1, 0]
    name = "job_duration_seconds"
    assert (told[f"{name}_count", "ocr", "one"], told[f"{name}_sum", "ocr", "one"]) == (2, 700.3)
    assert told[f"{name}_count", 'o"c\n', "one"] == 1
    buckets = {
        labels[1]: value for (kind, *labels), value in told.items() if kind == f"{name}_bucket" and labels[0] == "ocr"
    }
    assert (buckets["0.25"], buckets["0.5"], buckets["600.0"], buckets["+Inf"]) == (0, 1, 1, 2)
    assert told["supervisor_slots", "idle", "one"] == 2


# odd documents


async def test_a_document_that_breaks_the_schema_is_shown_as_it_is(client, jobs):
    odd = {"_id": 1, "handler": 7, "status": "pending", "progress": float("nan"), "error": "text", "priority": [1]}
    await insert_unchecked(jobs, odd, {"_id": 2})
    told = (await client.get("/jobs/1")).json()
    assert (told["handler"], told["priority"], told["progress"]) == (7, [1], "nan")
    assert (await client.get("/jobs/2")).json() == {"job_id": "2"}
    assert len((await client.get("/jobs")).json()["jobs"]) == 2
    assert (await client.get("/health/jobs")).status_code == 200
