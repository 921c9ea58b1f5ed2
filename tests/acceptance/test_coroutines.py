"""Coroutine handlers in a supervisor: what holds for workers holds for them, with the differences that are told."""

import time
from pathlib import Path
from typing import Any

import gridfs
import pytest
from bson import json_util

from tests.support.supervising import MISBEHAVING, Jobs, RunningSupervisor, StartSupervisor
from tests.support.until import until

COROUTINES = "tests.support.coroutines"
SETTINGS = {"handlers__c_whoami__settings": {"model": "small"}, "handlers__c_nothing": {"max_running": 3}}

ENDINGS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # handler, payload, what the document must say
    ("c_annotated_as_in_a_worker", {"n": 4}, {"status": "completed", "attempt": 1, "result": {"n": 8}}),
    ("c_nothing", {}, {"status": "completed", "result": None}),
    ("c_retries", {"until": 3}, {"status": "completed", "attempt": 3, "result": {"attempt": 3}}),
    (
        "c_raises",
        {"error": "value"},
        {"kind": "exception", "attempt": 3, "type": "ValueError", "message": "as ordered"},
    ),
    ("c_raises", {"error": "exit"}, {"kind": "exception", "type": "SystemExit"}),
    ("c_raises", {"error": "interrupt"}, {"kind": "exception", "type": "KeyboardInterrupt"}),
    ("c_raises", {"error": "cancelled"}, {"kind": "exception", "type": "CancelledError"}),
    ("c_raises", {"error": "stop"}, {"kind": "exception", "type": "RuntimeError"}),
    ("c_raises", {"error": "limit"}, {"kind": "exception", "type": "JobTimeout"}),
    ("c_raises", {"error": "permanent"}, {"kind": "permanent", "attempt": 1, "code": "no_use"}),
    ("c_annotated_as_in_a_worker", {}, {"kind": "invalid", "attempt": 0, "message": "payload: n: Field required"}),
    ("c_unstorable", {}, {"kind": "result", "attempt": 1}),
]


@pytest.fixture(scope="module")
def jobs(module_jobs: Jobs) -> Jobs:
    return module_jobs


@pytest.fixture(scope="module")
def supervisor(start_for_module: StartSupervisor) -> RunningSupervisor:
    """One supervisor without a worker for all tests here: whatever a coroutine does, the next must find it well."""
    return start_for_module(pool={"modules": [COROUTINES, MISBEHAVING], "workers": 0}, **SETTINGS)


def test_every_ending_of_a_coroutine_is_recorded_as_the_contract_says(
    supervisor: RunningSupervisor, jobs: Jobs
) -> None:
    started = [(jobs.insert(handler, payload), handler, payload, expected) for handler, payload, expected in ENDINGS]
    for job_id, handler, payload, expected in started:
        job = jobs.wait(job_id, within_s=60)
        seen = {**{key: job.get(key) for key in ("status", "attempt", "result")}, **(job.get("error") or {})}
        status = "failed" if "kind" in expected else "completed"
        wanted = {"status": status, **expected}
        assert {key: seen.get(key) for key in wanted} == wanted, (handler, payload)
        assert "lease" not in job
        assert job["finished_at"] >= job["started_at"] >= job["created_at"]
    assert supervisor.process.poll() is None


