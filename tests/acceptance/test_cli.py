"""The command line from outside: what it does, what it prints, and with which code it ends."""

import signal
from datetime import UTC, datetime, timedelta

from tests.support.command_line import NOWHERE
from tests.support.failpoints import failing
from tests.support.supervising import Jobs
from tests.support.until import until

LEASE = {
    "token": 1,
    "supervisor": "s",
    "host": "h",
    "slot": 0,
    "pid": 1,
    "expires_at": datetime(2030, 1, 1, tzinfo=UTC),
}


NO_JOB = "no job has the id 'nope' (to list jobs: python -m supervisor jobs)"


def test_debug_adds_the_traceback(command):
    done = command("job", "nope", "--debug")
    assert done.code == 1
    assert "Traceback (most recent call last)" in done.err
    assert done.err.splitlines()[-1] == "error: no job has the id 'nope' (to list jobs: python -m supervisor jobs)"


def test_global_options_stand_before_or_behind_the_command(command, database_name, mongo_uri):
    (command.folder / "config.toml").unlink()
    environ = {"SUPERVISOR_MONGO__DATABASE": database_name}
    assert command("--mongo", mongo_uri, "jobs", "--json", environ=environ).json == []
    assert command("jobs", "--json", "--mongo", mongo_uri, environ=environ).json == []


def test_an_enqueued_job_is_what_was_asked_for(command, jobs: Jobs):
    command.folder.joinpath("in.json").write_text('{"at": {"$date": "2026-03-01T12:00:00Z"}}')
    options = ("--priority", "7", "--run-at", "2030-01-01T10:00+02:00", "--unique", "u", "--group", "g")
    limits = ("--timeout-s", "2.5", "--max-attempts", "9", "--then", "noop", "--then", "ok")
    done = command("enqueue", "ok", "--payload", "@in.json", *options, *limits)
    assert (done.code, done.err) == (0, "")
    (job,) = jobs.collection.find()
    assert done.out == f"{job.pop('_id')}\n"
    assert abs(job.pop("created_at") - datetime.now(UTC)) < timedelta(minutes=1)
    assert job == {
        "handler": "ok", "status": "pending", "payload": {"at": datetime(2026, 3, 1, 12, tzinfo=UTC)}, "priority": 7,
        "run_at": datetime(2030, 1, 1, 8, tzinfo=UTC), "unique_key": "u", "group_key": "g", "timeout_s": 2.5,
        "max_attempts": 9, "then": [{"handler": "noop", "payload": {}}, {"handler": "ok", "payload": {}}],
    }  # fmt: skip


def test_the_first_job_finds_the_collection_prepared(command, jobs: Jobs):
    first = command("enqueue", "ok", "--unique", "u").out.strip()
    done = command("enqueue", "ok", "--unique", "u")
    assert done.code == 1
    assert done.error == f"a job with unique_key 'u' is already pending or processing: {first}"
    assert "unique_key" in jobs.collection.index_information()


def test_a_file_is_uploaded_to_where_the_handler_looks_for_it(command, jobs: Jobs):
    command.configure(pool={"modules": ["tests.support.misbehaving", "handlers"]})
    source = command.folder / "scan.png"
    source.write_bytes(b"x" * 300_000)
    assert command("enqueue", "files", "--file", "scan.png").code == 0
    assert command("enqueue", "ocr", "--file", "scan.png").code == 0
    files = jobs.collection.database["files.files"]
    payloads = {job["handler"]: job["payload"] for job in jobs.collection.find()}
    assert files.find_one({"_id": payloads["files"]["file_id"]})["length"] == 300_000
    assert files.find_one({"_id": payloads["ocr"]["source"]["file_id"]})["filename"] == "scan.png"


def test_a_refused_job_leaves_no_file_behind(command, jobs: Jobs):
    command("enqueue", "ok", "--unique", "u")
    assert command("enqueue", "ok", "--unique", "u", "--file", "config.toml").code == 1
    assert command("enqueue", "double", "--file", "config.toml").code == 2
    assert jobs.collection.database["files.files"].count_documents({}) == 0


def test_a_payload_comes_from_standard_input(command, jobs: Jobs):
    assert command("enqueue", "double", "--payload", "@-", stdin='{"n": 4}').code == 0
    assert jobs.collection.find_one()["payload"] == {"n": 4}


