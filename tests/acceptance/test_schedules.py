"""Schedules with real supervisors, under a database whose clock the test puts to where it is interesting."""

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import CommandLine
from tests.support.mongo import RunningMongod
from tests.support.supervising import (
    MISBEHAVING,
    Document,
    Jobs,
    RunningSupervisor,
    StartSupervisor,
    configuration,
    jobs_in,
)
from tests.support.until import until

pytestmark = pytest.mark.slow

NIGHTLY = {"name": "nightly-cleanup", "handler": "cleanup", "cron": "0 3 * * *", "timezone": "UTC", "payload": {}}
"""As the example in config.toml has it."""
OFTEN = {"handler": "ok", "cron": "* * * * *"}
WITHIN_S = 40
"""A clock that was set is noticed within 15 seconds."""
DATABASE = "schedules"


@pytest.fixture(scope="module")
def jobs(clocked_mongod: RunningMongod) -> Iterator[Jobs]:
    with jobs_in(clocked_mongod.uri, DATABASE) as found:
        yield found


def configured(clocked_mongod: RunningMongod, **pool: Any) -> dict[str, Document]:
    pool = {"modules": ["handlers.cleanup", MISBEHAVING], **pool}
    return configuration(clocked_mongod.uri, DATABASE, pool=pool, lease={"seconds": 30})


@pytest.fixture(scope="module")
def two(
    clocked_mongod: RunningMongod, tmp_path_factory: pytest.TempPathFactory, lasting: set[int]
) -> Iterator[list[RunningSupervisor]]:
    """Two supervisors for all tests here, with a worker each and no schedule of their own."""
    config = configured(clocked_mongod, workers=1)
    running = [RunningSupervisor(tmp_path_factory.mktemp("supervisor"), config) for _ in range(2)]
    try:
        for each in running:
            each.start(ready=False)
            lasting.add(each.pid)
        for each in running:
            each.wait_for("supervisor.ready", timeout_s=60)
        yield running
        assert [each.stop() for each in running] == [0, 0]
    finally:
        for each in running:
            each.end()


def schedule(supervisors: list[RunningSupervisor], *schedules: Document) -> None:
    """Save these schedules, and no others, in the files of running supervisors."""
    for each in supervisors:
        each.write_config({**each.config, "schedules": list(schedules)})
    for each in supervisors:
        for wanted in schedules:
            until(lambda one=each, name=wanted["name"]: of("schedule.watched", name, one), 10, "the edit to be applied")


def of(event: str, name: str, *supervisors: RunningSupervisor) -> list[Document]:
    """What supervisors have logged of a schedule."""
    return [entry for each in supervisors for entry in each.events(event) if entry["schedule"] == name]


def next_at(hour: int) -> datetime:
    now = datetime.now(UTC)
    return now.replace(hour=hour, minute=0, second=0, microsecond=0) + timedelta(days=1)


def made(jobs: Jobs, name: str) -> list[str]:
    """The run times of a schedule's jobs, as their ids tell them."""
    ids = [job["_id"] for job in jobs.collection.find({"_id": {"$regex": f"^schedule:{name}:"}}, sort=[("_id", 1)])]
    return [job_id.removeprefix(f"schedule:{name}:") for job_id in ids]


def wait_for_job(jobs: Jobs, name: str, moment: datetime) -> None:
    until(lambda: f"{moment:%Y-%m-%dT%H:%MZ}" in made(jobs, name), WITHIN_S, f"the job of {moment}")


def look_now(supervisors: list[RunningSupervisor]) -> None:
    """Have the configuration read again, and with it the clock: that saves the wait."""
    for each in supervisors:
        each.process.send_signal(signal.SIGHUP)


