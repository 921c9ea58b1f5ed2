"""Coroutines beside workers, and what becomes of them when their supervisor stops, dies, or is asked about them."""

from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.supervising import MISBEHAVING, Jobs, StartSupervisor, gone
from tests.support.until import until

COROUTINES = "tests.support.coroutines"
BOTH = {"pool": {"modules": [COROUTINES, MISBEHAVING], "workers": 1}}


def test_neither_kind_of_job_stands_in_the_way_of_the_other(start: StartSupervisor, jobs: Jobs) -> None:
    start(**BOTH)
    busy = [jobs.insert("sleeps", {"seconds": 60}) for _ in range(3)]
    until(lambda: jobs.collection.count_documents({"handler": "sleeps", "status": "processing"}) == 1, 20)
    assert jobs.run("c_nothing", priority=-1)["status"] == "completed", "though workers' jobs are in front of it"
    for job_id in busy:
        jobs.collection.update_one({"_id": job_id}, {"$set": {"cancel_requested": True}})
    jobs.wait_for_all()
    for _ in range(5):
        jobs.insert("c_capped", {"seconds": 60}, priority=9)
    until(lambda: jobs.collection.count_documents({"handler": "c_capped", "status": "processing"}) == 2, 20)
    assert jobs.run("ok")["status"] == "completed"


def test_a_drain_gives_long_coroutines_back_and_tells_them_why(
    start: StartSupervisor, jobs: Jobs, tmp_path: Path
) -> None:
    supervisor = start(shutdown={"drain_s": 1}, **BOTH)
    long = jobs.insert("c_cleans_up", {"folder": str(tmp_path)})
    jobs.wait(long, "processing")
    short = jobs.insert("c_sleeps", {"seconds": 0.7})
    jobs.wait(short, "processing")
    assert supervisor.stop() == 0
    assert jobs.get(short)["status"] == "completed"
    job = jobs.get(long)
    assert (job["status"], job["attempt"], job.get("lease")) == ("pending", 0, None)
    assert (tmp_path / "stop").read_text() == "JobInterrupted"


def test_what_ignores_the_end_of_its_supervisor_is_released_only_after_that(
    start: StartSupervisor, jobs: Jobs, tmp_path: Path
) -> None:
    first = start(shutdown={"drain_s": 0}, lease={"seconds": 6}, **BOTH)
    job_id = jobs.insert("c_ignores_orders", {"until": str(tmp_path / "end")})
    jobs.wait(job_id, "processing")
    first.wait_for("job.started")
    assert first.stop() == 0
    assert first.wait_for("job.unrecorded")["hint"] == "its lease is left to expire"
    job = jobs.get(job_id)
    assert (job["status"], job["lease"]["pid"]) == ("processing", first.pid)
    (tmp_path / "end").touch()
    start(lease={"seconds": 6}, **BOTH)
    job = jobs.wait(job_id, within_s=30)
    assert (job["status"], job["attempt"], job["attempts"][0]["outcome"]) == ("completed", 2, "lost")


def test_after_a_sigkill_coroutine_jobs_run_elsewhere(start: StartSupervisor, jobs: Jobs) -> None:
    victim = start(lease={"seconds": 5}, pool={"modules": [COROUTINES], "workers": 0})
    ids = [jobs.insert("c_sleeps", {"seconds": 600}) for _ in range(20)]
    for job_id in ids:
        jobs.wait(job_id, "processing")
    other = start(lease={"seconds": 5}, pool={"modules": [COROUTINES], "workers": 0})
    jobs.collection.update_many({}, {"$set": {"payload.seconds": 0}})
    victim.kill()
    for job_id in ids:
        job = jobs.wait(job_id, within_s=40)
        assert (job["status"], job["attempt"], job["attempts"][0]["outcome"]) == ("completed", 2, "lost")
        assert [entry["pid"] for entry in job["attempts"]] == [victim.pid, other.pid]


