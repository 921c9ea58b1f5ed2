"""Resizing and draining hosts through the database, beside the file and the signals."""

import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import CommandLine
from tests.support.supervising import Jobs, RunningSupervisor, StartSupervisor, configuration
from tests.support.until import until

pytestmark = pytest.mark.slow

HOST = socket.gethostname()


def heartbeat(jobs: Jobs) -> dict[str, Any]:
    """What the one supervisor says of itself; empty before its first word."""
    return jobs.collection.database["supervisors"].find_one({}) or {}


def until_sized(jobs: Jobs, workers: int, source: str) -> None:
    def sized() -> bool:
        found = heartbeat(jobs)
        states = [slot["state"] for slot in found.get("slots", [])]
        return (found.get("workers"), found.get("workers_from"), len(states)) == (workers, source, workers)

    until(sized, 10, f"{workers} workers, as the {source} says")


def until_phase(jobs: Jobs, phase: str) -> None:
    until(lambda: heartbeat(jobs).get("phase") == phase, 10, f"the phase {phase}")


def sizes(supervisor: RunningSupervisor) -> list[tuple[int, str]]:
    return [(each["new"], each["workers_from"]) for each in supervisor.events("pool.resized")]


@pytest.mark.timeout(240)
def test_whoever_spoke_last_about_the_workers_wins_through_restarts(
    command: CommandLine, jobs: Jobs, start: StartSupervisor
) -> None:
    supervisor = start(pool={"workers": 2})
    until_sized(jobs, 2, "file")
    done = command("resize", "3")
    assert (done.code, done.err) == (0, "")
    assert done.out == "every supervisor is to keep 3 workers; to undo: python -m supervisor resize configured\n"
    until_sized(jobs, 3, "control")
    assert command("resize", "1", "--host", HOST).code == 0
    until_sized(jobs, 1, "control")
    supervisor.edit("retry", backoff_s=0.2)
    supervisor.process.send_signal(signal.SIGTTIN)
    until_sized(jobs, 2, "signal")
    assert supervisor.stop() == 0

    again = start(pool={"workers": 2})
    until_sized(jobs, 1, "control")
    assert sizes(again) == [(1, "control")], "from the start"
    (shown,) = command("status", "--json").json["controls"][1:]  # behind that of all
    assert shown.pop("at")
    assert shown == {"kind": "resize", "host": HOST, "workers": 1, "by": "operator"}

    again.edit("pool", workers=4)
    until_sized(jobs, 4, "file")
    again.edit("mongo", database="elsewhere")
    again.edit("retry", backoff_s=0.3)
    again.wait_for("config.needs_restart")
    until(lambda: {"key": "retry.backoff_s", "value": 0.3, "from": "file"} in heartbeat(jobs)["config"])
    told = {each["key"]: each["value"] for each in heartbeat(jobs)["config"]}
    assert (told["pool.workers"], told["mongo.database"]) == (4, jobs.collection.database.name), "what is in force"
    assert "pool.workers=4" in command("status").out
    again.edit("mongo", database=jobs.collection.database.name)
    assert again.wait_for("resize.overruled")["workers"] == 1
    (noted,) = jobs.collection.database["controls"].find({"_id": f"resize:{HOST}"})
    assert (noted["workers"], noted["by"]) == (None, "config")
    assert again.stop() == 0
    last = start(pool={"workers": 4})
    until_sized(jobs, 4, "file")
    assert command("resize", "auto").out.startswith("every supervisor is to keep as many workers as usable cores")
    until(lambda: heartbeat(jobs)["workers_from"] == "control")
    assert command("resize", "configured").out == "every supervisor is to keep as many workers as configured\n"
    until_sized(jobs, 4, "file")
    assert len(last.events("resize.overruled")) == 0