def test_the_nightly_cleanup_of_two_supervisors_runs_once_and_deletes_what_is_old(
    two: list[RunningSupervisor], jobs: Jobs, clocked_mongod: RunningMongod, tmp_path: Path
) -> None:
    three = next_at(3)
    clocked_mongod.put_clock(three - timedelta(minutes=3))
    ends = {"old": three - timedelta(days=7, seconds=1), "young": three - timedelta(days=6)}
    for job_id, end in ends.items():
        jobs.insert("ok", _id=job_id, finished_at=end, status="completed")
    schedule(two, NIGHTLY)
    clocked_mongod.put_clock(three - timedelta(seconds=2))
    wait_for_job(jobs, "nightly-cleanup", three)
    job_id = f"schedule:nightly-cleanup:{three:%Y-%m-%dT03:00Z}"
    job = jobs.wait(job_id)
    assert (job["status"], job["run_at"], job["attempt"]) == ("completed", three, 1)
    assert job["result"]["deleted"]["completed"] == 1
    assert {each["_id"] for each in jobs.collection.find()} == {"young", job_id}
    assert [entry["job_id"] for entry in of("schedule.job_made", "nightly-cleanup", *two)] == [job_id]

    command = CommandLine(tmp_path, clocked_mongod.uri, DATABASE)
    command.configure(schedules=[NIGHTLY])
    (shown,) = command("schedules", "--json").json
    assert (shown["last"]["job_id"], shown["last"]["status"], shown["catch_up"]) == (job_id, "completed", "skip")
    assert shown["next"] == [f"{three + timedelta(days=day):%Y-%m-%dT03:00:00.000Z}" for day in (1, 2, 3)]


def test_two_hours_in_which_nobody_was_there_are_told_and_not_made_up(
    two: list[RunningSupervisor], jobs: Jobs, clocked_mongod: RunningMongod
) -> None:
    noon = next_at(12)
    clocked_mongod.put_clock(noon - timedelta(seconds=55))
    schedule(two, {"name": "often", **OFTEN})
    clocked_mongod.put_clock(noon + timedelta(seconds=1))
    look_now(two)
    wait_for_job(jobs, "often", noon)
    for each in two:
        each.process.send_signal(signal.SIGSTOP)
    clocked_mongod.put_clock(noon + timedelta(hours=2, seconds=1))
    for each in two:
        each.process.send_signal(signal.SIGCONT)
    wait_for_job(jobs, "often", noon + timedelta(hours=2))
    jobs.wait_for_all()
    assert [time[11:] for time in made(jobs, "often")][:2] == ["12:00Z", "14:00Z"]
    (missed,) = until(lambda: of("schedule.missed", "often", *two))
    assert (missed["missed"], missed["catch_up"]) == (119, "skip")


def test_a_supervisor_that_dies_leaves_its_schedules_to_the_others_until_they_are_taken_out(
    two: list[RunningSupervisor], jobs: Jobs, clocked_mongod: RunningMongod, tmp_path: Path
) -> None:
    start = next_at(18)
    doomed = RunningSupervisor(tmp_path / "doomed", configured(clocked_mongod, workers=0)).start()
    try:
        clocked_mongod.put_clock(start - timedelta(seconds=55))
        schedule([*two, doomed], {"name": "shared", **OFTEN})
        clocked_mongod.put_clock(start + timedelta(seconds=1))
        look_now([*two, doomed])
        wait_for_job(jobs, "shared", start)
    finally:
        doomed.end()
    clocked_mongod.put_clock(start + timedelta(minutes=1, seconds=1))
    look_now(two)
    wait_for_job(jobs, "shared", start + timedelta(minutes=1))
    schedule(two, {"name": "other", **OFTEN})
    before = made(jobs, "shared")
    assert [time[11:] for time in before][:2] == ["18:00Z", "18:01Z"]
    clocked_mongod.put_clock(start + timedelta(minutes=2, seconds=1))
    look_now(two)
    wait_for_job(jobs, "other", start + timedelta(minutes=2))
    assert made(jobs, "shared") == before


@pytest.mark.chaos
def test_a_minute_in_real_time(mongo_uri: str, database_name: str, start: StartSupervisor) -> None:
    """Also without libfaketime: with the clock as it is."""
    running = [start(pool={"workers": 1}), start(pool={"workers": 1})]
    schedule(running, {"name": "often", **OFTEN})
    with jobs_in(mongo_uri, database_name) as jobs:
        until(lambda: made(jobs, "often"), 75, "the job of the next minute")
        jobs.wait_for_all()
        (run_time,) = made(jobs, "often")
        job = jobs.get(f"schedule:often:{run_time}")
    assert job["status"] == "completed"
    assert timedelta() <= job["created_at"] - job["run_at"] < timedelta(seconds=60)
    assert len(of("schedule.job_made", "often", *running)) == 1
