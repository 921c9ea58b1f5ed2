"""Pauses and questions in a real database, without a pool."""

import asyncio
from datetime import timedelta

import pytest
from bson import ObjectId
from structlog.testing import capture_logs

from supervisor.cli.running import NoAnswerError, ask_about
from supervisor.client.operator import OperatorQueue
from supervisor.config.settings import Settings
from supervisor.controls import Controls, Heeders
from supervisor.core.fleet import Drain, Resize
from supervisor.draining import Draining
from supervisor.errors import JobStateError
from supervisor.live import Live
from supervisor.pool.forkserver import ForkServer
from supervisor.pool.limits import PoolLimits
from supervisor.pool.pool import WorkerPool
from supervisor.sizing import Sizing
from supervisor.store.connection import connect
from supervisor.store.controls import BREAKER, COLLECTION, LOGS, STACK, ControlStore, Pause
from supervisor.store.presence import PresenceStore
from supervisor.store.taking import Owner
from supervisor.wakeup import Wakeup
from tests.support.jobs import half, server_now
from tests.support.until import until_async

QUESTION = {"kind": "question", "ask": STACK, "job_id": 1, "token": 1, "offset": 0}


@pytest.fixture
def store(database):
    return ControlStore(database, Owner("s1", "h1"))


@pytest.fixture
def documents(database):
    return database[COLLECTION]


@pytest.fixture
def queue(mongo_uri, database_name):
    with OperatorQueue.connect(mongo_uri, database_name) as connection:
        yield connection


async def test_what_cannot_be_read_is_passed_over_and_named(store, documents):
    await documents.insert_many([
        {"_id": 1, "kind": "pause"},
        {"_id": "drain:*", "kind": "drain", "host": ["*"]},
        {"_id": {"a": 1}, "kind": "resize", "host": "h1", "workers": -1},
        {"_id": "resize:h1", "host": "h1", "workers": 3},
        {"_id": "p", "kind": "pause", "handler": "c", "reason": {"$no": "text"}, "at": "yesterday"},
        {"_id": "d", "kind": "drain", "host": "h1", "reason": 7},
        {"_id": "r", "kind": "resize", "host": "h1", "workers": 2.0},
        {"_id": "elsewhere", "kind": "drain", "host": "h2"},
    ])  # fmt: skip
    found = await store.read()
    assert found.questions == []
    assert found.pauses == {"c": Pause("c", "{'$no': 'text'}", "operator")}
    assert (found.resize, found.drain) == (Resize("h1", 2), Drain("h1", "7"))
    assert found.malformed == {
        "1": "handler: is 'None', must be the name of a handler or \"*\"",
        "drain:*": 'host: is "[\'*\']", must be the name of a host or "*"',
        "{'a': 1}": "workers: is '-1', must be an integer from 0 to 1024, \"auto\" or null",
        "resize:h1": "kind: is 'None', must be pause, resize, drain or question",
    }


async def test_the_last_resize_is_dated_behind_the_others_even_by_a_slow_clock(database, store, documents, queue):
    tomorrow = await server_now(database) + timedelta(days=1)
    await documents.insert_one({"_id": "resize:h1", "kind": "resize", "host": "h1", "workers": 2, "at": tomorrow})
    queue.controls.resize(5)
    held = (await store.read()).resize
    assert (held.host, held.workers) == ("*", 5)
    await store.overrule(held)
    noted = (await store.read()).resize
    assert (noted.host, noted.workers, noted.by) == ("h1", None, "config")
    queue.controls.resize("auto", "h1")
    await store.overrule(held)
    assert (await store.read()).resize.workers == "auto", "somebody has spoken since"


async def test_a_drain_keeps_its_reason_and_is_ended_by_host_or_as_a_whole(store, queue, documents):
    assert queue.controls.drain("h1", "new kernel") is None
    await documents.insert_one({"_id": "drain:*", "kind": "drain", "host": 7})
    assert queue.controls.drain(reason="power") is None, "what nobody could read is replaced"
    assert queue.controls.drain("h1", "again").reason == "new kernel"
    assert queue.controls.undrain("h2") == []
    assert (await store.read()).drain.reason == "new kernel"
    assert queue.controls.undrain("h1") == ["h1"]
    assert (await store.read()).drain.reason == "power"
    queue.controls.drain("h3")
    assert queue.controls.undrain() == ["*", "h3"]
    assert (await store.read()).drain is None


