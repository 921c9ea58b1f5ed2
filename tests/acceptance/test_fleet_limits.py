"""Limits across machines, with two real supervisors on one database."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import CommandLine
from tests.support.supervising import Jobs, RunningSupervisor, configuration
from tests.support.until import until

CAPPED = {"max_running_total": 2, "max_running_per_group": 1}


@pytest.fixture
def two(mongo_uri: str, database_name: str, tmp_path: Path) -> Iterator[list[RunningSupervisor]]:
    """Two supervisors with three workers each and the same configuration."""
    config = {"pool": {"workers": 3}, "handlers__sleeps": CAPPED, "handlers__ok": {"rate": "4/s"}}
    running = [
        RunningSupervisor(tmp_path / name, configuration(mongo_uri, database_name, **config)) for name in ("a", "b")
    ]
    for each in running:
        each.start(ready=False)
    try:
        for each in running:
            each.wait_for("supervisor.ready", timeout_s=30)
        yield running
    finally:
        for each in running:
            each.end()


def most_at_once(attempts: list[dict[str, Any]]) -> int:
    """How many of these attempts ran at the same time, by the database's clock."""
    edges = sorted(
        [(each["started_at"], 1) for each in attempts] + [(each["ended_at"], -1) for each in attempts],
        key=lambda edge: (edge[0], edge[1]),
    )
    most = running = 0
    for _, step in edges:
        running += step
        most = max(most, running)
    return most


def attempts_of(jobs: Jobs, **filter_: Any) -> list[dict[str, Any]]:
    return [attempt for job in jobs.collection.find(filter_) for attempt in job["attempts"]]


def said_of_rates(jobs: Jobs) -> list[tuple[int, float]]:
    """The rate of "ok" in the heartbeat of each supervisor, as starts and seconds: what `why` goes by."""
    entries = [entry for each in jobs.collection.database["supervisors"].find() for entry in each["handlers"]]
    return [(entry["fleet"]["starts"], entry["fleet"]["per_s"]) for entry in entries if entry["handler"] == "ok"]


def test_two_supervisors_keep_to_one_total_and_one_tenant_keeps_out_nobody(
    two: list[RunningSupervisor], jobs: Jobs
) -> None:
    for number in range(8):
        jobs.insert("sleeps", {"seconds": 0.3}, group_key="greedy", priority=5, _id=number)
    for number in range(8, 12):
        jobs.insert("sleeps", {"seconds": 0.3}, group_key=f"tenant-{number}", _id=number)
    jobs.wait_for_all()
    assert jobs.collection.count_documents({"status": "completed"}) == 12
    assert most_at_once(attempts_of(jobs)) == 2
    assert most_at_once(attempts_of(jobs, group_key="greedy")) == 1
    ends = {job["_id"]: job["finished_at"] for job in jobs.collection.find({})}
    assert ends[8] < ends[7], "the others do not wait for the greedy one"


def test_a_rate_holds_over_both_and_an_edit_lifts_it(
    two: list[RunningSupervisor], jobs: Jobs, command: CommandLine
) -> None:
    for number in range(10):
        jobs.insert("ok", {}, _id=number)
    jobs.wait_for_all()
    starts = sorted(attempt["started_at"] for attempt in attempts_of(jobs))
    for first, fifth in zip(starts, starts[4:], strict=False):
        assert fifth - first >= timedelta(seconds=1)
    for each in two:
        each.edit("handlers.ok", rate="1/hour")
    until(lambda: said_of_rates(jobs) == [(1, 3600), (1, 3600)], 30, "both to say that the new rate is in force")
    late = jobs.insert("ok", {})
    why = command("why", str(late)).out
    assert why.startswith("of ok, rate = 1 in 60m is spent; the next start is possible in "), why
    for each in two:
        each.edit("handlers.ok", rate="")
    until(lambda: jobs.get(late)["status"] == "completed", 60, "the job whose rate was lifted")
