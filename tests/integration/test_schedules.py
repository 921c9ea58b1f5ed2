"""Schedules in a real database: one job for each run time, whoever makes it and whatever becomes of them."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from supervisor.config.settings import RetentionSettings, ScheduleSettings, Settings
from supervisor.live import Live
from supervisor.scheduler import LOOK_EVERY_S, RETRY_S, Scheduler
from supervisor.store.controls import Pause
from supervisor.store.retention import RetentionStore
from supervisor.store.schedules import COLLECTION, ScheduleStore, last_runs, scheduled_job
from tests.support.failpoints import failing
from tests.support.jobs import JOBS, connected, half, server_now
from tests.support.until import until_async

NAME = "nightly"
ID = f"{JOBS}:{NAME}"
EVERY_MINUTE = "* * * * *"


def schedule(cron=EVERY_MINUTE, name=NAME, **keys):
    return ScheduleSettings(name=name, handler="count", cron=cron, **keys)


def daily(tick, **keys):
    """Return a schedule that comes due once a day, at the time of `tick`."""
    return schedule(f"{tick.minute} {tick.hour} * * *", **keys)


def scheduler(database, *schedules):
    return Scheduler(Live(Settings(schedules=schedules), {}), ScheduleStore(database, JOBS), half)


@pytest.fixture
def documents(database, jobs):
    return database[COLLECTION]


@pytest.fixture
async def ticked(database):
    """A whole minute an hour ago, by the database's clock."""
    return (await server_now(database)).replace(second=0, microsecond=0) - timedelta(hours=1)


@pytest.fixture
async def watched(database, documents):
    """Have a schedule known to the database for some minutes before `tick`, as if it had been there all the time."""

    async def watch(schedule, tick, minutes=5):
        await ScheduleStore(database, JOBS).watch(schedule)
        since = {"since": tick - timedelta(minutes=minutes)}
        await documents.update_one({"_id": f"{JOBS}:{schedule.name}"}, {"$set": since})

    return watch


async def made(jobs):
    """Return the ids of all jobs."""
    return sorted([job["_id"] async for job in jobs.find({}, {"_id": 1})])


def job_id(tick, name=NAME):
    return f"schedule:{name}:{tick:%Y-%m-%dT%H:%M}Z"


# one job for each run time


async def test_many_supervisors_make_one_job_for_each_run_time(mongo_uri, database_name, jobs, ticked, watched):
    schedules = [daily(ticked, name=f"schedule {n}", catch_up="latest") for n in range(10)]
    for each in schedules:
        await watched(each, ticked)
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(mongo_uri, database_name)) for _ in range(5)]
        rivals = [scheduler(client, *schedules) for client in clients]
        with capture_logs() as entries:
            await asyncio.gather(*(rival.round() for rival in rivals))
            await asyncio.gather(*(rival.round() for rival in rivals))
    assert await made(jobs) == sorted(job_id(ticked, each.name) for each in schedules)
    told = [entry["job_id"] for entry in entries if entry["event"] == "schedule.job_made"]
    assert sorted(told) == await made(jobs), "each is told by the one that made it"


async def test_the_job_is_what_the_schedule_says_and_counts_from_its_run_time(database, jobs, ticked, watched):
    what = {"$set": {"a.b": [1, {"c": "$$NOW"}]}}
    made_up = daily(ticked, payload=what, catch_up="latest")
    await watched(made_up, ticked)
    await scheduler(database, made_up).round()
    job = await jobs.find_one({"_id": job_id(ticked)})
    assert job.pop("created_at") > ticked
    assert job == {
        "_id": job_id(ticked), "handler": "count", "payload": what, "status": "pending", "run_at": ticked,
    }  # fmt: skip


async def test_the_job_of_a_paused_handler_is_made_and_left_to_wait(database, jobs, ticked, watched):
    made_up = daily(ticked, catch_up="latest")
    await watched(made_up, ticked)
    live = Live(Settings(schedules=(made_up,)), {})
    live.paused = {"count": Pause("count")}
    await Scheduler(live, ScheduleStore(database, JOBS), half).round()
    assert [job["status"] async for job in jobs.find()] == ["pending"]


