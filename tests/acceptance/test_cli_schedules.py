"""`schedules`, and what `check` says of schedules."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.command_line import CommandLine
from tests.support.supervising import Jobs

pytestmark = pytest.mark.slow

NIGHTLY = {"name": "nightly", "handler": "cleanup", "cron": "30 2 * * *", "timezone": "Asia/Kathmandu"}
MODULES = {"modules": ["handlers.cleanup"]}


def test_a_configuration_without_schedules_says_so(command: CommandLine) -> None:
    done = command("schedules")
    assert (done.code, done.out) == (0, "no schedules: the configuration has no [[schedules]]\n")
    assert command("schedules", "--json").json == []


def test_schedules_shows_the_next_run_times_in_the_schedule_s_own_zone(command: CommandLine) -> None:
    command.configure([NIGHTLY, {**NIGHTLY, "name": "often", "cron": "* * * * *", "catch_up": "latest"}])
    done = command("schedules")
    assert done.code == 0
    heading, nightly, often = done.out.splitlines()
    assert re.split(r"\s{2,}", heading) == [
        "schedule", "handler", "cron", "time zone", "catch-up", "last run", "status", "next runs",
    ]  # fmt: skip
    assert nightly.split()[:9] == ["nightly", "cleanup", "30", "2", "*", "*", "*", "Asia/Kathmandu", "skip"]
    following = re.findall(r"(\d{4}-\d\d-\d\d) 02:30", nightly)
    assert len(following) == 3
    assert following == sorted(set(following))
    assert "never" in nightly
    assert "latest" in often
    assert done.err == "warning: no supervisor is running on this database, so nothing is enqueued\n"


def test_schedules_gives_programs_everything_in_utc(command: CommandLine, jobs: Jobs) -> None:
    command.configure([{**NIGHTLY, "payload": {"a": 1}}])
    tick = datetime(2026, 1, 2, 20, 45, tzinfo=UTC)
    job_id = jobs.insert("cleanup", _id="schedule:nightly:2026-01-02T20:45Z")
    ran = {"_id": "jobs:nightly", "tick": tick, "job_id": job_id, "made_at": tick + timedelta(seconds=1)}
    jobs.collection.database["schedules"].insert_one(ran)
    (shown,) = command("schedules", "--json").json
    following = shown.pop("next")
    assert [moment[10:] for moment in following] == ["T20:45:00.000Z"] * 3
    last = {"job_id": job_id, "tick": "2026-01-02T20:45:00.000Z", "made_at": "2026-01-02T20:45:01.000Z"}
    assert shown == {**NIGHTLY, "payload": {"a": 1}, "catch_up": "skip", "last": {**last, "status": "pending"}}
    jobs.collection.delete_one({"_id": job_id})
    (shown,) = command("schedules", "--json").json
    assert shown["last"]["status"] == "deleted"
    assert "2026-01-03 02:30  deleted" in command("schedules").out


def test_check_names_a_schedule_whose_every_job_would_fail(command: CommandLine) -> None:
    wrong, large = {**NIGHTLY, "payload": {"days": 3}}, {**NIGHTLY, "name": "large", "payload": {"a": "x" * 3000}}
    command.configure([wrong, large], pool=MODULES, limits={"payload_kb": 1})
    done = command("check")
    assert done.code == 2
    assert [line for line in done.err.splitlines() if "[[schedules]]" in line] == [
        "error: [[schedules]] 'nightly' payload: days: Extra inputs are not permitted (got 3)",
        (
            "error: [[schedules]] 'large' payload: is 3 kB, must be at most 1 kB (limits.payload_kb); "
            "larger input belongs in a file"
        ),
    ]


def test_check_warns_of_a_schedule_whose_handler_is_not_here(command: CommandLine) -> None:
    command.configure([{**NIGHTLY, "handler": "clenup"}], pool=MODULES)
    done = command("check")
    assert done.code == 0
    assert "warning: [[schedules]] 'nightly': no handler 'clenup' is registered here; did you mean cleanup?" in done.err
