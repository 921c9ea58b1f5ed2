"""Wake-ups against a real change stream that breaks: what comes meanwhile is heard afterwards."""

import asyncio
from contextlib import asynccontextmanager

import bson
import pytest
from pymongo.errors import AutoReconnect
from structlog.testing import capture_logs

from supervisor.codec import TOLERANT
from supervisor.store.candidates import Outlook
from supervisor.store.fresh import SMALL_BYTES
from supervisor.wakeup import Pace, Wakeup
from tests.support.failpoints import failing
from tests.support.jobs import JOBS, ago, pending, server_now
from tests.support.until import until_async

STREAM = ["getMore", "aggregate"]
BREAK = {"closeConnection": True}
TOKEN_LOST = 286


@asynccontextmanager
async def listening(alarm):
    """Run an alarm; it listens when the block begins."""
    task = asyncio.create_task(alarm.run())
    try:
        await until_async(alarm.listen, what="the stream to be open")
        yield
    finally:
        while not task.done():  # before Python 3.12, `asyncio.wait_for` may swallow an order to stop
            task.cancel()
            await asyncio.wait({task}, timeout=1)


async def hears(alarm, jobs):
    """Insert a job, and wait for the ring."""
    heard = alarm.listen()
    await jobs.insert_one(pending())
    await until_async(lambda: alarm.listen() > heard, what="the ring for a new job")


async def token(database):
    """Return what the open stream was told to start after; None if it began anew."""
    ours = {"cursor.originatingCommand.aggregate": JOBS, "cursor.originatingCommand.$db": database.name}
    operations = [{"$currentOp": {"idleCursors": True}}, {"$match": ours}, {"$sort": {"cursor.createdDate": -1}}]
    newest = (await (await database.client.admin.aggregate(operations)).to_list())[0]
    stream = newest["cursor"]["originatingCommand"]["pipeline"][0]["$changeStream"]
    return stream.get("startAfter") or stream.get("resumeAfter")


async def test_it_tells_the_document_of_its_only_ring(database, jobs):
    alarm = Wakeup(database, JOBS, lambda: 0.0)
    async with listening(alarm):
        heard = alarm.listen()
        await hears(alarm, jobs)
        (document,) = await jobs.find().to_list()
        assert bson.decode(alarm.the_one_since(heard).raw, TOLERANT) == document
        assert alarm.the_one_since(heard - 1) is None, "that was one of two"
        alarm.ring()
        assert alarm.the_one_since(heard + 1) is None, "that was no insertion"
        heard = alarm.listen()
        assert alarm.the_one_since(heard) is None
        await jobs.insert_one(pending(payload={"text": "x" * SMALL_BYTES}))
        await until_async(lambda: alarm.listen() > heard, what="the ring for a large job")
        assert alarm.the_one_since(heard) is None, "large ones are looked up"


async def test_a_stream_whose_connection_broke_goes_on_where_it_was(mongod, database, jobs):
    alarm = Wakeup(database, JOBS, lambda: 0.0)
    async with listening(alarm):
        await hears(alarm, jobs)
        with failing(mongod, STREAM, namespace=f"{database.name}.{JOBS}", **BREAK) as broken:
            await asyncio.to_thread(broken.wait, count=2)
            heard = alarm.listen()
            await jobs.insert_one(pending())
        await until_async(lambda: alarm.listen() > heard, what="the ring for what came meanwhile")
        assert await token(database), "of what it had seen"


@pytest.mark.slow
async def test_a_stream_that_was_broken_for_longer_than_a_call_may_take_goes_on_where_it_was(mongod, database, jobs):
    alarm = Wakeup(database, JOBS, lambda: 0.0)
    async with listening(alarm):
        await hears(alarm, jobs)
        with failing(mongod, STREAM, namespace=f"{database.name}.{JOBS}", **BREAK), capture_logs() as entries:
            await until_async(lambda: entries, 30, what="the driver to give up")
            heard = alarm.listen()
            await jobs.insert_one(pending())
        # once when it is open again, as always, and once for the job that it resumes with
        await until_async(lambda: alarm.listen() >= heard + 2, what="the ring for what came meanwhile")
        assert await token(database)