async def test_a_run_time_that_has_not_come_by_the_database_s_clock_makes_nothing(database, jobs, documents, ticked):
    store, future = ScheduleStore(database, JOBS), ticked + timedelta(hours=2)
    await store.watch(schedule())
    seen = (await store.look([schedule()]))[NAME]
    assert await store.make(schedule(), seen, future) is None
    assert await made(jobs) == []
    assert "tick" not in await documents.find_one({"_id": ID})


async def test_a_supervisor_that_dies_half_way_has_done_nothing(mongo_uri, database, jobs, ticked, watched):
    """What it leaves behind is a transaction that nobody will commit; the server ends it after a minute."""
    dying, alive = daily(ticked, catch_up="latest"), scheduler(database, daily(ticked, catch_up="latest"))
    await watched(dying, ticked)
    async with connected(mongo_uri, database.name) as other, other.client.start_session() as session:
        await session.start_transaction()
        await other[COLLECTION].update_one({"_id": ID}, {"$set": {"tick": ticked}}, session=session)
        await other[JOBS].insert_one(scheduled_job(dying, ticked, ticked), session=session)
        with capture_logs() as entries:
            assert await alive.round() == RETRY_S
        assert [entry["event"] for entry in entries if "failed" in entry["event"]] == ["schedule.failed"]
        assert await made(jobs) == []
        await session.abort_transaction()
    await alive.round()
    assert await made(jobs) == [job_id(ticked)]
    assert (await database[COLLECTION].find_one({"_id": ID}))["tick"] == ticked


async def test_who_is_slow_does_not_make_a_job_again_that_has_run_and_been_deleted(
    database, jobs, documents, ticked, watched
):
    once = daily(ticked, catch_up="latest")
    await watched(once, ticked)
    slow, store = ScheduleStore(database, JOBS), ScheduleStore(database, JOBS)
    seen = (await slow.look([once]))[NAME]
    assert await store.make(once, (await store.look([once]))[NAME], ticked) == job_id(ticked)
    end = {"status": "completed", "finished_at": datetime.now(UTC) - timedelta(days=8)}
    await jobs.update_one({"_id": job_id(ticked)}, {"$set": end})
    assert (await RetentionStore(database, JOBS).apply(RetentionSettings()))["completed"] == 1
    assert await slow.make(once, seen, ticked) is None
    await scheduler(database, once).round()
    assert await made(jobs) == []


async def test_a_job_that_is_there_is_not_made_again_when_the_schedule_s_document_was_not_kept(
    database, jobs, documents, ticked, watched
):
    once = daily(ticked, catch_up="latest")
    await watched(once, ticked)
    await scheduler(database, once).round()
    await jobs.update_one({"_id": job_id(ticked)}, {"$set": {"status": "completed"}})
    await documents.update_one({"_id": ID}, {"$unset": {"tick": ""}})
    await scheduler(database, once).round()
    assert await made(jobs) == [job_id(ticked)]
    assert (await jobs.find_one({}))["status"] == "completed"
    assert (await documents.find_one({"_id": ID}))["tick"] == ticked


async def test_a_document_that_is_deleted_under_a_running_supervisor_is_made_again(database, jobs, documents, ticked):
    running = scheduler(database, daily(ticked, catch_up="latest"))
    await running.round()
    await documents.delete_many({})
    assert await running.round() == 0.0
    await running.round()
    assert await documents.count_documents({"_id": ID}) == 1
    assert await made(jobs) == [], "it begins anew"


# what was missed


async def test_minutes_without_any_supervisor_are_not_made_up(database, jobs, ticked, watched):
    """Two hours of them: the minute that it is now is not over, and those before it are told."""
    await watched(schedule(), ticked, minutes=60)
    running = scheduler(database, schedule())
    with capture_logs() as entries:
        await running.round()
    (only,) = await made(jobs)
    now = (await server_now(database)).replace(second=0, microsecond=0)
    assert only in {job_id(now), job_id(now - timedelta(minutes=1))}
    (missed,) = [entry for entry in entries if entry["event"] == "schedule.missed"]
    assert missed["missed"] in {119, 120}


async def test_skip_makes_nothing_and_says_so_once(database, jobs, ticked, watched):
    await watched(daily(ticked), ticked, minutes=2 * 24 * 60 + 5)
    running = scheduler(database, daily(ticked))
    with capture_logs() as entries:
        for _ in range(3):
            await running.round()
    assert await made(jobs) == []
    missed = [entry for entry in entries if entry["event"] == "schedule.missed"]
    assert [(entry["missed"], entry["catch_up"], entry["schedule"]) for entry in missed] == [(3, "skip", NAME)]


