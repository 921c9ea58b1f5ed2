"""Every way a job can end, seen from outside: what stands in the document, and that the slot goes on."""

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gridfs
import psutil
import pytest
from bson import json_util

from tests.support.supervising import MISBEHAVING, Jobs, RunningSupervisor, StartSupervisor, gone
from tests.support.until import until

ENDINGS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # handler, payload, what the document must say
    ("ok", {"a": 1}, {"status": "completed", "attempt": 1, "result": {"echo": {"a": 1}}}),
    ("nothing", {}, {"status": "completed", "result": None}),
    ("model", {"n": 1}, {"status": "completed", "result": {"n": 2}}),
    ("double", {"n": 4}, {"status": "completed", "result": {"n": 8, "attempt": 1, "token": 1}}),
    ("coroutine", {}, {"status": "completed", "result": {"ran": True}}),
    ("surrogate", {}, {"status": "completed", "result": {"text": "caf?"}}),
    ("raises", {}, {"kind": "exception", "attempt": 3, "type": "ValueError", "message": "as ordered"}),
    ("sys_exit", {}, {"kind": "exception", "type": "SystemExit", "message": "the handler called sys.exit(3)"}),
    ("stop_iteration", {}, {"kind": "exception", "type": "StopIteration"}),
    ("keyboard_interrupt", {}, {"kind": "exception", "type": "KeyboardInterrupt"}),
    ("awkward", {}, {"kind": "exception", "type": "AwkwardError"}),
    ("permanent", {}, {"kind": "permanent", "attempt": 1, "code": "no_use", "message": "never mind"}),
    ("retry", {"until": 3}, {"status": "completed", "attempt": 3}),
    ("crashes_once", {}, {"status": "completed", "attempt": 2, "crashes": 1, "result": {"attempt": 2}}),
    ("segfault", {}, {"kind": "poison", "attempt": 3, "crashes": 3, "signal": "SIGSEGV", "exit_code": None}),
    ("aborts", {}, {"kind": "poison", "crashes": 3, "signal": "SIGABRT"}),
    ("kills_itself", {}, {"kind": "poison", "crashes": 3, "signal": "SIGKILL"}),
    ("exits", {"code": 3}, {"kind": "poison", "crashes": 3, "signal": None, "exit_code": 3}),
    ("exits", {"code": 0}, {"kind": "poison", "crashes": 3, "signal": None, "exit_code": 0}),
    ("double", {}, {"kind": "invalid", "attempt": 0, "message": "payload: n: Field required"}),
    ("double", {"n": "x"}, {"kind": "invalid", "attempt": 0}),
    ("unstorable", {"kind": "lock"}, {"kind": "result", "attempt": 1}),
    ("unstorable", {"kind": "set"}, {"kind": "result", "attempt": 1}),
    ("unstorable", {"kind": "list"}, {"kind": "result", "attempt": 1}),
    ("unstorable", {"kind": "huge_int"}, {"kind": "result", "attempt": 1}),
    ("unstorable", {"kind": "key"}, {"kind": "result", "attempt": 1}),
    ("unstorable", {"kind": "deep"}, {"kind": "result", "attempt": 1}),
]


@pytest.fixture(scope="module")
def jobs(module_jobs: Jobs) -> Jobs:
    return module_jobs


@pytest.fixture(scope="module")
def supervisor(start_for_module: StartSupervisor) -> RunningSupervisor:
    """One supervisor for all tests here: whatever a job does, the next one must find it well."""
    return start_for_module(pool={"modules": [MISBEHAVING, "handlers.cleanup"]})