def test_modules_that_cannot_be_imported_matter_only_for_their_handlers(command):
    command.configure(pool={"modules": ["tests.support.misbehaving", "nix_da"]})
    done = command("enqueue", "ok", "--json")
    assert (done.code, list(done.json)) == (0, ["id"])
    assert done.err.startswith("warning: module nix_da cannot be imported: ModuleNotFoundError: No module named")
    done = command("enqueue", "nix")
    assert done.code == 2
    assert "module nix_da cannot be imported" in done.error


def test_waiting_prints_the_result_and_only_that(command, start):
    start()
    done = command("enqueue", "double", "--payload", '{"n": 4}', "--wait")
    assert (done.code, done.err, done.json["n"]) == (0, "", 8)
    done = command("enqueue", "large", "--payload", '{"bytes": 400000}', "--wait")
    assert (done.code, len(done.json["text"])) == (0, 400_000)
    assert command("enqueue", "nothing", "--wait").out == "null\n"
    job = command("enqueue", "ok", "--wait", "--json").json
    assert (job["status"], job["result"]) == ("completed", {"echo": {}})


def test_waiting_for_a_job_that_fails_is_code_1_with_its_reason(command, jobs: Jobs, start):
    start()
    done = command("enqueue", "permanent", "--wait")
    assert (done.code, done.out) == (1, "")
    autopsy = f"; how it died: python -m supervisor autopsy {jobs.collection.find_one()['_id']}"
    assert done.error.endswith(f"failed: permanent: no_use: never mind{autopsy}")
    done = command("enqueue", "raises", "--max-attempts", "1", "--wait", "--json")
    assert (done.code, done.json["error"]["message"]) == (1, "as ordered")


def test_waiting_without_a_supervisor_says_so_and_waits_on(command, jobs: Jobs):
    process = command.start("enqueue", "ok", "--wait")
    job = until(lambda: jobs.collection.find_one({}), 20)
    assert process.poll() is None
    jobs.collection.update_one({"_id": job["_id"]}, {"$set": {"status": "cancelled"}})
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (1, "")
    assert err.splitlines() == [
        "warning: no supervisor is running on this database; start one with: python -m supervisor",
        f"error: job {job['_id']} was cancelled",
    ]


def test_an_interrupted_wait_is_code_130(command, jobs: Jobs):
    process = command.start("enqueue", "ok", "--wait")
    until(lambda: jobs.collection.find_one({}), 20)
    assert "no supervisor" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err.splitlines()) == (130, ["interrupted"])


def test_jobs_are_listed_as_text_and_as_json(command, jobs: Jobs):
    error = {"kind": "timeout", "message": "ran longer than 5 s\nand was killed"}
    jobs.insert("ok", {"a": 1}, _id="first", attempt=0)
    made = datetime.now(UTC) - timedelta(hours=5)
    told = {"attempt": 3, "error": error, "created_at": made, "usage": {"run_s": 5.02}}
    jobs.collection.insert_one({"_id": "second", "handler": "double", "status": "failed", **told})
    lines = command("jobs").out.splitlines()
    assert lines[0].split() == ["id", "handler", "status", "attempt", "age", "run", "error"]
    assert " ".join(lines[1].split()) == "second double failed 3 5h 5.0s timeout: ran longer than 5 s and was killed"
    assert lines[2].split()[:4] == ["first", "ok", "pending", "0"]
    assert [job["_id"] for job in command("jobs", "--json").json] == ["second", "first"]
    (found,) = command("jobs", "--json", "--status", "failed", "--handler", "double").json
    assert found["_id"] == "second"
    assert len(command("jobs", "--json", "--limit", "1").json) == 1


def test_no_jobs_are_said_on_stderr(command, jobs: Jobs):
    done = command("jobs")
    assert (done.code, done.out, done.err) == (0, "", "no jobs\n")
    jobs.insert("ok")
    assert command("jobs", "--status", "failed", "--handler", "ok").err == "no jobs\n"
    assert command("jobs", "--handler", "oky").err == "no jobs; no job at all names the handler oky\n"