def test_what_is_said_of_one_host_leaves_the_others_alone(
    jobs: Jobs, start: StartSupervisor, mongo_uri: str, database_name: str, tmp_path: Path
) -> None:
    start(pool={"workers": 1})
    elsewhere = ("unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh")
    if not shutil.which("unshare") or subprocess.run([*elsewhere, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not name a host")
    config = configuration(mongo_uri, database_name, pool={"workers": 1})
    other = RunningSupervisor(tmp_path / "other", config, within=elsewhere).start()
    try:
        controls = jobs.collection.database["controls"]
        controls.insert_one({"_id": f"drain:{HOST}", "kind": "drain", "host": HOST})
        controls.insert_one({"_id": "resize:elsewhere", "kind": "resize", "host": "elsewhere", "workers": 2})

        def told() -> dict[str, tuple[Any, ...]]:
            found = jobs.collection.database["supervisors"].find()
            return {each["host"]: (each["phase"], each["workers"], each["workers_from"]) for each in found}

        until(lambda: told() == {HOST: ("draining", 1, "file"), "elsewhere": ("running", 2, "control")}, 10, "both")
        assert jobs.run("ok")["attempts"][0]["host"] == "elsewhere"
    finally:
        other.end()


def test_a_drained_host_finishes_what_it_can_gives_back_the_rest_and_lives_on(
    command: CommandLine, jobs: Jobs, start: StartSupervisor, tmp_path: Path
) -> None:
    supervisor = start(shutdown={"drain_s": 3}, pool={"workers": 2})
    finish = tmp_path / "finish"
    long, short = jobs.insert("sleeps", {"seconds": 60}), jobs.insert("waits_for_file", {"path": str(finish)})
    jobs.wait(long, "processing")
    jobs.wait(short, "processing")
    draining = command.start("drain", "--host", HOST, "--reason", "new kernel", "--wait")
    supervisor.wait_for("supervisor.drained")
    finish.touch()
    out, err = draining.communicate(timeout=20)
    assert (draining.returncode, out.splitlines()) == (
        0,
        [f"{HOST} is drained; to go on: python -m supervisor undrain --host {HOST}", "no job runs there"],
    )
    assert err.splitlines()[0].startswith("waiting for ")
    assert jobs.get(short)["status"] == "completed"
    given_back = jobs.get(long)
    assert (given_back["status"], given_back["attempt"], given_back.get("lease")) == ("pending", 0, None)
    said = supervisor.wait_for("supervisor.drained")
    assert (said["host"], said["by"], said["reason"], said["jobs"]) == (HOST, "operator", "new kernel", 2)
    found = heartbeat(jobs)
    assert (found["phase"], found["drained"], found["workers"]) == ("draining", True, 2)
    (shown,) = command("status", "--json").json["controls"]
    assert (shown["kind"], shown["host"], shown["by"], shown["reason"]) == ("drain", HOST, "operator", "new kernel")

    jobs.collection.update_one({"_id": long}, {"$set": {"payload.seconds": 0}})
    assert supervisor.stop() == 0, "TERM ends a drained supervisor too"
    again = start(pool={"workers": 1})
    until_phase(jobs, "draining")
    again.edit("pool", workers=2)
    until_sized(jobs, 2, "file")
    assert jobs.get(long)["status"] == "pending", "a restart does not end a drain"
    assert command("undrain", "--host", HOST).out == f"{HOST} is drained no more\n"
    assert jobs.wait(long)["status"] == "completed"
    until_phase(jobs, "running")
    assert [entry["event"] for entry in again.log() if "drained" in entry["event"]] == [
        "supervisor.drained", "supervisor.undrained",
    ]  # fmt: skip
    assert not again.events("job.orphaned")
    drained = f"{HOST} is drained for 1.0s; to go on: python -m supervisor undrain --host {HOST}\n"
    assert command("drain", "--host", HOST, "--for", "1").out == drained
    again.wait_for("supervisor.undrained", count=2)


def test_a_drain_of_all_holds_beside_pauses_sizes_and_signals(
    command: CommandLine, jobs: Jobs, start: StartSupervisor
) -> None:
    supervisor = start(pool={"workers": 0})
    controls = jobs.collection.database["controls"]  # as any other program would
    controls.insert_one({"_id": "drain:*", "kind": "drain", "host": "*"})
    controls.insert_one({"_id": f"drain:{HOST}", "kind": "drain", "host": HOST, "reason": "by a script"})
    controls.insert_one({"_id": "pause:ok", "kind": "pause", "handler": "ok"})
    until_phase(jobs, "draining")
    supervisor.process.send_signal(signal.SIGTTIN)
    until_sized(jobs, 1, "signal")
    paused, waiting = jobs.insert("ok"), jobs.insert("noop")
    done = command("undrain", "--host", HOST)
    assert (done.out, done.err) == (
        f"{HOST} is drained no more\n", "warning: all hosts are drained; to go on: python -m supervisor undrain\n",
    )  # fmt: skip
    controls.delete_one({"_id": "pause:ok"})
    supervisor.wait_for("handler.resumed")
    assert {jobs.get(each)["status"] for each in (paused, waiting)} == {"pending"}
    assert command("undrain").out == "all hosts are drained no more\n"
    assert {jobs.wait(each)["status"] for each in (paused, waiting)} == {"completed"}
    assert command("undrain").out == "nothing was drained\n"
    supervisor.process.send_signal(signal.SIGTTOU)
    until_sized(jobs, 0, "signal")


def test_a_drain_that_is_ended_early_interrupts_nothing(
    command: CommandLine, jobs: Jobs, start: StartSupervisor, tmp_path: Path
) -> None:
    supervisor = start(shutdown={"drain_s": 60})
    finish = tmp_path / "finish"
    job_id = jobs.insert("waits_for_file", {"path": str(finish)})
    jobs.wait(job_id, "processing")
    waiting = command.start("drain", "--wait")
    supervisor.wait_for("supervisor.drained")
    interrupted = command.start("drain", "--wait")
    until(lambda: interrupted.stderr and interrupted.stderr.readline().startswith("waiting"), what="its wait")
    interrupted.send_signal(signal.SIGINT)
    out, err = interrupted.communicate(timeout=10)
    assert (interrupted.returncode, out, err) == (130, "all hosts are drained already, by operator\n", "interrupted\n")
    jobs.collection.database["controls"].delete_one({"_id": "drain:*"})
    _, err = waiting.communicate(timeout=10)
    assert (waiting.returncode, err.splitlines()[-1]) == (1, "error: the drain was ended by somebody else")
    finish.touch()
    job = jobs.wait(job_id)
    assert (job["status"], job["attempt"]) == ("completed", 1)


def test_what_is_said_of_hosts_without_a_supervisor_is_kept_for_them_with_a_warning(
    command: CommandLine, jobs: Jobs, start: StartSupervisor
) -> None:
    done = command("drain", "--wait")
    assert (done.code, done.out.splitlines()[-1]) == (0, "no job runs anywhere")
    assert done.err == "warning: no supervisor is running on this database; this is for those that start later\n"
    start(pool={"workers": 1})
    until_phase(jobs, "draining")
    mistyped = HOST + "x"
    done = command("resize", "2", "--host", mistyped)
    assert done.err == (
        f"warning: no supervisor is running on host '{mistyped}'; this is for those that start there later; "
        f"did you mean {HOST}?\n"
    )
    assert jobs.collection.database["controls"].find_one({"_id": f"resize:{mistyped}"})["workers"] == 2
    assert heartbeat(jobs)["workers"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resize", "many"], '\'many\': must be an integer from 0 to 1024, "auto" or "configured"'),
        (["resize", "2.5"], "'2.5': must be"),
        (["resize", "1025"], "'1025': must be"),
        (["resize", "٣"], "'٣': must be"),
        (["resize"], "Missing argument 'N|auto|configured' (see: python -m supervisor resize --help)"),
        (["drain", "--host", ""], "--host '': must be the name of a host, or \"*\" for all"),
        (["drain", "box1"], "Got unexpected extra argument (box1)"),
        (["undrain", "box1"], "Got unexpected extra argument (box1)"),
    ],
)
def test_a_wrong_control_is_refused_in_one_line(command: CommandLine, arguments: list[str], message: str) -> None:
    done = command(*arguments)
    assert done.code == 2
    assert done.error.startswith(message)


def test_a_cancellation_reaches_the_claim_that_it_was_meant_for_and_no_other(
    command: CommandLine, jobs: Jobs, start: StartSupervisor
) -> None:
    """A job that has ended, a lease of the same slot and process with another token: their slot runs another job."""
    start(pool={"workers": 1}, lease={"seconds": 60})
    ended = jobs.run("sleeps", {"seconds": 0})
    running = jobs.insert("sleeps", {"seconds": 3})
    lease = jobs.wait(running, "processing")["lease"]
    assert command("cancel", str(ended["_id"])).code == 1
    jobs.collection.update_one({"_id": ended["_id"]}, {"$set": {"cancel_requested": True}})
    stale = {**lease, "token": lease["token"] + 1}
    jobs.insert("sleeps", {}, _id=7, attempt=1, claims=2, lease=stale, cancel_requested=True)
    jobs.collection.update_one({"_id": 7}, {"$set": {"status": "processing"}})
    job = jobs.wait(running)
    assert (job["status"], job["attempt"], job["attempts"][0]["pid"]) == ("completed", 1, lease["pid"])

    last = jobs.insert("sleeps", {"seconds": 60})
    jobs.wait(last, "processing")
    assert command("cancel", str(last)).out.endswith("its supervisor has been asked to stop it\n")
    job = jobs.wait(last)
    assert (job["status"], job["error"]["kind"]) == ("cancelled", "cancelled")
