"""The heartbeat documents of running supervisors."""

from datetime import timedelta

import pytest
from pymongo import timeout
from pymongo.errors import OperationFailure

from supervisor.store.presence import COLLECTION, PresenceStore
from supervisor.store.results import ResultStore
from tests.support.jobs import JOBS, server_now


@pytest.fixture
def presence(database):
    return PresenceStore(database, "s1")


@pytest.fixture
def documents(database):
    return database[COLLECTION]


async def test_a_first_beat_makes_the_document_in_the_database_s_time(database, documents, presence):
    before = await server_now(database)
    await presence.beat({"host": "h", "pid": 1, "slots": [{"slot": 0}], "phase": "running"})
    document = await documents.find_one({})
    assert before <= document.pop("started_at") == document.pop("heartbeat_at") <= await server_now(database)
    assert document == {"_id": "s1", "host": "h", "pid": 1, "slots": [{"slot": 0}], "phase": "running"}


async def test_later_beats_replace_the_report_and_keep_the_start(documents, presence):
    await presence.beat({"host": "h", "counters": {"completed": 1, "old": 1}, "slots": [1, 2]})
    first = await documents.find_one({})
    await presence.beat({"host": "h", "counters": {"completed": 2}, "slots": []})
    second = await documents.find_one({})
    assert second["started_at"] == first["started_at"]
    assert second["heartbeat_at"] >= first["heartbeat_at"]
    assert (second["counters"], second["slots"]) == ({"completed": 2}, [])
    assert await documents.count_documents({}) == 1


async def test_a_report_is_no_expression(documents, presence):
    await presence.beat({"host": "$pid", "version": "$$NOW", "slots": [{"job_id": "$$ROOT", "handler": {"$add": [1]}}]})
    document = await documents.find_one({})
    assert (document["host"], document["version"]) == ("$pid", "$$NOW")
    assert document["slots"] == [{"job_id": "$$ROOT", "handler": {"$add": [1]}}]


async def test_leaving_removes_one_s_own_document_only(database, documents, presence):
    await presence.beat({"host": "h"})
    await PresenceStore(database, "s2").beat({"host": "h"})
    await presence.leave()
    assert [document["_id"] async for document in documents.find()] == ["s2"]
    await presence.leave()


async def test_the_others_of_a_host_are_found(database, presence):
    await presence.beat({"host": "h"})
    for name, host in (("s2", "h"), ("s3", "elsewhere"), ("s4", "h")):
        await PresenceStore(database, name).beat({"host": host})
    assert sorted(document["_id"] for document in await presence.on_host("h")) == ["s2", "s4"]
    assert await presence.on_host("nowhere") == []


async def test_a_dead_supervisor_is_forgotten(database, documents, presence):
    await PresenceStore(database, "s2").beat({"host": "h"})
    await presence.forget("s2")
    await presence.forget("nobody")
    assert await documents.count_documents({}) == 0


async def test_who_has_been_silent_for_long_is_forgotten(database, documents, presence):
    now = await server_now(database)
    await documents.insert_many(
        [
            {"_id": "silent", "heartbeat_at": now - timedelta(hours=2)},
            {"_id": "late", "heartbeat_at": now - timedelta(minutes=30)},
            {"_id": "ahead", "heartbeat_at": now + timedelta(hours=2)},
            {"_id": "strange", "heartbeat_at": "yesterday"},
            {"_id": "without"},
        ]
    )
    assert await presence.forget_silent(3600) == 1
    assert {document["_id"] async for document in documents.find()} == {"late", "ahead", "strange", "without"}


async def test_a_transaction_that_a_dead_supervisor_has_left_open_is_in_nobody_s_way(database, documents, presence):
    results = ResultStore(database, JOBS)
    await database[JOBS].insert_one({"_id": 1, "n": 0})
    session = results._session
    await session.start_transaction()
    await database[JOBS].update_one({"_id": 1}, {"$set": {"n": 1}}, session=session)
    await presence.beat({"session": results.session})
    await presence.end_session(await documents.find_one({}))
    with timeout(5):
        await database[JOBS].update_one({"_id": 1}, {"$inc": {"n": 10}})
    assert (await database[JOBS].find_one({}))["n"] == 10
    with pytest.raises(OperationFailure):
        await session.commit_transaction()


@pytest.mark.parametrize("session", [None, 5, "", {"id": 1}, "0" * 31])
async def test_a_session_that_cannot_be_one_is_passed_over(presence, session):
    await presence.end_session({"session": session})