def test_it_runs_in_the_supervisor_without_any_worker(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    job = jobs.run("c_whoami")
    result = job["result"]
    assert (result["pid"], result["id"], result["handler"]) == (supervisor.pid, job["_id"], "c_whoami")
    assert (result["attempt"], result["token"], result["settings"]) == (1, 1, {"model": "small"})
    assert 0 < result["deadline"] <= 600
    assert (job["attempts"][0]["slot"], job["attempts"][0]["pid"]) == (-1, supervisor.pid)
    sync = jobs.insert("ok")
    assert jobs.run("c_nothing")["status"] == "completed"
    assert jobs.get(sync)["status"] == "pending", "there is no worker for it"
    jobs.collection.delete_one({"_id": sync})


def test_setup_hooks_run_once_and_where_they_belong(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    result = jobs.run("c_whoami")["result"]
    assert (result["setups"], result["own_loop"], result["in_main_thread"]) == (1, True, 0)


def test_its_lease_names_the_process_and_a_place_and_the_heartbeat_lists_it(
    supervisor: RunningSupervisor, jobs: Jobs
) -> None:
    first, second = (jobs.insert("c_sleeps", {"seconds": 60}) for _ in range(2))
    leases = [jobs.wait(job_id, "processing")["lease"] for job_id in (first, second)]
    assert sorted(lease["slot"] for lease in leases) == [-2, -1]
    assert {lease["pid"] for lease in leases} == {supervisor.pid}
    supervisors = jobs.collection.database["supervisors"]

    def listed() -> Any:
        found = supervisors.find_one({"pid": supervisor.pid}) or {}
        running = found.get("coroutines", [])
        return found if {each["job_id"] for each in running} == {first, second} else None

    heartbeat = until(listed, what="both jobs in the heartbeat")
    assert heartbeat["slots"] == []
    assert {(each["handler"], each["state"]) for each in heartbeat["coroutines"]} == {("c_sleeps", "running")}
    entry = next(each for each in heartbeat["handlers"] if each["handler"] == "c_sleeps")
    assert (entry["coroutine"], entry["running"], entry["max_running"]) == (True, 2, 1000)
    for job_id in (first, second):
        jobs.collection.update_one({"_id": job_id}, {"$set": {"cancel_requested": True}})
        job = jobs.wait(job_id)
        assert (job["status"], job["error"]["kind"]) == ("cancelled", "cancelled")


def test_the_time_limit_is_a_cancellation_that_says_why(
    supervisor: RunningSupervisor, jobs: Jobs, tmp_path: Path
) -> None:
    job = jobs.run("c_cleans_up", {"folder": str(tmp_path)}, timeout_s=0.3, max_attempts=1)
    assert (job["status"], job["error"]["kind"], job["error"]["type"]) == ("failed", "timeout", "JobTimeout")
    assert job["error"]["message"] == "ran longer than 0.3 s and stopped"
    assert "in cleans_up" in job["attempts"][0]["evidence"]["stack"]
    assert (tmp_path / "stop").read_text() == "JobTimeout"
    assert (tmp_path / "child").exists(), "the task group ended its tasks as at any cancellation"
    job = jobs.run("c_catches_limit", timeout_s=0.3)
    assert (job["status"], job["result"]) == ("completed", {"caught": "JobTimeout", "is_cancellation": True})


def test_what_ignores_the_order_to_stop_keeps_its_lease_until_it_has_ended(
    supervisor: RunningSupervisor, jobs: Jobs, tmp_path: Path
) -> None:
    end = tmp_path / "end"
    job_id = jobs.insert("c_ignores_orders", {"until": str(end)}, timeout_s=0.3, max_attempts=2)
    said = supervisor.wait_for("job.unstoppable")
    assert (said["job_id"], said["ordered"], said["level"]) == (str(job_id), "timeout", "error")
    assert "in ignores_orders" in said["stack"]
    until(
        lambda: supervisor.events("job.log")[-1]["fields"].get("orders", 0) >= 3, what="it to be told again and again"
    )
    lease = jobs.get(job_id)["lease"]
    until(lambda: jobs.get(job_id)["lease"]["expires_at"] > lease["expires_at"], what="its lease to be renewed")
    job = jobs.get(job_id)
    assert (job["status"], job["attempt"], job["lease"]["token"]) == ("processing", 1, 1)
    end.touch()
    job = jobs.wait(job_id)
    first = job["attempts"][0]
    assert (first["outcome"], job["status"]) == ("timeout", "completed"), "only then it is tried again"
    assert first["error"]["message"].startswith("ran longer than 0.3 s and ended only ")
    assert jobs.run("c_nothing")["status"] == "completed"


def test_a_blocking_call_is_named_with_its_place_and_does_not_outwit_the_time_limit(
    supervisor: RunningSupervisor, jobs: Jobs
) -> None:
    job_id = jobs.insert("c_blocks", {"seconds": 2}, timeout_s=0.5, max_attempts=1)
    job = jobs.wait(job_id)
    said = next(each for each in supervisor.events("loop.blocked") if each.get("job_id") == str(job_id))
    assert (said["handler"], said["level"]) == ("c_blocks", "warning")
    assert "in blocks" in said["where"]
    file, line = said["where"].partition(" ")[0].rsplit(":", 1)
    assert "time.sleep" in Path(file).read_text().splitlines()[int(line) - 1]
    assert supervisor.wait_for("loop.unblocked")["blocked_s"] >= 1.5
    assert (job["status"], job["error"]["kind"]) == ("failed", "timeout")
    assert "and ended only " in job["error"]["message"]


def test_a_blocking_call_in_a_task_of_a_handler_or_in_c_code_is_named_too(
    supervisor: RunningSupervisor, jobs: Jobs
) -> None:
    told = len(supervisor.events("loop.blocked"))
    jobs.run("c_blocks_in_a_task", {"seconds": 0.6})
    if told == len(supervisor.events("loop.blocked")):  # the very place has been told just before
        assert any("in blocks" in each.get("where", "") for each in supervisor.events("loop.blocked"))
    told = len(supervisor.events("loop.blocked"))
    jobs.run("c_holds_the_lock", {"n": 23})
    said = supervisor.wait_for("loop.blocked", count=told + 1)
    assert (said["handler"], "interpreter lock" in said["hint"]) == ("c_holds_the_lock", True)


def test_a_thousand_wait_at_once(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    many = [{"handler": "c_sleeps", "payload": {"seconds": 6}, "status": "pending"} for _ in range(1000)]
    ids = jobs.collection.insert_many(many).inserted_ids
    jobs.wait_for_all(timeout_s=100)
    done = list(jobs.collection.find({"_id": {"$in": ids}}, {"status": 1, "attempt": 1, "result": 1}))
    assert {(job["status"], job["attempt"]) for job in done} == {("completed", 1)}
    assert max(job["result"]["most"] for job in done) > 900, "they waited together"


def test_a_cap_of_a_coroutine_handler_holds(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    ids = [jobs.insert("c_capped", {"seconds": 0.3}) for _ in range(7)]
    running = {"_id": {"$in": ids}, "status": "processing"}
    seen = 0
    while jobs.collection.count_documents({"_id": {"$in": ids}, "status": "completed"}) < len(ids):
        seen = max(seen, jobs.collection.count_documents(running))
        time.sleep(0.01)
    assert seen == 2


def test_the_driver_is_mended_with_all_else_in_the_process(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    assert jobs.run("c_driver")["result"] == {"mended": True}


def test_progress_and_log_of_a_coroutine_are_kept_from_any_thread(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    job_id = jobs.insert("c_progress", {"pause_s": 0.4})
    seen = set()
    while (job := jobs.get(job_id))["status"] != "completed":
        seen.add((job.get("progress") or {}).get("done"))
    assert len(seen & {1, 2, 3, 4, 5}) >= 2
    assert (job["progress"]["done"], job["progress"]["message"]) == (6, "from a thread")
    job = jobs.run("c_logs")
    assert '"event": "counted"' in job["attempts"][0]["logs"]
    assert '"event": "from a thread"' in job["attempts"][0]["logs"]
    entry = next(each for each in supervisor.events("job.log") if each["job_id"] == str(job["_id"]))
    assert (entry["message"], entry["fields"]) == ("counted", {"pages": 3})


def test_files_and_results_of_any_size_pass(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    bucket = gridfs.GridFSBucket(jobs.collection.database, bucket_name="files")
    file_id = bucket.upload_from_stream("in.bin", b"abc" * 100_000)
    job = jobs.run("c_files", {"file_id": file_id})
    assert job["result"]["bytes"] == 300_000
    assert bucket.open_download_stream(job["result"]["copy"]).read() == (b"abc" * 100_000)[::-1]
    missing = jobs.run("c_files", {"file_id": 42})
    assert (missing["error"]["kind"], missing["error"]["code"]) == ("permanent", "not_found")

    job_id = jobs.insert("c_large", {"bytes": 3_000_000}, then=[{"handler": "c_follows"}])
    job = jobs.wait(job_id)
    stored = bucket.open_download_stream(job["result_file"]).read()
    assert json_util.loads(stored)["text"] == "x" * 3_000_000
    child = jobs.wait(job["children"][0])
    assert child["status"] == "completed"
    assert json_util.loads(bucket.open_download_stream(child["result_file"]).read())["parent"]["text"][:3] == "xxx"


def test_a_coroutine_does_things_once_and_enqueues_others(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    job = jobs.run("c_once", {"key": "greeting"})
    assert (job["status"], job["attempt"], job["result"]["todo"]) == ("completed", 3, False)
    (child,) = jobs.collection.find({"handler": "c_nothing", "payload.from": job["_id"]})
    assert child["_id"] == job["result"]["child"]


@pytest.mark.parametrize(
    ("way", "method"),
    [("forgets", "save_file"), ("with", "open_file"), ("read", "open_file"), ("item", "parent_result")],
)
def test_whoever_does_not_await_is_told_so(way: str, method: str, supervisor: RunningSupervisor, jobs: Jobs) -> None:
    job = jobs.run("c_does_not_await", {"way": way}, max_attempts=1)
    assert job["error"]["kind"] == "exception"
    assert job["error"]["message"] == f"job.{method}() was not awaited; in a coroutine it is: await job.{method}(…)"


def test_a_task_left_behind_can_say_nothing_about_the_job_any_more(
    supervisor: RunningSupervisor, jobs: Jobs, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    job = jobs.run("c_leaves_a_task", {"said": str(said)})
    until(said.exists, what="the task's late report")
    assert said.read_text() == f"job {job['_id']} (c_leaves_a_task) has ended"
    assert jobs.get(job["_id"]).get("progress") is None