def test_of_a_job_that_has_not_run_one_is_sent_to_why(command, jobs: Jobs):
    job_id = jobs.insert("ok")
    why = f"; why: python -m supervisor why {job_id}"
    assert command("stack", str(job_id)).error == f"job {job_id} is pending, not running{why}"
    assert command("logs", str(job_id)).error == f"job {job_id} is pending and no attempt of it has ended yet{why}"


def test_a_job_is_shown_with_all_that_happened(command, jobs: Jobs, start):
    start()
    job = jobs.run("prints")
    lines = command("job", str(job["_id"])).out.splitlines()
    assert lines[0] == f"job {job['_id']}"
    assert "  status            completed" in lines
    assert any(line.startswith("  attempt 1: completed after ") for line in lines)
    assert "      from a child" in lines
    failed = jobs.run("raises", {"message": "\x1b[31mred"}, max_attempts=1)
    shown = command("job", str(failed["_id"])).out
    assert r"error: exception: \x1b[31mred" in shown
    assert "Traceback" in shown
    document = command("job", str(failed["_id"]), "--json").json
    assert (document["_id"], document["attempts"][0]["n"]) == (str(failed["_id"]), 1)


def test_no_such_job_is_code_1(command):
    for arguments in (["job", "nope"], ["retry", "nope"], ["cancel", "nope"]):
        done = command(*arguments)
        assert (done.code, done.out, done.error) == (1, "", NO_JOB)


def test_retry_and_cancel_act_on_each_job_that_allows_it(command, jobs: Jobs):
    for name, status in (("bad", "failed"), ("done", "completed"), ("new", "pending")):
        jobs.collection.insert_one({"_id": name, "handler": "ok", "status": status})
    jobs.collection.insert_one({"_id": "busy", "handler": "ok", "status": "processing", "lease": LEASE})
    done = command("retry", "bad", "done")
    assert (done.code, done.out) == (1, "bad is pending again\n")
    assert done.error == "job done is completed; only failed and cancelled jobs can be retried"
    done = command("cancel", "new", "busy", "done")
    assert done.code == 1
    assert done.out.splitlines() == [
        "new is cancelled",
        "busy is processing; its supervisor has been asked to stop it",
    ]
    assert done.error == "job done is completed already and cannot be cancelled"
    assert command("retry", "new").code == 0


def test_retry_of_all_failed_jobs_of_a_handler(command, jobs: Jobs):
    for handler in ("ok", "ok", "double"):
        jobs.collection.insert_one({"handler": handler, "status": "failed"})
    done = command("retry", "--status", "failed", "--handler", "ok")
    assert (done.code, done.out, done.err) == (0, "retried 2 failed jobs\n", "")
    assert jobs.collection.count_documents({"status": "failed"}) == 1


def test_jobs_are_found_by_what_is_known_of_them_page_by_page(command, jobs: Jobs):
    ended = {"status": "failed", "error": {"kind": "timeout"}, "batch_id": 7}
    for hours in range(1, 6):
        at = datetime.now(UTC) - timedelta(hours=hours)
        jobs.collection.insert_one({"_id": f"job-{hours}", "handler": "ok", "finished_at": at, **ended})
    done = command("jobs", "--batch", "7", "--error", "timeout", "--limit", "2")
    assert [line.split()[0] for line in done.out.splitlines()] == ["id", "job-5", "job-4"]
    assert done.err == "-- there are more: --limit 20, or --after job-4\n"
    done = command("jobs", "--batch", "7", "--limit", "3", "--after", "job-4")
    assert ([line.split()[0] for line in done.out.splitlines()], done.err) == (["id", "job-3", "job-2", "job-1"], "")
    done = command("jobs", "--since", "3.5h", "--limit", "2")
    assert [line.split()[0] for line in done.out.splitlines()] == ["id", "job-1", "job-2"]
    assert done.err.startswith("-- there are more: --limit 20, or --until 20")
    go_on = done.err.split()[-1]
    at = datetime.now(UTC)
    jobs.collection.insert_many({"handler": "ok", "finished_at": at, "status": "cancelled"} for _ in range(3))
    assert command("jobs", "--since", "1h", "--limit", "2").err == "-- there are more: --limit 20\n"
    jobs.collection.delete_many({"status": "cancelled"})
    found = command("jobs", "--since", "3.5h", "--until", go_on, "--json").json
    assert [job["_id"] for job in found] == ["job-3"]


