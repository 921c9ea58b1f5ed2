"""Uploads through a real uvicorn into a real GridFS: what is stored, what is refused, and that nothing is left then."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys

import httpx
import psutil
import pytest
from bson import ObjectId
from fastapi import FastAPI
from gridfs.asynchronous import AsyncGridFSBucket
from pydantic import BaseModel
from pymongo import AsyncMongoClient

from supervisor import AsyncQueue
from supervisor.registry import HandlerSpec, Registry
from supervisor.web import router
from supervisor.web.multipart import last_part
from tests.support.supervising import ROOT
from tests.support.until import until, until_async
from tests.support.web import check_problem, client_of

pytestmark = pytest.mark.slow

MB = 2**20
PDF = "application/pdf"


class Source(BaseModel):
    file_id: object


class Scan(BaseModel):
    source: Source
    pages: int = 1


class Letter(BaseModel):
    file_id: object


@pytest.fixture
def registry():
    found = Registry()
    for name, model in (("scan", Scan), ("letter", Letter)):
        found.add(HandlerSpec(name, print, model, takes_context=False, module="tests"))
    return found


@pytest.fixture
async def client(mongo_uri, database, jobs, registry):
    async with AsyncMongoClient(mongo_uri, tz_aware=True) as mongo:
        app = FastAPI()
        queue = AsyncQueue(mongo, database.name, registry=registry)
        app.include_router(router(queue, max_upload_mb=3, upload_types=[PDF, "image/PNG"], max_body_mb=0.5))
        async with client_of(app) as found:
            yield found


async def nothing_is_stored(database):
    """Tell whether no collection has a document."""
    names = await database.list_collection_names()
    return not [name for name in names if await database[name].find_one({}, {"_id": 1})]


@pytest.mark.parametrize("handler", ["scan", "letter"])
async def test_a_file_is_stored_and_its_job_enqueued(client, database, jobs, handler):
    data = os.urandom(2_500_000)
    fields = {"handler": handler, "payload": '{"pages": 3}', "priority": "5"}
    fields |= {"then": "[]", "run_at": "2026-05-04T00:00:00Z", "unique_key": "k"}
    made = await client.post("/jobs/upload", data=fields, files={"file": ("a scan.pdf", data, PDF)})
    assert made.status_code == 202, made.text
    told = made.json()
    file_id = ObjectId(told["file_id"])
    job = await jobs.find_one({"_id": ObjectId(told["job_id"])})
    where = {"source": {"file_id": file_id}} if handler == "scan" else {"file_id": file_id}
    assert (job["payload"], job["priority"], job["unique_key"]) == ({"pages": 3, **where}, 5, "k")
    async with await AsyncGridFSBucket(database, "files").open_download_stream(file_id) as stored:
        assert (stored.filename, await stored.read()) == ("a scan.pdf", data)
        assert stored.metadata["job_ids"] == [job["_id"]]
    assert (await client.get(made.request.url.join(made.headers["location"]))).json()["job_id"] == told["job_id"]


async def test_the_fields_may_come_behind_the_file(client, jobs):
    files = [("file", ("a.pdf", b"x" * 300_000, PDF)), ("handler", (None, "letter")), ("job_id", (None, "mine"))]
    made = await client.post("/jobs/upload", files=files)
    assert (made.status_code, made.json()["job_id"]) == (202, "mine")
    assert await jobs.count_documents({"_id": "mine"}) == 1


def form(**parts):
    return [(name, part if isinstance(part, tuple) else (None, part)) for name, part in parts.items()]


HALF = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\nContent-Type: application/pdf\r\n\r\nhalf'
SMALL = ("a.pdf", b"x" * 300_000, PDF)


@pytest.mark.parametrize(
    ("parts", "status", "reason"),
    [
        (form(handler="letter"), 422, "file: missing"),
        (form(file=SMALL), 422, "handler: Field required"),
        (form(handler="nope", file=SMALL), 422, "unknown handler 'nope'"),
        (form(file=SMALL, handler="nope"), 422, "unknown handler 'nope'"),
        (form(handler="letter", file=SMALL, payload="{"), 422, "payload: is not JSON"),
        (form(handler="letter", file=SMALL, payload="[]"), 422, "payload"),
        (form(handler="letter", file=SMALL, payload='{"file_id": 1}'), 422, "has a 'file_id' already"),
        (form(handler="scan", file=SMALL, payload='{"source": {}}'), 422, "has a 'source' already"),
        (form(handler="scan", file=SMALL, payload='{"pages": "x"}'), 422, "pages"),
        (form(handler="letter", file=SMALL, payload='{"a": {"$ne": 1}}'), 422, "may not be named '$ne'"),
        (form(handler="letter", file=SMALL, lease="1"), 422, "Extra inputs"),
        (form(handler="letter", file=SMALL, __proto__="1"), 422, "Extra inputs"),
        (form(handler="letter", file=SMALL, priority="high"), 422, "priority: is not JSON"),
        (form(handler="letter", document=SMALL), 422, "only be in the field `file`"),
        (form(handler="letter", file=SMALL) + form(file=SMALL), 422, "file: one only"),
        (form(handler="letter", file=SMALL) + form(handler="scan"), 422, "handler: is given twice"),
        (form(handler="letter", file=("a.pdf", b"x" * (3 * MB + 1), PDF)), 413, "the file is larger than 3 MB"),
        # the file, or all of the body, whichever has come so far
        (form(handler="letter", file=("a.pdf", b"x" * 4 * MB, PDF)), 413, "larger than 3"),
        (form(handler="letter", file=SMALL, trace="x" * MB), 413, "the text of the form is larger"),
        (form(handler="letter", file=("a.exe", b"MZ", "application/x-dosexec")), 415, "must be one of application/pdf"),
        (form(handler="letter", file=("a", b"x", None)), 415, "is 'application/octet-stream'"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_refused_upload_leaves_nothing(client, database, parts, status, reason):
    answer = await client.post("/jobs/upload", files=parts)
    check_problem(answer, status, reason)
    assert await nothing_is_stored(database)


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b"{}", "application/json", 415),
        (b"x", "multipart/form-data", 415),
        (b"x", "multipart/form-data; boundary=", 415),
        (b"x", "multipart/form-data; boundary=b", 422),
        (b"", "multipart/form-data; boundary=b", 422),
        (HALF, "multipart/form-data; boundary=b", 422),
        (b"--b\r\n\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b", 422),
    ],
)
async def test_a_body_that_is_no_form_is_refused(client, database, body, media_type, status):
    check_problem(await client.post("/jobs/upload", content=body, headers={"Content-Type": media_type}), status)
    assert await nothing_is_stored(database)


async def test_a_taken_key_leaves_the_file_of_the_first_alone(client, database):
    parts = form(handler="letter", unique_key="k", file=SMALL)
    first = await client.post("/jobs/upload", files=parts)
    check_problem(await client.post("/jobs/upload", files=parts), 409, first.json()["job_id"])
    assert [str(file["_id"]) async for file in database["files.files"].find()] == [first.json()["file_id"]]


async def test_a_client_that_breaks_off_leaves_nothing(client, database):
    begun = asyncio.Event()
    head = '--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\nContent-Type: application/pdf\r\n\r\n'

    async def half():
        yield head.encode() + b"x" * 2 * MB
        begun.set()
        await asyncio.sleep(60)

    headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": "2500000"}
    sending = asyncio.create_task(client.post("/jobs/upload", content=half(), headers=headers))
    await begun.wait()
    await until_async(lambda: database["files.chunks"].find_one({}, {"_id": 1}), what="the first piece to be stored")
    sending.cancel()
    with contextlib.suppress(asyncio.CancelledError, httpx.HTTPError):
        await sending
    await until_async(lambda: nothing_is_stored(database), what="the pieces to be deleted")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("scan.pdf", "scan.pdf"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\Users\\ann\\scan.pdf", "scan.pdf"),
        ("a\x00b\n.pdf", "ab.pdf"),
        ("..", "upload"),
        ("dir/", "upload"),
        ("", "upload"),
        ("x" * 500, "x" * 200),
        ("Straße.pdf", "Straße.pdf"),
    ],
)
def test_of_a_file_name_the_last_part_is_kept(given, kept):
    assert last_part(given) == kept


async def test_a_path_in_a_file_name_is_not_stored(client, database):
    made = await client.post("/jobs/upload", files=form(handler="letter", file=("../../etc/passwd", b"x", PDF)))
    assert made.status_code == 202
    assert (await database["files.files"].find_one({}))["filename"] == "passwd"


@pytest.fixture
def server(mongo_uri, database_name):
    """The application in a process of its own: its port and its process."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "tests.support.web_app:app", "--port", str(port)]
    environ = {**os.environ, "MONGO": mongo_uri, "DATABASE": database_name, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: answers(address), 60, "the application to answer")
        yield address, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(20)