async def test_a_stream_that_the_database_can_not_resume_begins_anew(mongod, database, jobs):
    alarm = Wakeup(database, JOBS, lambda: 0.0)
    async with listening(alarm):
        await hears(alarm, jobs)
        heard = alarm.listen()
        with failing(mongod, STREAM, namespace=f"{database.name}.{JOBS}", errorCode=TOKEN_LOST) as refused:
            await asyncio.to_thread(refused.wait, count=2)
            await jobs.insert_one(pending())
        await until_async(lambda: alarm.listen() > heard, what="the ring for what no stream tells")
        await hears(alarm, jobs)
        assert await token(database) is None


async def test_a_collection_that_is_dropped_is_watched_when_it_is_back(database, jobs):
    alarm = Wakeup(database, JOBS, lambda: 0.0)
    async with listening(alarm):
        heard = alarm.listen()
        await jobs.drop()
        await until_async(lambda: alarm.listen() > heard, what="the stream to be open again")
        await hears(alarm, jobs)


@pytest.mark.parametrize(
    ("job", "outlook"),
    [
        (pending(), Outlook.DUE),
        (pending(priority=-3, run_at=ago(60)), Outlook.DUE),
        (pending(run_at=None, priority=None, cancel_requested=True), Outlook.DUE),
        (pending(run_at=ago(-3600), priority=9), Outlook.LATER),
        (pending(handler="other"), Outlook.NOTHING),
        (pending(status="processing"), Outlook.NOTHING),
    ],
    ids=["now", "since a minute", "cancelled", "in an hour", "of another handler", "taken"],
)
async def test_a_poll_looks_closer_when_a_job_is_due(candidates, jobs, job, outlook):
    await jobs.insert_one(job)
    assert await candidates.outlook(["count", "nothing"]) is outlook
    assert await candidates.outlook([]) is Outlook.NOTHING


async def test_a_due_job_behind_one_of_the_future_is_seen_however_many_those_are(candidates, database, jobs):
    later = (await server_now(database)).replace(year=9000)
    await jobs.insert_many([pending(priority=n % 3, run_at=later) for n in range(3000)])
    await database.command("profile", 2)
    assert await candidates.outlook(["count"]) is Outlook.LATER
    await jobs.insert_one(pending(priority=-1))
    assert await candidates.outlook(["count"]) is Outlook.DUE
    await database.command("profile", 0)
    looks = await database["system.profile"].find({"command.find": JOBS}).to_list()
    assert len(looks) == 4
    assert max(look["keysExamined"] for look in looks) < 20
    assert max(look["docsExamined"] for look in looks) <= 1


async def test_all_who_wait_share_a_poll(database):
    outlooks = [Outlook.NOTHING, Outlook.LATER, Outlook.LATER, Outlook.DUE]

    async def look():
        return outlooks.pop(0)

    alarm = Wakeup(database, JOBS, lambda: 0.0, pace=Pace(0.2, 0.2), look=look)
    answers = [await asyncio.gather(*(alarm.wait(alarm.listen()) for _ in range(3))) for _ in range(4)]
    assert outlooks == []
    assert [sorted(each) for each in answers[:3]] == [[False] * 3] * 3
    assert any(answers[3]), "and there may be something for every one of them"
    assert alarm.listen() == 1


async def test_where_a_poll_is_not_answered_a_closer_look_will_say_so(database):
    async def look():
        raise AutoReconnect

    alarm = Wakeup(database, JOBS, lambda: 0.0, pace=Pace(0.02), look=look)
    assert await alarm.wait(alarm.listen())


@pytest.mark.parametrize(
    ("outlook", "polls"), [(Outlook.NOTHING, 1), (Outlook.LATER, 5)], ids=["nothing waits", "some are to fall due"]
)
async def test_polls_are_seldom_only_while_the_stream_is_open_and_nothing_can_fall_due(
    mongod, database, jobs, outlook, polls
):
    asked = asyncio.Semaphore(0)

    async def look():
        asked.release()
        return outlook

    async def times(number):
        for _ in range(number):
            await asked.acquire()

    async def watch():
        while True:
            await alarm.wait(alarm.listen())

    alarm = Wakeup(database, JOBS, lambda: 0.0, pace=Pace(0.02, 3600), look=look)
    async with listening(alarm):
        watching = asyncio.create_task(watch())
        async with asyncio.timeout(20):
            await times(polls)
            alarm.ring()  # perhaps for a job of the future: then more polls are needed
            await times(polls)
            with failing(mongod, STREAM, namespace=f"{database.name}.{JOBS}", errorCode=TOKEN_LOST):
                await jobs.insert_one(pending())  # for an answer of the stream that is a refusal
                await times(5)
        watching.cancel()