def test_many_jobs_are_counted_before_they_are_changed(command, jobs: Jobs):
    for number in range(3):
        jobs.collection.insert_one({"handler": "ok", "status": "failed", "error": {"kind": "crash"}, "n": number})
        jobs.insert("ok", batch_id="b")
    jobs.collection.insert_one({"handler": "ok", "status": "processing", "lease": LEASE, "batch_id": "b"})
    before = list(jobs.collection.find())
    crashed = ("--status", "failed", "--error", "crash")
    assert command("retry", *crashed, "--dry-run").out == "3 failed jobs would be retried\n"
    done = command("cancel", "--batch", "b", "--dry-run")
    assert done.out == "3 pending jobs and 1 processing job would be cancelled\n"
    assert list(jobs.collection.find()) == before
    done = command("cancel", "--batch", "b")
    assert done.out.splitlines() == [
        "cancelled 3 pending jobs", "1 processing job: supervisors have been asked to stop them",
    ]  # fmt: skip
    assert command("retry", *crashed).out == "retried 3 failed jobs\n"
    assert command("cancel", "--status", "pending").out == "cancelled 3 pending jobs\n"


def test_a_search_that_takes_too_long_says_how_to_narrow_it(command, jobs: Jobs, mongod):
    jobs.insert("ok")
    with failing(mongod, ["find"], errorCode=50, namespace=jobs.collection.full_name):
        done = command("jobs", "--unique", "x")
    assert (done.code, done.out) == (1, "")
    assert done.error.startswith("the database has not found these jobs within the 5 s that a call may take; narrow it")


def test_status_shows_counts_supervisors_and_slots(command, jobs: Jobs, start):
    assert "no supervisor is running on this database" in command("status").out
    supervisor = start()
    busy = jobs.insert("sleeps", {"seconds": 30})
    jobs.wait(busy, "processing")
    until(lambda: str(busy) in command("status").out, 20, "the job to stand in a slot")
    found = command("status", "--json").json
    assert found["counts"]["processing"] == found["handlers"]["sleeps"]["processing"] == 1
    assert [(each["pid"], each["phase"], each["alive"]) for each in found["supervisors"]] == [
        (supervisor.pid, "running", True)
    ]
    supervisors = jobs.collection.database["supervisors"]
    jobs.run("ok")
    until(lambda: supervisors.find_one()["recent"] and _cpu_of(supervisors, busy) is not None, 20, "figures")
    (document,) = supervisors.find()
    assert [(each["handler"], each["minutes"], each["ended"]) for each in document["recent"]] == [
        ("ok", 1, {"completed": 1}), ("ok", 5, {"completed": 1}),
    ]  # fmt: skip
    (sleeps,) = [each for each in document["handlers"] if each["handler"] == "sleeps"]
    assert (sleeps["claimed"], sleeps["max_running"], sleeps["running"]) == (True, None, 1)
    assert set(document["machine"]) == {"load_1m", "cores", "memory_available_mb"}
    supervisors.insert_one(
        {"_id": "dead", "host": "zz", "heartbeat_at": datetime.now(UTC) - timedelta(minutes=3), "slots": []}
    )
    (line,) = [line for line in command("status").out.splitlines() if line.startswith("dead")]
    assert line.endswith("3m ago, gone?")


def _cpu_of(supervisors, job_id):
    return next(slot["cpu"] for slot in supervisors.find_one()["slots"] if slot["job_id"] == job_id)


def test_init_prepares_and_may_be_repeated(command, jobs: Jobs):
    done = command("init")
    assert (done.code, done.err) == (0, "")
    assert "created the index claim: " in done.out
    assert {"claim", "lease", "unique_key"} <= set(jobs.collection.index_information())
    assert "created" not in command("init").out


def test_check_is_content_with_what_is_well(command):
    command("init")
    done = command("check")
    assert (done.code, done.err) == (0, "")
    passed = [line.partition(": ")[2] for line in done.out.splitlines() if line.startswith("ok: ")]
    assert [line.partition(":")[0] for line in passed] == [
        "configuration", "handlers", "database", "indexes",
    ]  # fmt: skip
    assert command("check", "--json").json["ok"] is True


