"""A database that is away at the start or for a while, and workers that cannot start."""

import json
import os
import signal
from pathlib import Path

import psutil

from tests.support.mongo import start_mongod, start_standalone
from tests.support.supervising import (
    MISBEHAVING,
    ROOT,
    RunningSupervisor,
    StartSupervisor,
    configuration,
    gone,
    jobs_in,
)


def last_line(supervisor: RunningSupervisor) -> str:
    return supervisor.output().strip().splitlines()[-1]


def test_no_database_at_start_is_one_line_and_exit_code_3(start: StartSupervisor) -> None:
    supervisor = start(ready=False, mongo={"uri": "mongodb://u:secret@127.0.0.1:9/?directConnection=true", "wait_s": 1})
    assert supervisor.process.wait(15) == 3
    line = last_line(supervisor)
    assert line.startswith(
        "error: MongoDB at mongodb://u:***@127.0.0.1:9/?directConnection=true did not answer within 1 s"
    )
    assert "Traceback" not in supervisor.output()
    assert "secret" not in supervisor.output()


def test_a_standalone_is_refused_with_the_reason(tmp_path: Path, start: StartSupervisor) -> None:
    mongod = start_standalone(tmp_path)
    try:
        supervisor = start(ready=False, mongo={"uri": mongod.uri})
        assert supervisor.process.wait(15) == 2
        assert "this mongod is a standalone" in last_line(supervisor)
        assert "--replSet" in last_line(supervisor)
    finally:
        mongod.stop()


def test_unsafe_options_are_refused_by_name(start: StartSupervisor, mongo_uri: str) -> None:
    for option in ("w=1", "retryWrites=false"):
        supervisor = start(ready=False, mongo={"uri": f"{mongo_uri}&{option}"})
        assert supervisor.process.wait(15) == 2
        assert option in last_line(supervisor)


