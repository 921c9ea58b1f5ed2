"""Pauses and questions in a real database, without a pool."""

import asyncio
from datetime import timedelta

import pytest
from bson import ObjectId
from structlog.testing import capture_logs

from supervisor.cli.running import NoAnswerError, ask_about
from supervisor.client.queue import Queue
from supervisor.config.settings import Settings
from supervisor.controls import Controls
from supervisor.errors import JobStateError
from supervisor.live import Live
from supervisor.store.connection import connect
from supervisor.store.controls import BREAKER, COLLECTION, LOGS, STACK, ControlStore, Pause
from supervisor.store.presence import PresenceStore
from supervisor.wakeup import Wakeup
from tests.support.jobs import server_now
from tests.support.until import until_async

QUESTION = {"kind": "question", "ask": STACK, "job_id": 1, "token": 1, "offset": 0}


@pytest.fixture
def store(database):
    return ControlStore(database, "s1")


@pytest.fixture
def documents(database):
    return database[COLLECTION]


@pytest.fixture
def queue(mongo_uri, database_name):
    with Queue.connect(mongo_uri, database_name) as connection:
        yield connection


async def test_what_is_no_pause_is_passed_over(store, documents):
    await documents.insert_many([{"kind": "pause"}, {"kind": "pause", "handler": ["a"]}, {"handler": "b"}, {"x": 1}])
    await documents.insert_one({"kind": "pause", "handler": "c", "reason": {"$no": "text"}, "at": "yesterday"})
    pauses, questions = await store.read()
    assert questions == []
    assert pauses == {"c": Pause("c", "{'$no': 'text'}", "operator")}


async def test_the_breaker_leaves_an_operator_s_pause_as_it_is(database, store, queue):
    before = await server_now(database)
    assert queue.controls.pause("a", "$reason") is None
    await store.pause(Pause("a", "too many crashes", BREAKER))
    pauses, _ = await store.read()
    pause = pauses["a"]
    assert (pause.reason, pause.by) == ("$reason", "operator")
    assert before <= pause.at <= await server_now(database)
    assert queue.controls.pause("a", "again") == pause
    assert queue.controls.resume("a")
    assert not queue.controls.resume("a")


async def test_questions_are_answered_by_their_supervisor_and_forgotten_when_they_are_old(database, store, documents):
    now = await server_now(database)
    ids = [ObjectId() for _ in range(3)]
    await documents.insert_many([
        {"_id": ids[0], "supervisor": "s1", "asked_at": now, **QUESTION},
        {"_id": ids[1], "supervisor": "s2", "asked_at": now - timedelta(minutes=2), **QUESTION},
        {"_id": ids[2], "supervisor": "s1", "asked_at": now, **QUESTION},
        {"_id": "pause:x", "kind": "pause", "handler": "x", "asked_at": now - timedelta(days=2)},
    ])  # fmt: skip
    await store.answer(ids[2], {"stack": "$$ROOT"})
    _, questions = await store.read()
    assert [question["_id"] for question in questions] == [ids[0]]
    assert (await documents.find_one({"_id": ids[2]}))["answer"] == {"stack": "$$ROOT"}
    assert await store.forget_questions(60) == 1
    assert {document["_id"] async for document in documents.find({})} == {ids[0], ids[2], "pause:x"}


async def test_a_question_without_an_answer_in_time_leaves_nothing_behind(documents, queue):
    asked = {"ask": LOGS, "supervisor": "nobody", "job_id": {"a": "$b"}, "token": 1, "offset": 0}
    assert await asyncio.to_thread(queue.controls.ask, asked, 0.2) is None
    assert await documents.count_documents({}) == 0


async def test_nothing_is_claimed_before_the_pauses_are_known_and_they_stay_while_the_database_is_away(
    mongo_uri, database_name, database, documents
):
    await documents.insert_one({"_id": "pause:a", "kind": "pause", "handler": "a"})
    await documents.insert_one({"supervisor": "s1", "asked_at": await server_now(database), **QUESTION})
    live, resumed = Live(Settings(), {}), asyncio.Event()
    assert not live.may_claim("b")
    theirs = await connect(mongo_uri, database_name, wait_s=10)
    store = ControlStore(theirs, "s1")
    alarm = Wakeup(theirs, COLLECTION, lambda: 0.0, store.changes())
    controls = asyncio.create_task(Controls(live, None, store, alarm, resumed.set).run())
    await until_async(lambda: live.may_claim("b") and not live.may_claim("a"))
    assert resumed.is_set(), "now claims make sense"
    await until_async(lambda: documents.find_one({"answer": {"running": False}}), what="the answer for a stranger")
    with capture_logs() as entries:
        await theirs.client.close()
        await until_async(lambda: any(entry["event"] == "database.unavailable" for entry in entries))
    assert not live.may_claim("a")
    assert not controls.done()
    controls.cancel()
    await asyncio.wait({controls})


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"status": "pending"}, JobStateError, "job 7 is pending, not running"),
        ({"status": "completed"}, JobStateError, "job 7 is completed, not running"),
        ({"status": "failed", "error": {"kind": "crash"}}, JobStateError,
         "job 7 is failed, not running; how it ended: python -m supervisor autopsy 7"),
        ({"status": "processing", "lease": {"supervisor": "gone", "token": 1}}, NoAnswerError,
         "supervisor gone, which holds job 7, is gone; others take the job over when its lease ends"),
        ({"status": "processing", "lease": {"supervisor": "quiet", "token": 1}}, NoAnswerError,
         "supervisor quiet, which holds job 7, has been silent for 3m; others take the job over when its lease ends"),
    ],
)  # fmt: skip
async def test_who_cannot_be_asked_is_told_in_one_line(database, queue, fields, error, message):
    await PresenceStore(database, "quiet").beat({})
    await database["supervisors"].update_one({}, [{"$set": {"heartbeat_at": {"$subtract": ["$$NOW", 185_000]}}}])
    with pytest.raises(error) as raised:
        ask_about(queue, {"_id": 7, **fields}, STACK)
    assert str(raised.value) == message
