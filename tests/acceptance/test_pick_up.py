"""What is inserted while nothing waits is claimed at once."""

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


def test_a_job_for_which_no_place_would_do_is_claimed_when_one_is_free(jobs: Jobs, start: StartSupervisor) -> None:
    start(pool={"workers": 1, "modules": [MISBEHAVING, "tests.support.no_polls"]})
    brief = {"handler": "brief", "status": "pending"}
    jobs.collection.insert_many([dict(brief) for _ in range(12)])
    jobs.wait_for_all()
    short = [{**brief, "payload": {"seconds": 0.03}} for _ in range(10)]
    jobs.collection.insert_many([*short, {"handler": "ok", "status": "pending"}])  # nobody knows yet that this is short
    jobs.wait_for_all()