def test_check_says_what_set_each_key_and_hides_what_is_secret(command, jobs: Jobs):
    command.configure(http={"token": "s3cret"}, lease={"seconds": 45})
    jobs.collection.database["controls"].insert_many([
        {"_id": "pause:ok", "kind": "pause", "handler": "ok", "reason": "empty pages"},
        {"_id": "resize:*", "kind": "resize", "host": "*", "workers": 3},
        {"_id": "drain:*", "kind": "drain", "host": 7},
    ])  # fmt: skip
    environ = {"SUPERVISOR_RETRY__MAX_ATTEMPTS": "7"}
    done = command("--workers", "9", "check", "--json", environ=environ)
    assert "s3cret" not in done.out
    said = {each["key"]: (each["value"], each["from"], each["name"]) for each in done.json["config"]}
    assert (said["pool.workers"], said["lease.seconds"], said["http.token"], said["retry.max_attempts"]) == (
        (9, "flag", "--workers"), (45, "file", ""), ("***", "file", ""),
        (7, "environment", "SUPERVISOR_RETRY__MAX_ATTEMPTS"),
    )  # fmt: skip
    assert "retry.max_crashes" not in said, "that is at its default"
    assert [(each["kind"], each["host"], each["workers"]) for each in done.json["controls"]] == [("resize", "*", 3)]
    assert [each["reason"] for each in done.json["pauses"]] == ["empty pages"]
    assert done.json["warnings"] == [
        "controls: drain:* is passed over: host: is '7', must be the name of a host or \"*\""
    ]
    shown = command("--workers", "9", "check", environ=environ).out.splitlines()
    assert any(line.split() == ["pool.workers", "9", "flag", "--workers"] for line in shown)
    assert any(line.split()[:3] == ["resize", "3", "all"] for line in shown)


def test_check_names_missing_indexes_of_a_collection_with_jobs(command, jobs: Jobs):
    assert command("check").code == 0  # the first job or supervisor will make them
    jobs.insert("ok")
    done = command("check")
    assert done.code == 2
    lines = [line for line in done.err.splitlines() if "lacks the index" in line]
    assert "lacks the index 'claim'" in lines[0]
    assert all(line.startswith("error: ") and line.endswith("run: python -m supervisor init") for line in lines)
    command("init")
    assert command("check").code == 0


def test_check_names_all_problems_at_once(command):
    command.configure(
        pool={"workers": "four", "modules": ["nix_da"]}, retry={"max_attempts": 0}, mongo={"uri": NOWHERE}
    )
    done = command("check")
    assert done.code == 2
    assert [line for line in done.err.splitlines() if not line.startswith("error: ")] == []
    for part in ("workers", "max_attempts", "module nix_da cannot be imported", "did not answer within 5 s"):
        assert part in done.err
    found = command("check", "--json")
    assert (found.code, found.json["ok"], len(found.json["problems"])) == (2, False, 4)


def test_check_looks_at_no_other_database_than_the_configured_one(command):
    (command.folder / "config.toml").write_text("[pool]\nworkers = many\n")
    found = command("check", "--json")
    assert (found.code, len(found.json["problems"]), found.json["passed"]) == (2, 1, [])
    assert found.json["problems"][0].startswith("config.toml, line 2, column ")
    assert found.json["warnings"] == ["handlers and database are not checked: the file that names them cannot be read"]


def test_check_warns_of_handlers_that_are_not_here(command):
    command.configure(pool={"claim": ["ok", "duoble"]})
    done = command("check")
    assert done.code == 0
    assert "[pool] claim names 'duoble': no handler 'duoble' is registered here; did you mean double?" in done.err


def test_the_end_of_whoever_reads_is_no_error(command, jobs: Jobs):
    error = {"message": "x" * 500}
    jobs.collection.insert_many({"handler": "ok", "status": "failed", "error": error} for _ in range(1000))
    with command.start("jobs", "--json", "--limit", "1000") as process:
        assert process.stdout.read(1) == "["
        process.stdout.close()
        assert (process.wait(20), process.stderr.read()) == (0, "")


def test_run_without_a_command_runs_the_supervisor(command, jobs: Jobs):
    process = command.start()
    try:
        assert jobs.run("ok")["status"] == "completed"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0
