"""Connecting: which databases are refused and why, and that no password gets into a message."""

import asyncio
import time

import pytest
from pymongo.errors import OperationFailure

from supervisor.config.checks import redact_uri
from supervisor.errors import DatabaseRefusedError, DatabaseUnreachableError
from supervisor.store.connection import (
    CALL_TIMEOUT_S,
    client_options,
    connect,
    connect_sync,
    explain_connection_error,
    refuse_unsafe_uri,
    telling_answers,
)
from tests.support.mongo import start_standalone

PASSWORD = "hunter2"  # a test's
STANDALONE = (
    "this mongod is a standalone; transactions and change streams need a replica set, and one member is "
    "enough: start it with --replSet rs0 and run rs.initiate()"
)


@pytest.fixture(scope="module")
def standalone(tmp_path_factory, mongod):
    running = start_standalone(tmp_path_factory.mktemp("standalone"))
    try:
        yield running
    finally:
        running.stop()


# what works


async def test_a_replica_set_of_one_is_enough(mongo_uri, database_name):
    database = await connect(mongo_uri, database_name, wait_s=10)
    async with database.client:
        await database["jobs"].insert_one({"_id": 1})
        assert await database["jobs"].count_documents({}) == 1


async def test_each_answer_to_what_is_asked_in_a_block_is_told_and_nobody_else_s(mongo_uri, database_name):
    database = await connect(mongo_uri, database_name, wait_s=10)
    answers = []

    async def another():
        await asked.wait()
        await database["jobs"].insert_one({"_id": 2})

    async with database.client:
        asked = asyncio.Event()
        other = asyncio.create_task(another())
        with telling_answers(lambda: answers.append(1)):
            await database["jobs"].insert_one({"_id": 1})
            await (await database["jobs"].aggregate([{"$match": {}}])).to_list()
            with pytest.raises(OperationFailure):
                await database.command("no such command")
            asked.set()
            await other
        await database["jobs"].find_one({})
    assert len(answers) == 2


async def test_writes_wait_for_a_majority_and_its_journal_whatever_the_uri_says(mongo_uri, database_name):
    database = await connect(f"{mongo_uri}&journal=false&retryWrites=true&timeoutMS=1", database_name, wait_s=10)
    async with database.client as client:
        assert database.write_concern.document == {"w": "majority", "j": True}
        assert database["jobs"].write_concern.document == {"w": "majority", "j": True}
        assert client.options.retry_writes is True
        assert client.options.timeout == CALL_TIMEOUT_S


async def test_what_cannot_be_decoded_does_not_stop_a_read(mongo_uri, database_name):
    database = await connect(mongo_uri, database_name, wait_s=10)
    async with database.client:
        options = database.codec_options
        assert (options.tz_aware, options.unicode_decode_error_handler) == (True, "replace")
        assert options == database["jobs"].codec_options


def test_a_producer_s_client_is_made_alike(mongo_uri):
    with connect_sync(mongo_uri, wait_s=10) as client:
        assert client.write_concern.document == {"w": "majority", "j": True}
        assert client.options.retry_writes is True
        assert client.codec_options.unicode_decode_error_handler == "replace"
        assert client.options.timeout == CALL_TIMEOUT_S


@pytest.mark.parametrize("wait_s", [0.5, 30])
def test_no_search_for_a_server_takes_longer_than_was_allowed(wait_s):
    assert client_options(wait_s)["serverSelectionTimeoutMS"] == min(wait_s, CALL_TIMEOUT_S) * 1000


# what is refused


async def test_a_standalone_is_refused_with_the_way_out(standalone):
    with pytest.raises(DatabaseRefusedError) as refusal:
        await connect(standalone.uri, "supervisor", wait_s=10)
    assert str(refusal.value) == STANDALONE


def test_a_standalone_is_refused_to_a_producer_too(standalone):
    with pytest.raises(DatabaseRefusedError) as refusal:
        connect_sync(standalone.uri, wait_s=10)
    assert str(refusal.value) == STANDALONE


UNSAFE = [
    ("w=1", "w=1 is not safe"),
    ("w=0", "w=0 is not safe"),
    ("w=2", "w=2 is not safe"),
    ("w=custom", "w=custom is not safe"),
    ("W=1", "w=1 is not safe"),
    ("retryWrites=false", "retryWrites=false is not safe"),
    ("retrywrites=false", "retryWrites=false is not safe"),
    ("w=majority&retryWrites=false", "retryWrites=false is not safe"),
]