async def test_a_drain_for_a_time_ends_by_itself_and_leaves_nothing(store, queue, documents):
    queue.controls.drain("h1", "the pod ends", for_s=1)
    (drain,) = queue.controls.drains()
    assert (drain.until - drain.at).total_seconds() == 1
    assert (await store.read()).drain == drain
    await until_async(lambda: queue.controls.drains() == [], what="the end of the drain")
    assert (await store.read()).drain is None
    queue.controls.drain("h1", for_s=3600)
    assert await store.forget(60) == 0, "a later one takes its place"
    await documents.update_one({"_id": "drain:h1"}, [{"$set": {"until": "$$NOW"}}])
    assert await store.forget(60) == 1
    assert queue.controls.drain("h1") is None
    assert queue.controls.drains()[0].until is None
    await documents.update_one({"_id": "drain:h1"}, {"$set": {"until": "tomorrow"}})
    assert (await store.read()).malformed == {"drain:h1": "until: is 'tomorrow', must be a date"}


async def test_the_breaker_leaves_an_operator_s_pause_as_it_is(database, store, queue):
    before = await server_now(database)
    assert queue.controls.pause("a", "$reason") is None
    await store.pause(Pause("a", "too many crashes", BREAKER))
    pause = (await store.read()).pauses["a"]
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
    assert [question["_id"] for question in (await store.read()).questions] == [ids[0]]
    assert (await documents.find_one({"_id": ids[2]}))["answer"] == {"stack": "$$ROOT"}
    assert await store.forget(60) == 1
    assert {document["_id"] async for document in documents.find({})} == {ids[0], ids[2], "pause:x"}


async def test_a_question_without_an_answer_in_time_leaves_nothing_behind(documents, queue):
    asked = {"ask": LOGS, "supervisor": "nobody", "job_id": {"a": "$b"}, "token": 1, "offset": 0}
    assert await asyncio.to_thread(queue.controls.ask, asked, 0.2) is None
    assert await documents.count_documents({}) == 0


async def test_nothing_is_claimed_before_the_controls_are_known_and_they_stay_while_the_database_is_away(
    mongo_uri, database_name, database, documents, tmp_path
):
    await documents.insert_one({"_id": "pause:a", "kind": "pause", "handler": "a"})
    await documents.insert_one({"supervisor": "s1", "asked_at": await server_now(database), **QUESTION})
    await documents.insert_one({"_id": "drain:h1", "kind": "drain"})
    live, resumed = Live(Settings(), {}), asyncio.Event()
    assert not live.may_claim("b")
    theirs = await connect(mongo_uri, database_name, wait_s=10)
    store = ControlStore(theirs, Owner("s1", "h1"))
    alarm = Wakeup(theirs, COLLECTION, lambda: 0.0, store.changes())
    pool = WorkerPool(ForkServer(tmp_path), PoolLimits(), half)
    heeders = Heeders(Sizing(live, pool, lambda: None), Draining(live, lambda: None), resumed.set)
    with capture_logs() as entries:
        controls = asyncio.create_task(Controls(live, store, alarm, heeders).run())
        await until_async(lambda: live.may_claim("b") and not live.may_claim("a"))
        assert resumed.is_set(), "now claims make sense"
        await until_async(lambda: documents.find_one({"answer": {"running": False}}), what="the answer for a stranger")
        await documents.insert_one({"_id": "drain:*", "kind": "drain", "host": "*"})
        await until_async(lambda: not live.may_claim("b"), what="the drain")
        await documents.delete_one({"_id": "drain:*"})
        await until_async(lambda: live.may_claim("b"), what="its end")
        malformed = [entry["id"] for entry in entries if entry["event"] == "control.malformed"]
        assert malformed == ["drain:h1"], "told once, however often it was read"
        await theirs.client.close()
        await until_async(lambda: any(entry["event"] == "database.unavailable" for entry in entries))
    assert not live.may_claim("a")
    assert not controls.done()
    controls.cancel()
    await asyncio.wait({controls})


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"status": "pending"}, JobStateError, "job 7 is pending, not running; why: python -m supervisor why 7"),
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