async def test_latest_makes_one_job_for_the_latest_and_says_how_many_it_leaves_out(database, jobs, ticked, watched):
    made_up = daily(ticked, catch_up="latest")
    await watched(made_up, ticked, minutes=2 * 24 * 60 + 5)
    running = scheduler(database, made_up)
    with capture_logs() as entries:
        for _ in range(3):
            await running.round()
    assert await made(jobs) == [job_id(ticked)]
    missed = [entry["missed"] for entry in entries if entry["event"] == "schedule.missed"]
    assert missed == [2]


async def test_nothing_is_missed_before_a_schedule_was_there(database, jobs, documents, ticked):
    running = scheduler(database, daily(ticked, catch_up="latest"))
    with capture_logs() as entries:
        await running.round()
    assert await made(jobs) == []
    assert [entry["event"] for entry in entries] == ["schedule.watched", "schedule.handler_unknown"]


async def test_a_restart_goes_on_where_the_last_one_ended(database, jobs, documents, ticked, watched):
    made_up = daily(ticked, catch_up="latest")
    await watched(made_up, ticked)
    await scheduler(database, made_up).round()
    yesterday = ticked - timedelta(days=1)
    await documents.update_one({"_id": ID}, {"$set": {"tick": yesterday}})
    await jobs.delete_many({})
    await scheduler(database, made_up).round()
    assert await made(jobs) == [job_id(ticked)]


# edits


@pytest.mark.parametrize("edit", ["cron", "timezone"])
async def test_a_new_line_counts_from_now_on(database, jobs, documents, ticked, watched, edit):
    """At 10:00 a schedule is moved from 03:00 to 09:00: that is no reason to run it at once."""
    before = daily(ticked, catch_up="latest")
    after = daily(ticked + timedelta(minutes=1), catch_up="latest")
    if edit == "timezone":
        after = ScheduleSettings(**{**before.model_dump(), "timezone": "Africa/Abidjan"})  # which is UTC
    await watched(before, ticked)
    await scheduler(database, after).round()
    assert await made(jobs) == []


async def test_an_edit_of_anything_else_applies_to_the_next_job_and_forgets_nothing(database, jobs, ticked, watched):
    before = daily(ticked)
    await watched(before, ticked)
    live = Live(Settings(schedules=(before,)), {})
    running = Scheduler(live, ScheduleStore(database, JOBS), half)
    await running.round()
    assert await made(jobs) == []
    live.settings = Settings(schedules=(daily(ticked, catch_up="latest", payload={"edited": True}),))
    await running.round()
    assert (await jobs.find_one({"_id": job_id(ticked)}))["payload"] == {"edited": True}


async def test_a_schedule_that_was_taken_out_makes_nothing_and_begins_anew_when_it_is_back(
    database, jobs, documents, ticked, watched
):
    made_up = daily(ticked, catch_up="latest")
    await watched(made_up, ticked)
    live = Live(Settings(schedules=(daily(ticked),)), {})
    running = Scheduler(live, ScheduleStore(database, JOBS), half)
    await running.round()
    live.settings = Settings()
    assert await running.round() is None, "there is nothing to wait for"
    live.settings = Settings(schedules=(made_up,))
    await running.round()
    assert await made(jobs) == []


async def test_two_supervisors_that_disagree_about_a_line_each_make_their_own_run_times(
    database, jobs, documents, ticked, watched
):
    early, late = daily(ticked, catch_up="latest"), daily(ticked + timedelta(minutes=20), catch_up="latest")
    one, other = scheduler(database, early), scheduler(database, late)
    await other.round()
    await one.round()
    await documents.update_one({"_id": ID}, {"$set": {"since": ticked - timedelta(minutes=5)}})
    for running in (one, other, one, other):
        await running.round()
    assert await made(jobs) == [job_id(ticked), job_id(ticked + timedelta(minutes=20))]


async def test_schedules_of_two_collections_in_one_database_do_not_meet(database, documents, ticked, watched):
    made_up = daily(ticked, catch_up="latest")
    await watched(made_up, ticked)
    others = ScheduleStore(database, "other_jobs")
    await others.watch(made_up)
    assert (await others.look([made_up]))[NAME].since > ticked
    assert (await ScheduleStore(database, JOBS).look([made_up]))[NAME].since < ticked


