"""Pausing handlers: by a person, from any machine, and by too many crashes in a row."""

from tests.support.command_line import CommandLine
from tests.support.failpoints import failing
from tests.support.mongo import RunningMongod
from tests.support.supervising import Jobs
from tests.support.until import until


def test_a_paused_handler_waits_for_its_end_through_restarts_while_others_work(
    command: CommandLine, jobs: Jobs, start
) -> None:
    supervisor = start()
    running = jobs.insert("sleeps", {"seconds": 1})
    jobs.wait(running, "processing")
    done = command("pause", "sleeps", "--reason", "empty pages")
    assert (done.code, done.err) == (0, "")
    assert done.out == "sleeps is paused; to go on: python -m supervisor resume sleeps\n"
    assert command("pause", "sleeps").out == "sleeps is paused already, by operator: empty pages\n"
    said = supervisor.wait_for("handler.paused")
    assert (said["handler"], said["by"], said["reason"]) == ("sleeps", "operator", "empty pages")
    waiting = jobs.insert("sleeps", {"seconds": 0})
    assert jobs.wait(running)["status"] == "completed", "what runs goes on"
    assert jobs.run("ok")["status"] == "completed"
    assert supervisor.stop() == 0

    again = start()
    assert again.wait_for("handler.paused")["handler"] == "sleeps"
    assert jobs.run("ok")["status"] == "completed"
    assert jobs.get(waiting)["status"] == "pending"
    found = command("status", "--json").json["pauses"]
    assert [(each["handler"], each["by"], each["reason"]) for each in found] == [("sleeps", "operator", "empty pages")]

    assert command("resume", "sleeps").out == "sleeps is resumed\n"
    assert jobs.wait(waiting)["status"] == "completed"


def test_all_handlers_can_be_paused_and_resumed_at_once(command: CommandLine, jobs: Jobs, start) -> None:
    supervisor = start()
    command("pause", "--all", "--reason", "the disk is full")
    pause = {"_id": "pause:ok", "kind": "pause", "handler": "ok", "reason": "by another program"}
    jobs.collection.database["controls"].insert_many([pause, {"kind": "pause"}, {"kind": "nonsense"}])
    assert supervisor.wait_for("handler.paused")["handler"] == "*"
    assert supervisor.wait_for("handler.paused", count=2)["handler"] == "ok"
    waiting = [jobs.insert("ok"), jobs.insert("noop")]
    done = command("resume", "ok")
    assert (done.code, done.out) == (0, "ok is resumed\n")
    assert done.err == "warning: all handlers are paused; to go on: python -m supervisor resume --all\n"
    assert {jobs.get(job_id)["status"] for job_id in waiting} == {"pending"}
    pauses = {line.split()[0] for line in command("status").out.splitlines() if "the disk is full" in line}
    assert pauses == {"all"}
    jobs.collection.database["controls"].insert_one(pause)
    assert command("resume", "--all").out.splitlines() == ["all handlers are resumed", "ok is resumed"]
    assert [jobs.wait(job_id)["status"] for job_id in waiting] == ["completed"] * 2


def test_pauses_that_were_mistyped_are_told_and_those_of_other_machines_are_not(
    command: CommandLine, jobs: Jobs
) -> None:
    done = command("pause", "sleps")
    assert (done.code, done.err) == (
        0, "warning: no handler 'sleps' is registered here, and no job names it; did you mean sleeps?\n",
    )  # fmt: skip
    jobs.insert("elsewhere")
    assert command("pause", "elsewhere").err == ""
    assert command("resume", "ok").out == "ok was not paused\n"
    document = jobs.collection.database["controls"].find_one({"_id": "pause:elsewhere"})
    assert document.pop("at")
    assert document == {
        "_id": "pause:elsewhere", "kind": "pause", "handler": "elsewhere", "reason": "", "by": "operator",
    }  # fmt: skip


def test_a_handler_whose_jobs_crash_one_after_another_is_paused(command: CommandLine, jobs: Jobs, start) -> None:
    supervisor = start(pool={"workers": 1}, retry={"pause_after_crashes": 3, "max_crashes": 2})
    for handler in ("exits", "exits", "ok", "exits", "exits", "exits", "exits"):
        jobs.insert(handler)
    said = supervisor.wait_for("handler.paused", timeout_s=30)
    assert (said["level"], said["handler"], said["by"]) == ("error", "exits", "breaker")
    (found,) = command("status", "--json").json["pauses"]
    assert (found["by"], found["reason"]) == ("breaker", said["reason"])
    assert said["reason"].startswith("3 different jobs of exits crashed in a row, the last one ")
    assert "the worker exited with code 3" in said["reason"]
    assert jobs.run("ok")["status"] == "completed", "other handlers go on"
    waiting = {"handler": "exits", "status": "pending"}
    assert jobs.collection.count_documents(waiting) >= 3
    assert jobs.collection.count_documents({"attempts.0": {"$exists": True}, "handler": "exits"}) == 3

    supervisor.edit("retry", pause_after_crashes=0)
    supervisor.wait_for("config.changed")
    command("resume", "exits")
    until(lambda: jobs.collection.count_documents(waiting) == 0, 30, "all to be quarantined")
    jobs.wait_for_all()
    assert len(supervisor.events("handler.paused")) == 1


def test_the_crash_that_is_one_too_many_costs_no_further_job_while_it_is_being_written(
    jobs: Jobs, start, mongod: RunningMongod
) -> None:
    supervisor = start(pool={"workers": 1}, retry={"pause_after_crashes": 3})
    slow = {"blockConnection": True, "blockTimeMS": 500, "namespace": jobs.collection.full_name}
    with failing(mongod, ["update"], **slow):
        for _ in range(6):
            jobs.insert("exits")
        supervisor.wait_for("handler.paused", timeout_s=30)
        until(lambda: jobs.collection.count_documents({"attempts.0": {"$exists": True}}) == 3, 10, "three crashes")
        assert jobs.run("ok")["status"] == "completed"
    assert jobs.collection.count_documents({"attempt": {"$gte": 1}, "handler": "exits"}) == 3


def test_a_quarantined_job_that_is_retried_has_all_its_crashes_before_it(
    command: CommandLine, jobs: Jobs, start
) -> None:
    start(retry={"max_crashes": 2})
    job = jobs.run("exits")
    assert (job["error"]["kind"], job["attempt"], job["crashes"]) == ("poison", 2, 2)
    assert command("retry", str(job["_id"])).code == 0
    until(lambda: len(jobs.get(job["_id"]).get("attempts", [])) == 4, 20, "two more crashes")
    job = jobs.wait(job["_id"])
    assert (job["error"]["kind"], job["attempt"], job["crashes"]) == ("poison", 2, 2)
    assert [(entry["n"], entry["outcome"]) for entry in job["attempts"]] == [(1, "crash"), (2, "poison")] * 2