@pytest.mark.parametrize(("option", "reason"), UNSAFE)
async def test_an_option_that_gives_the_promises_up_is_refused(mongo_uri, option, reason):
    uri = f"{mongo_uri}&{option}"
    with pytest.raises(DatabaseRefusedError) as refusal:
        await connect(uri, "supervisor", wait_s=10)
    assert str(refusal.value).startswith(f"mongo.uri: {reason}")
    with pytest.raises(DatabaseRefusedError):
        connect_sync(uri, wait_s=10)


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://localhost",
        "mongodb://localhost/?w=majority",
        "mongodb://localhost/?retryWrites=true&w=majority&journal=true",
        "mongodb://a,b,c/?replicaSet=rs0&authSource=admin",
    ],
)
def test_a_safe_uri_passes(uri):
    refuse_unsafe_uri(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "localhost",
        "http://localhost",
        "mongodb://",
        "mongodb://localhost:notaport",
        "mongodb://localhost:99999",
        f"mongodb://me:{PASSWORD}@",
        f"mongodb://me:{PASSWORD}@localhost/?nosuch=option&w",
        f"mongodb://me:{PASSWORD}@@localhost",
        f"mongodb://me:{PASSWORD}/x@localhost",
        "mongodb://localhost/?w=majority&ssl=perhaps",
        "mongodb://localhost/?readPreference=whatever",
    ],
)
async def test_a_uri_that_cannot_be_read_is_refused_in_one_line_without_its_password(uri):
    with pytest.raises(DatabaseRefusedError) as refusal:
        await connect(uri, "supervisor", wait_s=1)
    assert str(refusal.value).startswith("mongo.uri: ")
    assert len(str(refusal.value).splitlines()) == 1
    assert PASSWORD not in str(refusal.value)


# what does not answer


@pytest.mark.parametrize("how", [connect, connect_sync], ids=["async", "sync"])
async def test_a_server_that_is_not_there_is_given_up_in_time_and_in_one_line(unused_tcp_port, how):
    uri = f"mongodb://me:{PASSWORD}@127.0.0.1:{unused_tcp_port}/"
    started = time.monotonic()
    with pytest.raises(DatabaseUnreachableError) as unreachable:
        await wait_for(how, uri)
    assert 0.4 < time.monotonic() - started < 3
    message = str(unreachable.value)
    assert message.startswith(f"MongoDB at mongodb://me:***@127.0.0.1:{unused_tcp_port}/ did not answer within 0.5 s: ")
    assert PASSWORD not in message
    assert len(message.splitlines()) == 1
    assert "Topology" not in message


async def wait_for(how, uri):
    if how is connect_sync:
        return connect_sync(uri, wait_s=0.5)
    return await connect(uri, "supervisor", wait_s=0.5)


async def test_an_unknown_replica_set_is_given_up_in_time(mongo_uri):
    uri = mongo_uri.replace("directConnection=true", "replicaSet=nobody")
    with pytest.raises(DatabaseUnreachableError):
        await connect(uri, "supervisor", wait_s=0.5)


# passwords


@pytest.fixture
def user(mongod):
    """A user of the server, which asks for no password but refuses a wrong one."""
    with mongod.client(timeout_ms=10_000) as client:
        client.admin.command("createUser", "me", pwd=PASSWORD, roles=["root"])
        yield "me"
        client.admin.command("dropUser", "me")


async def test_a_wrong_password_is_told_and_not_shown(mongod, user):
    uri = f"mongodb://{user}:wrong-{PASSWORD}@{mongod.address}/?directConnection=true"
    with pytest.raises(DatabaseRefusedError) as refusal:
        await connect(uri, "supervisor", wait_s=5)
    message = str(refusal.value)
    assert message.startswith(f"mongodb://me:***@{mongod.address}/?directConnection=true refuses the credentials: ")
    assert "Authentication failed" in message
    assert PASSWORD not in message
    assert len(message.splitlines()) == 1
    with pytest.raises(DatabaseRefusedError):
        connect_sync(uri, wait_s=5)


async def test_the_right_password_is_taken(mongod, user, database_name):
    uri = f"mongodb://{user}:{PASSWORD}@{mongod.address}/?directConnection=true"
    database = await connect(uri, database_name, wait_s=5)
    await database.client.close()


def test_another_error_of_the_server_is_a_refusal_that_says_so():
    error = OperationFailure("command hello is not\nallowed", 8000)
    refusal = explain_connection_error(error, f"mongodb://me:{PASSWORD}@h", 5)
    assert isinstance(refusal, DatabaseRefusedError)
    assert str(refusal) == "mongodb://me:***@h answers with an error: command hello is not"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("mongodb://localhost", "mongodb://localhost"),
        ("mongodb://localhost:27017/?a=b", "mongodb://localhost:27017/?a=b"),
        ("mongodb://me:pw@h:1/?x=1", "mongodb://me:***@h:1/?x=1"),
        ("mongodb+srv://me:p%40w@h", "mongodb+srv://me:***@h"),
        ("mongodb://me:p@w@h", "mongodb://me:***@h"),
        ("mongodb://me:p:w@h1,h2", "mongodb://me:***@h1,h2"),
        ("embedded", "embedded"),
    ],
)
def test_a_uri_is_shown_without_its_password(uri, shown):
    assert redact_uri(uri) == shown
