"""Files between GridFS and the spool folder."""

import bson
import pytest
from bson import ObjectId, json_util
from gridfs.asynchronous import AsyncGridFSBucket

from supervisor.store.files import BUCKET, FileStore
from tests.support.jobs import JOBS, insert_unchecked, job, pending

LARGE = bytes(range(256)) * 4096  # 1 MB: several chunks of GridFS


@pytest.fixture
def bucket(database):
    return AsyncGridFSBucket(database, bucket_name=BUCKET)


@pytest.fixture
def files(database, jobs):
    return FileStore(database, JOBS)


@pytest.mark.parametrize("data", [b"", b"x", LARGE], ids=["empty", "small", "large"])
async def test_what_a_producer_uploaded_is_fetched(tmp_path, bucket, files, data):
    file_id = await bucket.upload_from_stream("input.pdf", data)
    assert await files.fetch(file_id, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == data


async def test_a_file_may_have_an_id_of_any_type(tmp_path, bucket, files):
    await bucket.upload_from_stream_with_id("own-id", "input.pdf", b"x")
    assert await files.fetch("own-id", tmp_path / "fetched")


@pytest.mark.parametrize(
    "file_id", [ObjectId("65f0a1b2c3d4e5f601234567"), "nothing", 5, None, {"$ne": None}, {"$gt": ""}], ids=repr
)
async def test_a_file_that_is_not_there_is_not_found(tmp_path, bucket, files, file_id):
    await bucket.upload_from_stream("secret.pdf", b"x")
    assert not await files.fetch(file_id, tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()


@pytest.mark.parametrize("data", [b"", LARGE], ids=["empty", "large"])
async def test_what_a_handler_saves_is_stored_with_the_job_and_its_claim(tmp_path, bucket, files, data):
    source = tmp_path / "saved"
    source.write_bytes(data)
    with source.open("rb") as opened:
        file_id = await files.store("page 1.png", opened, job(id={"n": 1}, token=7))
    stored = await bucket.open_download_stream(file_id)
    assert isinstance(file_id, ObjectId)
    assert await stored.read() == data
    marks = {"collection": JOBS, "job_ids": [{"n": 1}], "token": 7, "kind": "saved"}
    assert (stored.filename, dict(stored.metadata)) == ("page 1.png", marks)


# the result of the parent


def read(path):
    return json_util.loads(path.read_text("utf-8"), json_options=json_util.JSONOptions(tz_aware=True))


@pytest.mark.parametrize(
    "result",
    [{}, {"text": "ä€\U0001f600", "n": 1, "id": ObjectId(), "raw": b"\x00", "$x": {"a.b": [1, None]}}, None],
    ids=["empty", "everything", "none"],
)
async def test_an_inline_result_is_written_as_extended_json(tmp_path, jobs, files, result):
    await jobs.insert_one(pending(_id=1, status="completed", result=result))
    assert await files.parent_result(1, tmp_path / "parent")
    assert read(tmp_path / "parent") == result


async def test_a_result_in_a_file_is_fetched_from_there(tmp_path, jobs, bucket, files):
    file_id = await bucket.upload_from_stream("result.json", json_util.dumps({"text": "ä" * 10_000}).encode())
    await jobs.insert_one(pending(_id=1, status="completed", result_file=file_id))
    assert await files.parent_result(1, tmp_path / "parent")
    assert read(tmp_path / "parent") == {"text": "ä" * 10_000}


async def test_a_result_whose_file_is_gone_is_not_found(tmp_path, jobs, files):
    await jobs.insert_one(pending(_id=1, status="completed", result_file=ObjectId()))
    assert not await files.parent_result(1, tmp_path / "parent")


@pytest.mark.parametrize("status", ["pending", "processing", "failed", "cancelled"])
async def test_a_job_that_is_not_completed_has_no_result(tmp_path, jobs, files, status):
    await jobs.insert_one(pending(_id=1, status=status, result={"old": 1}))
    assert not await files.parent_result(1, tmp_path / "parent")
    assert not (tmp_path / "parent").exists()


@pytest.mark.parametrize("job_id", [2, None, {"$ne": None}, {"$gt": 0}, {"$regex": "."}], ids=repr)
async def test_an_id_is_never_taken_for_a_query(tmp_path, jobs, files, job_id):
    await jobs.insert_one(pending(_id=1, status="completed", result={"secret": 1}))
    assert not await files.parent_result(job_id, tmp_path / "parent")


async def test_a_parent_may_have_a_document_for_an_id(tmp_path, jobs, files):
    await jobs.insert_one(pending(_id={"a": 1}, status="completed", result={"n": 1}))
    assert await files.parent_result({"a": 1}, tmp_path / "parent")


async def test_a_result_that_is_not_utf_8_is_written_all_the_same(tmp_path, jobs, files):
    document = pending(_id=1, status="completed", result={"text": "XXXX"})
    raw = bson.raw_bson.RawBSONDocument(bson.encode(document).replace(b"XXXX", b"\xff\xfea\xff"))
    await insert_unchecked(jobs, raw)
    assert await files.parent_result(1, tmp_path / "parent")
    assert "a" in read(tmp_path / "parent")["text"]