def test_every_ending_is_recorded_as_the_contract_says(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    started = [(jobs.insert(handler, payload), handler, payload, expected) for handler, payload, expected in ENDINGS]
    for job_id, *_ in started:
        jobs.wait(job_id, within_s=60)
    wrong = []
    for job_id, handler, payload, expected in started:
        job = jobs.get(job_id)
        seen = {**{key: job.get(key) for key in ("status", "attempt", "crashes", "result")}, **(job.get("error") or {})}
        status = "failed" if "kind" in expected else "completed"
        differing = {
            key: seen.get(key) for key, value in {"status": status, **expected}.items() if seen.get(key) != value
        }
        if differing:
            wrong.append((handler, payload, expected, differing))
        assert "lease" not in job
        assert job["finished_at"] >= job["started_at"] >= job["created_at"]
    assert wrong == []
    assert jobs.run("ok")["status"] == "completed", "the slots go on"


def test_each_crash_leaves_its_evidence_in_the_attempts(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    job = jobs.run("exits", {"code": 7})
    assert [(entry["n"], entry["outcome"], entry["error"]["exit_code"]) for entry in job["attempts"]] == [
        (1, "crash", 7),
        (2, "crash", 7),
        (3, "poison", 7),
    ]
    for entry in job["attempts"]:
        assert entry["slot"] in (0, 1)
        assert entry["ended_at"] >= entry["started_at"]
        assert entry["usage"]["run_s"] >= 0
    assert len({entry["pid"] for entry in job["attempts"]}) == 3, "each attempt had a worker of its own"


def test_a_minimal_document_runs_like_any_other(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    job = jobs.run("ok", {"x": 1})
    assert (job["status"], job["result"]) == ("completed", {"echo": {"x": 1}})
    assert jobs.run("nothing")["status"] == "completed", "even the payload may be left out"


def test_null_counts_as_missing_everywhere(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    names = ("payload", "priority", "run_at", "timeout_s", "max_attempts", "unique_key", "then", "lease", "attempt")
    assert jobs.run("nothing", **dict.fromkeys(names))["status"] == "completed"


def test_a_crash_costs_its_neighbours_nothing(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    neighbour = jobs.insert("sleeps", {"seconds": 2})
    jobs.wait(neighbour, "processing")
    for _ in range(5):
        assert jobs.run("exits", max_attempts=1)["status"] == "failed"
    job = jobs.wait(neighbour)
    assert (job["status"], job["attempt"], len(job["attempts"])) == ("completed", 1, 1)


def test_a_worker_that_dies_idle_charges_nobody(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    pid = jobs.run("whoami")["result"]["pid"]
    psutil.Process(pid).kill()
    job = jobs.run("whoami")
    assert (job["status"], job["attempt"], job["crashes"]) == ("completed", 1, 0)
    assert job["result"]["pid"] != pid


@pytest.mark.parametrize("handler", ["sleeps", "ignores_everything", "regex", "c_loop"])
def test_the_time_limit_ends_the_job_and_all_it_started(
    handler: str, supervisor: RunningSupervisor, jobs: Jobs, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    job = jobs.run(handler, {"pids": str(pids), "seconds": 60}, timeout_s=0.5, max_attempts=1)
    assert (job["status"], job["error"]["kind"]) == ("failed", "timeout")
    if pids.exists():
        children = [psutil.Process(int(pid)) for pid in pids.read_text().split() if psutil.pid_exists(int(pid))]
        gone(children, timeout_s=1)
    assert jobs.run("ok")["status"] == "completed"


def test_a_handler_may_catch_the_time_limit_and_return_what_it_has(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    job = jobs.run("catches_timeout", timeout_s=0.3)
    assert (job["status"], job["result"]) == ("completed", {"partial": True})


def test_a_crash_takes_along_what_the_worker_started(supervisor: RunningSupervisor, jobs: Jobs, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    assert jobs.run("kills_itself", {"pids": str(pids)}, max_attempts=1)["status"] == "failed"
    gone([psutil.Process(int(pid)) for pid in pids.read_text().split() if psutil.pid_exists(int(pid))], timeout_s=2)


def test_output_and_log_entries_of_an_attempt_are_kept(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    job = jobs.run("prints")
    logs = job["attempts"][0]["logs"]
    for line in ("to stdout", "to stderr", "from a child", '"event": "counted"'):
        assert line in logs
    entry = supervisor.wait_for("job.log")
    assert (entry["message"], entry["fields"], entry["job_id"]) == ("counted", {"pages": 3}, str(job["_id"]))


def test_progress_is_visible_while_the_job_runs_and_ends_at_its_last_report(
    supervisor: RunningSupervisor, jobs: Jobs
) -> None:
    job_id = jobs.insert("progress", {"pause_s": 0.4})
    seen = set()
    while (job := jobs.get(job_id))["status"] != "completed":
        seen.add((job.get("progress") or {}).get("done"))
    assert len(seen & {1, 2, 3, 4}) >= 2
    assert {key: job["progress"][key] for key in ("done", "total", "message")} == {
        "done": 5,
        "total": 5,
        "message": "step 5",
    }


def test_a_large_result_goes_to_a_file_and_back(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    job_id = jobs.insert("large", {"bytes": 300 * 1024}, then=[{"handler": "follows"}])
    job = jobs.wait(job_id)
    assert "result" not in job or job["result"] is None
    assert job["result_file"] is not None
    child = jobs.wait(job["children"][0])
    bucket = gridfs.GridFSBucket(jobs.collection.database, bucket_name="files")
    stored = json_util.loads(bucket.open_download_stream(child["result_file"]).read().decode())
    assert stored["parent"]["text"] == "x" * 300 * 1024


def test_followers_get_the_parents_id_and_result(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    parent = jobs.run("double", {"n": 1}, then=[{"handler": "follows", "payload": {"k": 1}}, {"handler": "nothing"}])
    children = [jobs.wait(child) for child in parent["children"]]
    assert [child["handler"] for child in children] == ["follows", "nothing"]
    assert children[0]["payload"] == {"k": 1, "parent_job_id": parent["_id"]}
    assert children[0]["result"]["parent"]["n"] == 2


def test_files_pass_through_the_supervisor(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    bucket = gridfs.GridFSBucket(jobs.collection.database, bucket_name="files")
    file_id = bucket.upload_from_stream("in.bin", b"abc" * 1000)
    job = jobs.run("files", {"file_id": file_id})
    assert job["result"]["bytes"] == 3000
    assert bucket.open_download_stream(job["result"]["copy"]).read() == (b"abc" * 1000)[::-1]
    missing = jobs.run("files", {"file_id": 42})
    assert (missing["error"]["kind"], missing["error"]["code"]) == ("permanent", "not_found")


def test_cleanup_applies_the_retention_and_returns_what_is_gone(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    old = datetime(2020, 1, 1, tzinfo=UTC)
    past = jobs.collection.insert_one({"handler": "ok", "status": "completed", "finished_at": old}).inserted_id
    database = jobs.collection.database
    orphan = {"filename": "x", "uploadDate": old, "metadata": {"collection": "jobs", "job_ids": ["gone"]}}
    file_id = database["files.files"].insert_one({**orphan, "length": 0, "chunkSize": 1}).inserted_id
    result = jobs.run("cleanup")["result"]
    counts = {"completed": 1, "failed": 0, "orphaned_files": 1, "batches": 0, "markers": 0}
    assert result == {"deleted": counts}
    assert jobs.collection.find_one({"_id": past}) is None
    assert database["files.files"].find_one({"_id": file_id}) is None


def test_workers_see_no_credentials_and_few_threads(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    result = jobs.run("environment")["result"]
    assert [name for name in result["names"] if name.startswith("SUPERVISOR_")] == []
    assert result["threads"] == "1"


def test_a_running_job_is_cancelled_on_request(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    job_id = jobs.insert("sleeps", {"seconds": 60})
    jobs.wait(job_id, "processing")
    jobs.collection.update_one({"_id": job_id}, {"$set": {"cancel_requested": True}})
    job = jobs.wait(job_id, within_s=5)
    assert (job["status"], job["error"]["kind"]) == ("cancelled", "cancelled")


def test_a_pending_job_that_is_cancelled_never_runs(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    job = jobs.wait(jobs.insert("ok", cancel_requested=True))
    assert (job["status"], job["error"]["kind"], job.get("attempt")) == ("cancelled", "cancelled", None)


def test_malformed_documents_at_the_top_stop_nobody(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    bad = {
        "handler": 7,
        "priority": "high",
        "payload": [1],
        "run_at": "tomorrow",
        "timeout_s": -1,
        "max_attempts": 1.5,
        "attempt": "7",
        "crashes": math.nan,
        "claims": 2**63 - 1,
        "then": [{"payload": {}}],
        "unique_key": 3,
        "lease": "mine",
        "attempts": {"a": 1},
        "created_at": 5,
        "cancel_requested": "yes",
    }
    ids = {}
    for field, value in bad.items():
        document = {"handler": "ok", "status": "pending", "priority": 1000, field: value}
        ids[field] = jobs.collection.insert_one(document, bypass_document_validation=True).inserted_id
    good = [jobs.insert("ok") for _ in range(20)]
    for job_id in good:
        assert jobs.wait(job_id)["status"] == "completed"
    for field, job_id in ids.items():
        job = jobs.wait(job_id)
        assert (job["status"], job["error"]["kind"]) == ("failed", "invalid"), field
        assert job["error"]["message"].startswith(f"{field}: "), job["error"]["message"]
        assert "processing" not in str(job.get("attempts")), "never run"
    assert supervisor.process.poll() is None


def test_a_handler_nobody_registered_stays_pending(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    unknown = jobs.insert("nobody", priority=5)
    assert jobs.run("ok")["status"] == "completed"
    assert jobs.get(unknown)["status"] == "pending"


@pytest.mark.parametrize("handler", ["unlinks_output", "closes_stdout", "broken_text"])
def test_what_a_handler_does_to_its_streams_and_texts_costs_nothing(
    handler: str, supervisor: RunningSupervisor, jobs: Jobs
) -> None:
    for _ in range(3):
        job = jobs.run(handler)
        assert (job["status"], job["crashes"]) == ("completed", 0)


@pytest.mark.parametrize("message", [{"log": "x"}, {"progress": "x"}, {"request": 1}, {"request": 1, "call": []}])
def test_nonsense_on_the_control_channel_ends_at_most_its_worker(
    message: dict[str, Any], supervisor: RunningSupervisor, jobs: Jobs
) -> None:
    job = jobs.run("talks_nonsense", {"message": message}, max_attempts=1, timeout_s=2)
    assert (job["status"], job["error"]["kind"]) in [("failed", "crash"), ("failed", "timeout")]
    assert jobs.run("ok")["status"] == "completed"
    assert supervisor.process.poll() is None


def test_a_worker_that_announces_a_huge_message_is_ended(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    job = jobs.run("sends_bytes", max_attempts=1, timeout_s=20)
    assert (job["error"]["kind"], job["error"]["signal"]) == ("crash", "SIGKILL")
    assert supervisor.wait_for("worker.nonsense")


def test_a_forged_pickle_runs_nothing_in_the_supervisor(
    supervisor: RunningSupervisor, jobs: Jobs, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    job = jobs.run("forges_pickle", {"canary": str(canary)}, max_attempts=1, timeout_s=20)
    assert (job["status"], job["error"]["kind"]) == ("failed", "crash")
    assert not canary.exists()
    assert supervisor.process.poll() is None
    assert jobs.run("ok")["status"] == "completed"


def test_a_document_with_room_for_no_record_leaves_its_slot(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    ballast = b"x" * (16 * 1024 * 1024 - 40_000)
    job_id = jobs.insert("prints_much", {"bytes": 60_000}, ballast=ballast)
    job = jobs.wait(job_id)
    assert (job["status"], job["error"]["kind"]) == ("failed", "result")
    assert job["ballast"] == ballast


def test_an_absurd_lease_of_somebody_elses_making_stops_nobody(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    past = datetime(2020, 1, 1, tzinfo=UTC)
    lease = {"token": 1, "supervisor": "x", "host": "y", "slot": 1e300, "pid": 1e300, "expires_at": past}
    job_id = jobs.collection.insert_one({"handler": "ok", "status": "processing", "lease": lease}).inserted_id
    job = jobs.wait(job_id)
    assert (job["status"], job["attempts"][0]["outcome"]) == ("completed", "lost")


def test_an_id_that_equals_nothing_runs_once(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    jobs.collection.insert_one({"_id": math.nan, "handler": "sleeps", "payload": {"seconds": 3}, "status": "pending"})
    ended = {"handler": "sleeps", "payload.seconds": 3, "status": "completed"}
    job = until(lambda: jobs.collection.find_one(ended), 20, "the job without an equal")
    assert (job["claims"], len(job["attempts"])) == (1, 1)