# trouble


async def test_a_job_that_the_database_refuses_holds_up_no_other_schedule(database, jobs, ticked, watched):
    await database.command({"collMod": JOBS, "validator": {"payload.bad": {"$exists": False}}})
    refused = daily(ticked, name="a", catch_up="latest", payload={"bad": 1})
    sound = daily(ticked, name="b", catch_up="latest")
    for each in (refused, sound):
        await watched(each, ticked)
    running = scheduler(database, refused, sound)
    with capture_logs() as entries:
        assert await running.round() == RETRY_S
        await running.round()
        assert await made(jobs) == [job_id(ticked, "b")]
        await database.command({"collMod": JOBS, "validator": {}})
        await running.round()
    assert await made(jobs) == [job_id(ticked, "a"), job_id(ticked, "b")]
    told = [entry["event"] for entry in entries if entry.get("schedule") == "a" and "watched" not in entry["event"]]
    assert told == ["schedule.handler_unknown", "schedule.failed", "schedule.job_made", "schedule.recovered"]


async def test_a_database_that_does_not_answer_is_waited_for(mongod, database, jobs, ticked, watched):
    made_up = daily(ticked, catch_up="latest")
    await watched(made_up, ticked)
    running = asyncio.create_task(scheduler(database, made_up).run())
    namespace = f"{database.name}.{COLLECTION}"
    try:
        with capture_logs() as entries:
            with failing(mongod, ["update", "aggregate"], errorCode=96, namespace=namespace) as point:
                await asyncio.to_thread(point.wait, 25, count=2)
            await until_async(lambda: "database.back" in [entry["event"] for entry in entries], 30)
        assert await made(jobs) == [job_id(ticked)]
        events = [entry["event"] for entry in entries]
        assert events.count("database.unavailable") == events.count("database.back") == 1
    finally:
        running.cancel()
        await asyncio.wait({running})
    assert running.cancelled()


async def test_it_waits_for_the_next_run_time_and_not_much_longer_than_it_may(database, jobs):
    wait_s = await scheduler(database, schedule()).round()
    assert 0 <= wait_s <= LOOK_EVERY_S
    assert await scheduler(database, schedule("0 0 29 2 *")).round() == LOOK_EVERY_S


async def test_an_edit_is_taken_up_at_once_by_one_that_waits(database, jobs, documents):
    live = Live(Settings(), {})
    scheduler = Scheduler(live, ScheduleStore(database, JOBS), half)
    running = asyncio.create_task(scheduler.run())
    try:
        await asyncio.sleep(0.1)
        live.settings = Settings(schedules=(schedule("0 0 29 2 *"),))
        scheduler.soon()
        await until_async(lambda: documents.find_one({"_id": ID}))
    finally:
        running.cancel()
        await asyncio.wait({running})


@pytest.mark.parametrize("foreign", [{"since": "x"}, {"since": None, "tick": 5}, {"tick": [1], "job_id": {"$ne": 1}}])
async def test_a_document_that_somebody_else_has_written_is_put_right(database, jobs, documents, ticked, foreign):
    await documents.insert_one({"_id": ID, **foreign})
    running = scheduler(database, daily(ticked, catch_up="latest"))
    await running.round()
    await documents.update_one({"_id": ID}, {"$set": {"since": ticked - timedelta(minutes=5)}})
    await running.round()
    assert await made(jobs) == [job_id(ticked)]


# what is shown


async def test_the_last_run_is_shown_with_its_status_also_when_its_job_is_gone(database, jobs, ticked, watched):
    schedules = [daily(ticked, name=name, catch_up="latest") for name in ("ran", "gone", "never")]
    for each in schedules[:2]:
        await watched(each, ticked)
    await scheduler(database, *schedules).round()
    await jobs.delete_one({"_id": job_id(ticked, "gone")})
    runs = await last_runs(database, JOBS, ["ran", "gone", "never", "unknown"])
    assert {name: (run["tick"], run["job_id"], run["status"]) for name, run in runs.items()} == {
        "ran": (ticked, job_id(ticked, "ran"), "pending"),
        "gone": (ticked, job_id(ticked, "gone"), None),
    }
