"""What a person at the command line learns about running and dead jobs, on another machine than theirs."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.supervising import Jobs, RunningSupervisor, StartSupervisor
from tests.support.until import until


@pytest.fixture(scope="module")
def jobs(module_jobs: Jobs) -> Jobs:
    return module_jobs


@pytest.fixture(scope="module", autouse=True)
def supervisor(start_for_module: StartSupervisor) -> RunningSupervisor:
    return start_for_module(retry={"max_crashes": 2})


@pytest.fixture
def command(tmp_path: Path, mongo_uri: str, jobs: Jobs) -> CommandLine:
    made = CommandLine(tmp_path, mongo_uri, jobs.collection.database.name)
    made.configure()
    return made


def test_the_stack_of_a_job_in_c_code_is_shown_while_it_goes_on(command: CommandLine, jobs: Jobs) -> None:
    job_id = jobs.insert("c_loop", max_attempts=1)
    jobs.wait(job_id, "processing")
    lease = jobs.get(job_id)["lease"]
    shown = until(lambda: (done := command("stack", str(job_id))).code == 0 and done, 20, "a stack")
    first, empty, *stack = shown.out.splitlines()
    assert first == (
        f"job {job_id} (c_loop), attempt 1, on host {lease['host']}, slot {lease['slot']}, pid {lease['pid']}"
    )
    assert empty == ""
    assert "in c_loop" in "\n".join(stack)
    assert command("stack", str(job_id), "--json").json["lease"]["pid"] == lease["pid"]
    job = jobs.get(job_id)
    assert (job["status"], job["lease"]["token"]) == ("processing", lease["token"])
    assert jobs.collection.database["controls"].count_documents({}) == 0, "whoever asks tidies up"
    command("cancel", str(job_id))
    jobs.wait(job_id, "cancelled")


def test_the_output_is_followed_through_all_attempts_and_nothing_is_printed_twice(
    command: CommandLine, jobs: Jobs
) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    job_id = jobs.insert("talks", {"lines": 5, "pause_s": 0.2, "crashes": 1}, run_at=tomorrow)
    process = command.start("logs", str(job_id), "--follow")
    assert process.stderr.readline() == "-- waiting for the job to start\n"
    jobs.collection.update_one({"_id": job_id}, {"$unset": {"run_at": ""}})
    out, err = process.communicate(timeout=60)
    assert (process.returncode, jobs.get(job_id)["status"]) == (0, "completed")
    assert out.splitlines() == [f"{attempt}: line {n} ä" for attempt in (1, 2) for n in range(5)]
    assert [line for line in err.splitlines() if "ended" in line] == [
        "-- attempt 1 ended: crash: the worker exited with code 3",
        "-- attempt 2 ended: completed",
    ]
    done = command("logs", str(job_id), "--attempt", "1", "--json").json
    assert (done["attempt"], done["outcome"], done["logs"].count("\n")) == (1, "crash", 5)
    done = command("logs", str(job_id), "--attempt", "3")
    assert (done.code, done.error) == (1, f"job {job_id} has no record of an attempt 3; there are: 1, 2")


def test_the_output_of_a_running_job_is_shown_before_it_ends(command: CommandLine, jobs: Jobs) -> None:
    job_id = jobs.insert("talks", {"lines": 1000, "pause_s": 0.1})
    jobs.wait(job_id, "processing")
    until(lambda: "1: line 0 ä\n" in command("logs", str(job_id)).out, 20, "the first line")
    assert jobs.get(job_id)["status"] == "processing"
    command("cancel", str(job_id))
    jobs.wait(job_id, "cancelled")


def test_the_story_of_a_death_fits_on_one_screen(command: CommandLine, jobs: Jobs) -> None:
    neighbour = jobs.insert("sleeps", {"seconds": 60})
    jobs.wait(neighbour, "processing")
    job = jobs.run("burns_and_segfaults", {"mb": 1, "seconds": 0.1})
    done = command("autopsy", str(job["_id"]), environ={"COLUMNS": "40"})  # a width of no meaning to a pipe
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 100
    assert lines[0] == f"burns_and_segfaults job {job['_id']}: failed, quarantined after 2 crashes"
    assert [line.split()[0] for line in lines if line.endswith("SIGSEGV")] == ["1", "2"]
    for part in (
        "attempt 2 killed its worker",
        "  killed by SIGSEGV: an invalid memory access in native code",
        "in _deep_in_a_call",
        f"beside it ran sleeps {neighbour} (",
        "last output\n  the last words\n",
        "next: nothing by itself: it is quarantined, since it killed too many workers\n",
        f"\n  python -m supervisor retry {job['_id']}\n",
    ):
        assert part in done.out, part
    found = command("autopsy", str(job["_id"]), "--json").json
    assert found["last_bad_attempt"]["evidence"]["machine"]["others"][0]["handler"] == "sleeps"
    assert (len(found["job"]["attempts"]), found["command"]) == (2, f"python -m supervisor retry {job['_id']}")
    refused = command("stack", str(job["_id"]))
    assert (refused.code, refused.error) == (
        1, f"job {job['_id']} is failed, not running; how it ended: python -m supervisor autopsy {job['_id']}",
    )  # fmt: skip
    jobs.collection.update_one({"_id": neighbour}, {"$set": {"cancel_requested": True}})
    jobs.wait(neighbour, "cancelled")