def test_workers_that_cannot_start_are_exit_code_4_with_the_reason(
    tmp_path: Path, mongo_uri: str, database_name: str
) -> None:
    (tmp_path / "dying.py").write_text(
        "import os\nfrom supervisor import handler\n\n@handler.setup\ndef load():\n    os._exit(9)\n"
    )
    config = configuration(mongo_uri, database_name, pool={"modules": ["dying"]})
    supervisor = RunningSupervisor(
        tmp_path / "supervisor", config, environ={"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    ).start(ready=False)
    family = supervisor.family()
    assert supervisor.process.wait(30) == 4
    assert last_line(supervisor).startswith("error: no worker could be started in 5 tries")
    assert supervisor.output().count("worker.start_failed") == 5
    gone(family)


def test_a_handler_module_that_fails_to_import_does_not_keep_the_others_from_working(
    tmp_path: Path, mongo_uri: str, database_name: str
) -> None:
    (tmp_path / "broken_handlers.py").write_text("import no_such_module\n")
    config = configuration(mongo_uri, database_name, pool={"modules": ["broken_handlers", MISBEHAVING]})
    supervisor = RunningSupervisor(
        tmp_path / "supervisor", config, environ={"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    ).start()
    try:
        failed = supervisor.wait_for("handler.import_failed")
        assert (failed["module"], failed["reason"]) == (
            "broken_handlers",
            "ModuleNotFoundError: No module named 'no_such_module'",
        )
        with jobs_in(mongo_uri, database_name) as jobs:
            assert jobs.run("ok")["status"] == "completed"
    finally:
        supervisor.end()


def test_a_database_that_goes_away_loses_no_result(tmp_path: Path) -> None:
    mongod = start_mongod(tmp_path)
    supervisor = RunningSupervisor(
        tmp_path / "supervisor", configuration(mongod.uri, "outage", lease={"seconds": 60})
    ).start()
    try:
        with jobs_in(mongod.uri, "outage") as jobs:
            job_id = jobs.insert("sleeps", {"seconds": 2})
            job = jobs.wait(job_id, "processing")
            supervisor.wait_for("job.started")  # not only claimed
            mongod.kill()
            supervisor.wait_for("database.unavailable", timeout_s=20)
            mongod.restart()
            job = jobs.wait(job_id, within_s=40)
            assert (job["status"], job["attempt"], job["claims"]) == ("completed", 1, 1)
            assert supervisor.wait_for("database.back", timeout_s=20)
            assert jobs.run("ok", within_s=30)["status"] == "completed"
        assert supervisor.stop() == 0
    finally:
        supervisor.end()
        mongod.stop()


def test_a_paused_database_is_waited_out(tmp_path: Path) -> None:
    mongod = start_mongod(tmp_path)
    supervisor = RunningSupervisor(
        tmp_path / "supervisor", configuration(mongod.uri, "pause", lease={"seconds": 60})
    ).start()
    try:
        with jobs_in(mongod.uri, "pause") as jobs:
            job_id = jobs.insert("sleeps", {"seconds": 1})
            jobs.wait(job_id, "processing")
            supervisor.wait_for("job.started")  # not only claimed
            mongod.kill(signal.SIGSTOP)
            supervisor.wait_for("database.unavailable", timeout_s=20)
            mongod.kill(signal.SIGCONT)
            job = jobs.wait(job_id, within_s=40)
            assert (job["status"], job["attempt"], job["claims"]) == ("completed", 1, 1)
    finally:
        supervisor.end()
        mongod.stop()


def test_a_supervisor_that_cannot_renew_stops_its_jobs_before_the_lease_ends(tmp_path: Path) -> None:
    mongod = start_mongod(tmp_path)
    supervisor = RunningSupervisor(
        tmp_path / "supervisor", configuration(mongod.uri, "partition", lease={"seconds": 4})
    ).start()
    try:
        with jobs_in(mongod.uri, "partition") as jobs:
            job_id = jobs.insert("sleeps", {"seconds": 60})
            pid = jobs.wait(job_id, "processing")["lease"]["pid"]
            supervisor.wait_for("job.started")  # not only claimed
            mongod.kill(signal.SIGSTOP)
            supervisor.wait_for("lease.expiring", timeout_s=10)
            gone([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout_s=1)
            mongod.kill(signal.SIGCONT)
            jobs.collection.update_one({"_id": job_id}, {"$set": {"payload.seconds": 0}})
            assert jobs.wait(job_id, within_s=30)["status"] == "completed"
    finally:
        supervisor.end()
        mongod.stop()


def test_term_while_the_database_is_away_ends_all_the_same(tmp_path: Path) -> None:
    mongod = start_mongod(tmp_path)
    config = configuration(mongod.uri, "gone", shutdown={"drain_s": 0})
    supervisor = RunningSupervisor(tmp_path / "supervisor", config).start()
    try:
        with jobs_in(mongod.uri, "gone") as jobs:
            jobs.insert("sleeps", {"seconds": 60})
            supervisor.wait_for("job.started")
        mongod.kill()
        supervisor.wait_for("database.unavailable", timeout_s=20)
        family = supervisor.family()
        assert supervisor.stop(timeout_s=25) == 0
        gone(family)
        assert supervisor.events("job.unrecorded")
    finally:
        supervisor.end()
        mongod.stop()


def test_a_database_that_stays_away_is_given_up_with_exit_code_3_and_the_loss_is_named(tmp_path: Path) -> None:
    mongod = start_mongod(tmp_path)
    config = configuration(mongod.uri, "given_up", mongo={"give_up_s": 2}, lease={"seconds": 60})
    supervisor = RunningSupervisor(tmp_path / "supervisor", config).start()
    try:
        with jobs_in(mongod.uri, "given_up") as jobs:
            finishing, running = jobs.insert("sleeps", {"seconds": 1}), jobs.insert("sleeps", {"seconds": 60})
            supervisor.wait_for("job.started", count=2)
        family = supervisor.family()
        mongod.kill()
        assert supervisor.process.wait(30) == 3
        gone(family)
        said = f"error: MongoDB at {mongod.uri} has not answered for 2 s (mongo.give_up_s): "
        assert last_line(supervisor).startswith(said)
        *logged, _said = supervisor.output().splitlines()
        assert "Traceback" not in supervisor.output()
        events = [json.loads(line) for line in logged]
        assert [entry["silent_s"] for entry in events if entry["event"] == "database.given_up"] == [2]
        lost = {entry["job_id"]: entry["finished"] for entry in events if entry["event"] == "job.unrecorded"}
        assert lost == {str(finishing): True, str(running): False}
    finally:
        supervisor.end()
        mongod.stop()
