"""Schedules under a database whose clock is set: to the night of a change of the clocks, ahead, and back."""

import asyncio
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from structlog.testing import capture_logs

from supervisor.config.settings import ScheduleSettings, Settings
from supervisor.live import Live
from supervisor.scheduler import RETRY_S, Scheduler
from supervisor.store.schedules import COLLECTION, ScheduleStore
from tests.support.failpoints import failing
from tests.support.jobs import JOBS, connected, half
from tests.support.until import until_async

NAME = "nightly"
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
async def database(clocked_mongod, database_name):
    async with connected(clocked_mongod.uri, database_name) as opened:
        yield opened


@pytest.fixture
def put_clock(clocked_mongod):
    async def put(moment):
        await asyncio.to_thread(clocked_mongod.put_clock, moment)

    return put


def schedulers(database, cron, timezone="UTC", catch_up="skip", count=2):
    schedule = ScheduleSettings(name=NAME, handler="count", cron=cron, timezone=timezone, catch_up=catch_up)
    live = Live(Settings(schedules=(schedule,)), {})
    return [Scheduler(live, ScheduleStore(database, JOBS), half) for _ in range(count)]


async def rounds(schedulers):
    return await asyncio.gather(*(each.round() for each in schedulers))


async def made(database):
    """Return the run times of all jobs, in order, as their ids tell them."""
    ids = [job["_id"] async for job in database[JOBS].find({}, {"_id": 1})]
    return sorted(job_id.removeprefix(f"schedule:{NAME}:") for job_id in ids)


def next_change(*, forward):
    """Return the first moment after the next time that the clocks of Berlin are put forward, or back."""
    moment = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    while True:
        before, after = ((moment - one).astimezone(BERLIN).utcoffset() for one in (timedelta(hours=1), timedelta()))
        if before != after and (before < after) == forward:
            return moment
        moment += timedelta(hours=1)


def shown(moment):
    return f"{moment:%Y-%m-%dT%H:%MZ}"


async def test_a_time_that_the_clocks_skip_runs_once_when_they_have_been_put_forward(database, put_clock):
    change = next_change(forward=True)
    assert change.astimezone(BERLIN).hour == 3
    await put_clock(change - timedelta(minutes=5))
    running = schedulers(database, "30 2 * * *", "Europe/Berlin")
    await rounds(running)
    assert await made(database) == []
    await put_clock(change + timedelta(seconds=1))
    await rounds(running)
    assert await made(database) == [shown(change)]
    await put_clock(change + timedelta(hours=2))  # beyond what 02:30 would have been without the change
    await rounds(running)
    assert await made(database) == [shown(change)]


async def test_a_time_that_the_clocks_repeat_runs_the_first_time_only(database, put_clock):
    change = next_change(forward=False)
    assert change.astimezone(BERLIN).hour == 2
    first, second = change - timedelta(minutes=30), change + timedelta(minutes=30)
    await put_clock(first - timedelta(minutes=5))
    running = schedulers(database, "30 2 * * *", "Europe/Berlin")
    await rounds(running)
    for moment in (first, second):
        await put_clock(moment + timedelta(seconds=1))
        await rounds(running)
        assert await made(database) == [shown(first)]


async def test_a_run_time_that_was_seen_in_its_minute_is_made_however_late_the_database_lets_us(database, put_clock):
    """A supervisor was frozen in its transaction, and the server ends that only when the minute is over."""
    tick = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=2)
    await put_clock(tick - timedelta(minutes=1))
    (running,) = schedulers(database, f"{tick.minute} {tick.hour} * * *", count=1)
    await running.round()
    await put_clock(tick + timedelta(seconds=1))
    async with database.client.start_session() as frozen:
        await frozen.start_transaction()
        await database[COLLECTION].update_one({}, {"$set": {"tick": tick}}, session=frozen)
        assert await running.round() == RETRY_S
        await put_clock(tick + timedelta(minutes=10))
        await frozen.abort_transaction()
    assert await running.round() == RETRY_S, "and looks again at once for later ones"
    assert await made(database) == [shown(tick)]
    with capture_logs() as entries:
        await running.round()
    assert entries == []


@pytest.fixture
def held_up(clocked_mongod, database, put_clock):
    """Have a scheduler run while the database answers no question about schedules, until its clock shows `moment`."""

    async def hold_up(running, moment):
        life = asyncio.create_task(running.run())
        namespace = f"{database.name}.{COLLECTION}"
        with capture_logs() as entries:
            try:
                with failing(clocked_mongod, ["aggregate"], errorCode=96, namespace=namespace) as point:
                    await asyncio.to_thread(point.wait, 25, count=2)
                    await put_clock(moment)
                await until_async(lambda: "database.back" in [entry["event"] for entry in entries], 30)
            finally:
                life.cancel()
                await asyncio.wait({life})
        return [entry["event"] for entry in entries]

    return hold_up


@pytest.mark.parametrize(("late_s", "is_made"), [(200, True), (620, False)])
async def test_a_run_time_that_came_while_the_database_was_silent_is_made_within_ten_minutes(
    database, put_clock, held_up, late_s, is_made
):
    tick = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=2)
    await put_clock(tick - timedelta(minutes=1))
    (running,) = schedulers(database, f"{tick.minute} {tick.hour} * * *", count=1)
    await running.round()
    events = await held_up(running, tick + timedelta(seconds=late_s))
    assert await made(database) == [shown(tick)] * is_made
    assert ("schedule.missed" in events) != is_made


async def test_who_was_not_there_when_a_run_time_came_does_not_make_it_for_a_silent_database(
    database, put_clock, held_up
):
    tick = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=2)
    await put_clock(tick - timedelta(minutes=1))
    former, later = schedulers(database, f"{tick.minute} {tick.hour} * * *")
    await former.round()
    assert "schedule.missed" in await held_up(later, tick + timedelta(seconds=200))
    assert await made(database) == []


async def test_a_clock_that_was_ahead_stops_no_schedule_and_runs_nothing_twice(database, put_clock):
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    ahead, back = now + timedelta(days=200, seconds=1), now + timedelta(minutes=10, seconds=1)
    await put_clock(ahead - timedelta(minutes=1))
    running = schedulers(database, "* * * * *")
    await rounds(running)
    await put_clock(ahead)
    await rounds(running)
    assert await made(database) == [shown(ahead)]
    await put_clock(back)
    await rounds(running)  # which only learns that the clock was ahead
    restarted = schedulers(database, "* * * * *")
    await rounds(restarted)  # and so does who finds what was written then
    expected = [shown(ahead)]
    with capture_logs() as entries:
        for step in (1, 2):
            await put_clock(back + timedelta(minutes=step))
            await rounds(restarted + running)
            expected.insert(step - 1, shown(back + timedelta(minutes=step)))
            assert await made(database) == expected
    assert [entry["event"] for entry in entries] == ["schedule.job_made"] * 2, "and nothing is taken for missed"


async def test_a_clock_that_goes_back_a_little_repeats_nothing_even_if_its_jobs_are_gone(database, put_clock):
    now = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(hours=1)
    await put_clock(now - timedelta(seconds=50))
    running = schedulers(database, "* * * * *")
    await rounds(running)
    # two steps ahead, back, over the same minutes again, and on
    for seconds, expected in ((1, 1), (61, 1), (121, 1), (2, 0), (62, 0), (122, 0), (181, 1)):
        moment = now + timedelta(seconds=seconds)
        await put_clock(moment)
        await rounds(running)
        assert await made(database) == [shown(moment)] * expected
        await database[JOBS].delete_many({})
