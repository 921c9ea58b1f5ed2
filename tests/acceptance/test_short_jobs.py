"""Short jobs are claimed ahead and travel together, and each of them is an attempt of its own all the same."""

import signal
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest

from tests.support.supervising import Jobs, RunningSupervisor, StartSupervisor, gone
from tests.support.until import until

KNOWN = 12
"""Jobs after which the supervisor knows that a handler's are short."""
Document = dict[str, Any]


@pytest.fixture
def supervisor(start: StartSupervisor, jobs: Jobs) -> RunningSupervisor:
    """One that has learned that `brief` is short."""
    started = start(pool={"workers": 2}, lease={"seconds": 600}, retry={"backoff_s": 0.05, "max_crashes": 10})
    insert(jobs, *({} for _ in range(KNOWN)))
    jobs.wait_for_all()
    return started


def insert(jobs: Jobs, *payloads: Document, **fields: Any) -> list[Any]:
    """Insert jobs that are all due at the same moment, so that one claim finds them."""
    due = datetime.now(UTC) + timedelta(seconds=0.3)
    documents = [
        {"handler": "brief", "status": "pending", "run_at": due, "payload": {"n": n, **payload}, **fields}
        for n, payload in enumerate(payloads)
    ]
    return list(jobs.collection.insert_many(documents).inserted_ids)


def ended(jobs: Jobs, ids: list[Any]) -> list[Document]:
    jobs.wait_for_all()
    found = {job["_id"]: job for job in jobs.collection.find({"_id": {"$in": ids}})}
    return [found[job_id] for job_id in ids]


def outcomes(job: Document) -> list[str]:
    return [entry["outcome"] for entry in job["attempts"]]


