"""What is inserted while nothing waits is claimed at once."""

from typing import Any

import pytest

from tests.support.failpoints import failing
from tests.support.mongo import RunningMongod
from tests.support.supervising import MISBEHAVING, Jobs, StartSupervisor
from tests.support.until import until


def test_a_job_that_comes_while_none_waits_is_claimed_without_a_look_at_the_queue(
    jobs: Jobs, start: StartSupervisor, mongod: RunningMongod
) -> None:
    database = jobs.collection.database
    database.command("profile", 2)
    start()
    found_none = {"command.aggregate": jobs.collection.name, "nreturned": 0}
    until(lambda: database["system.profile"].find_one(found_none), 30, "the look that finds the queue empty")
    database.command("profile", 0)
    with failing(mongod, ["aggregate"], errorCode=96, namespace=jobs.collection.full_name):
        assert jobs.run("ok")["status"] == "completed"
    assert jobs.run("ok")["status"] == "completed", "and what comes after the trouble is looked for"


def test_a_job_that_comes_while_others_wait_comes_after_them(jobs: Jobs, start: StartSupervisor) -> None:
    kinds = ({"handler": "sleeps", "payload": {"seconds": 1}}, {"handler": "ok"}, {"handler": "ok"})
    made = jobs.collection.insert_many([{**kind, "status": "pending"} for kind in kinds]).inserted_ids
    start(pool={"workers": 1})
    jobs.wait(made[0], "processing")
    made.append(jobs.insert("ok"))
    started = [jobs.wait(job_id)["started_at"] for job_id in made]
    assert started == sorted(started)
    assert started[1] < started[3]


NO_POLLS = {"modules": [MISBEHAVING, "tests.support.no_polls"]}


@pytest.fixture
def mixed(jobs: Jobs, start: StartSupervisor) -> list[dict[str, Any]]:
    """Short jobs, and behind them one of which the one worker knows nothing; they are to be inserted."""
    start(pool={"workers": 1, **NO_POLLS})
    brief = {"handler": "brief", "status": "pending"}
    jobs.collection.insert_many([dict(brief) for _ in range(12)])
    jobs.wait_for_all()
    return [*({**brief, "payload": {"seconds": 0.03}} for _ in range(10)), {"handler": "ok", "status": "pending"}]


def test_a_job_for_which_no_place_would_do_is_claimed_when_one_is_free(jobs: Jobs, mixed: list[dict[str, Any]]) -> None:
    jobs.collection.insert_many(mixed)
    jobs.wait_for_all()


def test_it_is_claimed_too_when_the_place_becomes_free_during_the_claim_that_passes_it_over(
    jobs: Jobs, mixed: list[dict[str, Any]], mongod: RunningMongod
) -> None:
    slowly: dict[str, Any] = {"blockConnection": True, "blockTimeMS": 1000, "namespace": jobs.collection.full_name}
    with failing(mongod, ["aggregate"], **slowly):
        jobs.collection.insert_many(mixed)
        jobs.wait_for_all()


@pytest.mark.parametrize("cap", ["max_running", "max_running_total"])
def test_the_next_job_of_a_capped_handler_is_claimed_when_the_one_before_is_recorded(
    jobs: Jobs, start: StartSupervisor, mongod: RunningMongod, cap: str
) -> None:
    start(pool={"workers": 2, **NO_POLLS}, handlers__ok={cap: 1})
    with failing(mongod, ["update"], blockConnection=True, blockTimeMS=300, namespace=jobs.collection.full_name):
        jobs.collection.insert_many([{"handler": "ok", "status": "pending"} for _ in range(3)])
        jobs.wait_for_all()