@pytest.mark.parametrize("control", ["pause", "drain"])
def test_coroutine_handlers_are_paused_and_drained_like_others(
    control: str, start: StartSupervisor, jobs: Jobs, command: CommandLine
) -> None:
    command.configure(pool={"modules": [COROUTINES]})
    supervisor = start(shutdown={"drain_s": 0}, pool={"modules": [COROUTINES], "workers": 0})
    running = jobs.insert("c_sleeps", {"seconds": 60})
    jobs.wait(running, "processing")
    done = command(*{"pause": ("pause", "c_sleeps"), "drain": ("drain",)}[control])
    assert done.code == 0, done.err
    supervisor.wait_for({"pause": "handler.paused", "drain": "supervisor.drained"}[control])
    waiting = jobs.insert("c_sleeps", {"seconds": 0})
    if control == "pause":
        assert jobs.run("c_nothing")["status"] == "completed", "the others go on"
        assert jobs.get(running)["status"] == "processing", "what runs goes on"
    else:
        assert jobs.wait(running, "pending")["attempt"] == 0, "given back"
    assert jobs.get(waiting)["status"] == "pending"
    command(*{"pause": ("resume", "c_sleeps"), "drain": ("undrain",)}[control])
    assert jobs.wait(waiting)["status"] == "completed"


def test_a_supervisor_that_is_blocked_until_its_leases_end_says_so_and_ends_with_its_workers(
    start: StartSupervisor, jobs: Jobs
) -> None:
    supervisor = start(lease={"seconds": 4}, **BOTH)
    neighbour = jobs.insert("sleeps", {"seconds": 600})
    jobs.wait(neighbour, "processing")
    family = supervisor.family()
    jobs.insert("c_blocks", {"seconds": 600}, max_attempts=1)
    said = supervisor.wait_for("loop.given_up", timeout_s=20)
    assert (said["jobs"], said["level"]) == (2, "error")
    assert supervisor.process.wait(10) == 1
    gone(family)
    jobs.collection.update_one({"_id": neighbour}, {"$set": {"payload.seconds": 0}})
    start(lease={"seconds": 4}, **BOTH)
    job = jobs.wait(neighbour, within_s=30)
    assert (job["status"], job["attempts"][0]["outcome"]) == ("completed", "lost")


def test_running_coroutines_are_shown_and_asked_like_other_jobs(
    start: StartSupervisor, jobs: Jobs, command: CommandLine
) -> None:
    command.configure(pool={"modules": [COROUTINES]})
    supervisor = start(pool={"modules": [COROUTINES], "workers": 0})
    many = [{"handler": "c_sleeps", "payload": {"seconds": 60}, "status": "pending"} for _ in range(30)]
    many_ids = jobs.collection.insert_many(many).inserted_ids
    supervisors = jobs.collection.database["supervisors"]
    until(lambda: len((supervisors.find_one() or {}).get("coroutines", [])) == 30, 20, "all in the heartbeat")
    found = command("status").out.splitlines()
    assert sum("running" in line and "c_sleeps" in line for line in found) == 20
    assert any(line.startswith("and 10 more on ") for line in found)

    stack = command("stack", str(many_ids[0]))
    assert stack.code == 0, stack.err
    assert ", slot -" in stack.out
    assert "Coroutine (most recent call first):" in stack.out
    assert "in sleeps" in stack.out
    assert "supervisor/coroutines" not in stack.out

    talking = jobs.insert("c_logs", {"seconds": 60})
    until(lambda: len(supervisor.events("job.log")) == 2, 20, "what it logs")
    logs = command("logs", str(talking))
    assert ['"event": "counted"' in line for line in logs.out.splitlines()] == [True, False], logs.err

    late = jobs.run("c_sleeps", {"seconds": 60}, timeout_s=0.3, max_attempts=1)
    told = command("autopsy", str(late["_id"]))
    assert told.code == 0, told.err
    assert "ran longer than 0.3 s and stopped" in told.out
    assert "in sleeps" in told.out