def test_they_are_claimed_before_a_slot_is_free(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    ids = insert(jobs, *({"seconds": 0.02} for _ in range(60)))

    def ahead() -> bool:
        slots = Counter(job["lease"]["slot"] for job in jobs.collection.find({"status": "processing"}))
        return max(slots.values(), default=0) > 1

    until(ahead, 20, "a slot with more than one job")
    assert all(outcomes(job) == ["completed"] and job["attempt"] == 1 for job in ended(jobs, ids))


def test_a_job_that_kills_its_worker_costs_no_other_an_attempt(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    ids = insert(jobs, *({"does": "dies"} if n in (3, 17, 31) else {} for n in range(50)), max_attempts=2)
    found = ended(jobs, ids)
    assert [n for n, job in enumerate(found) if job["status"] == "failed"] == [3, 17, 31]
    for n, job in enumerate(found):
        assert outcomes(job) == (["crash", "crash"] if n in (3, 17, 31) else ["completed"])
        assert (job["attempt"], job["crashes"]) == ((2, 2) if n in (3, 17, 31) else (1, 0))


def test_what_a_job_prints_and_raises_is_its_own(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    does = {5: "prints", 6: "raises", 20: "prints"}
    found = ended(jobs, insert(jobs, *({"does": does.get(n)} for n in range(40)), max_attempts=1))
    logs = {n: job["attempts"][0]["logs"] for n, job in enumerate(found)}
    assert {n: text for n, text in logs.items() if text} == {5: "printed by 5\n", 20: "printed by 20\n"}
    assert [n for n, job in enumerate(found) if job["status"] == "failed"] == [6]
    assert found[6]["error"]["message"] == "for once"


def test_a_job_that_turns_out_long_holds_up_no_other(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    ids = insert(jobs, {"seconds": 300}, *({} for _ in range(60)))
    others = {"_id": {"$in": ids[1:]}}
    until(lambda: jobs.collection.count_documents({**others, "status": "completed"}) == 60, 60, "the short ones")
    long = jobs.get(ids[0])
    assert (long["status"], long["attempt"]) == ("processing", 1)
    for job in jobs.collection.find(others):
        assert (outcomes(job), job["attempt"], job.get("crashes", 0)) == (["completed"], 1, 0)
    jobs.collection.update_one({"_id": ids[0]}, {"$set": {"cancel_requested": True}})
    assert jobs.wait(ids[0])["status"] == "cancelled"


def test_the_lease_of_a_job_names_the_worker_that_runs_it_though_it_waited_for_another(
    supervisor: RunningSupervisor, jobs: Jobs
) -> None:
    # the second long one waits behind the first
    ids = insert(jobs, {"seconds": 300}, {}, {"seconds": 300}, *({} for _ in range(10)))
    running = {"_id": {"$in": [ids[0], ids[2]]}, "status": "processing"}

    def both() -> bool:
        (heartbeat,) = jobs.collection.database["supervisors"].find()
        seen = {slot["job_id"]: (slot["slot"], slot["pid"]) for slot in heartbeat["slots"]}
        told = {job["_id"]: (job["lease"]["slot"], job["lease"]["pid"]) for job in jobs.collection.find(running)}
        return len(seen) == 2 and seen == told

    until(both, 60, "both slots to be known by their jobs")
    jobs.collection.update_many({"_id": {"$in": ids}, "status": "processing"}, {"$set": {"cancel_requested": True}})
    jobs.wait_for_all()


def test_a_time_limit_ends_the_job_that_it_concerns(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    ids = insert(jobs, *({"seconds": 30} if n == 4 else {} for n in range(40)), timeout_s=1, max_attempts=1)
    found = ended(jobs, ids)
    assert [(n, job["error"]["kind"]) for n, job in enumerate(found) if job["status"] == "failed"] == [(4, "timeout")]
    assert "brief" in found[4]["attempts"][0]["evidence"]["stack"]
    assert all(outcomes(job) == ["completed"] for n, job in enumerate(found) if n != 4)


@pytest.mark.parametrize("does", ["lowers a limit", "closes its channel"])
def test_a_worker_that_is_worn_by_one_job_runs_none_behind_it(
    supervisor: RunningSupervisor, jobs: Jobs, does: str
) -> None:
    found = ended(jobs, insert(jobs, *({"does": does} if n == 2 else {} for n in range(40)), max_attempts=1))
    assert all((job["status"], outcomes(job)) == ("completed", ["completed"]) for job in found), [
        (job["payload"], job["attempts"], job.get("error")) for job in found if job["status"] != "completed"
    ]
    (of_it,) = found[2]["attempts"]
    ends = [job["result"]["at"] for job in found if job["attempts"][0]["pid"] == of_it["pid"]]
    assert max(ends) == found[2]["result"]["at"]
    assert supervisor.wait_for("worker.worn")


def test_workers_that_are_killed_from_outside_cost_one_job_each(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    ids = insert(jobs, *({"seconds": 0.005} for _ in range(1000)), max_attempts=5)
    until(lambda: jobs.collection.find_one({"status": "processing"}), 20, "the first of them to run")
    killed = 0
    while killed < 5 and jobs.collection.count_documents({"status": "pending"}, limit=1):
        (heartbeat,) = jobs.collection.database["supervisors"].find()
        for pid in [slot["pid"] for slot in heartbeat["slots"]][:1]:
            if pid and psutil.pid_exists(pid):
                psutil.Process(pid).send_signal(signal.SIGKILL)
                killed += 1
        until(lambda beat=heartbeat: heartbeat_after(jobs, beat), 10, "the next heartbeat")
    found = ended(jobs, ids)
    assert all(job["status"] == "completed" for job in found)
    crashes = sum(job.get("crashes", 0) for job in found)
    assert killed > 0
    assert crashes <= killed
    assert sum(job["attempt"] for job in found) == len(found) + crashes


def heartbeat_after(jobs: Jobs, heartbeat: Document) -> bool:
    (now,) = jobs.collection.database["supervisors"].find()
    return bool(now["heartbeat_at"] > heartbeat["heartbeat_at"])


def test_a_drain_gives_back_what_has_not_begun(
    supervisor: RunningSupervisor, jobs: Jobs, start: StartSupervisor
) -> None:
    ids = insert(jobs, *({"seconds": 0.02} for _ in range(400)))
    until(lambda: jobs.collection.count_documents({"status": "completed"}) > KNOWN + 20, 20, "some to be completed")
    family = supervisor.family()
    assert supervisor.stop() == 0
    gone(family)
    left = list(jobs.collection.find({"_id": {"$in": ids}, "status": {"$ne": "completed"}}))
    assert {job["status"] for job in left} == {"pending"}
    assert all("lease" not in job and job.get("attempt", 0) == 0 and not job.get("attempts") for job in left)
    start(pool={"workers": 2})
    assert all((outcomes(job), job["attempt"]) == (["completed"], 1) for job in ended(jobs, ids))