def answers(address):
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{address}/health/live", trust_env=False).status_code == 200
    return False


def upload_of(mb):
    """Yield a form with a file of so many megabytes."""
    yield b'--b\r\nContent-Disposition: form-data; name="handler"\r\n\r\nocr\r\n'
    yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n\r\n'
    for _ in range(mb):
        yield b"x" * MB
    yield b"\r\n--b--\r\n"


def test_memory_stays_flat_however_large_the_upload_is(server, mongod, database_name):
    address, process = server
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    peak = 0

    def send(mb):
        for piece in upload_of(mb):
            nonlocal peak
            peak = max(peak, process.memory_info().rss)
            yield piece

    def post(mb):
        with httpx.Client(timeout=120, trust_env=False) as client:
            return client.post(f"{address}/jobs/upload", content=send(mb), headers=headers)

    assert post(8).status_code == 202  # what is loaded once is loaded
    before, peak = process.memory_info().rss, 0
    assert post(48).status_code == 202
    assert peak - before < 5 * MB
    check_problem(post(120), 413, "the file is larger than 100 MB")
    assert peak - before < 5 * MB
    with mongod.client() as client:
        sizes = [file["length"] for file in client[database_name]["files.files"].find()]
        assert sorted(sizes) == [8 * MB, 48 * MB]
        assert client[database_name]["files.chunks"].count_documents({}) < 57 * MB / 255 / 1024
