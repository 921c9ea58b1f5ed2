"""Workers that die in the middle of something, that spoil their process, or that the system cannot give us."""

import itertools
import os
import random
import resource
import signal
import threading
from pathlib import Path

import psutil
import pytest
from pymongo import MongoClient

from tests.support.control_groups import control_group
from tests.support.supervising import MISBEHAVING, Jobs, RunningSupervisor, StartSupervisor, gone, jobs_in
from tests.support.until import until

UNTIDY = "tests.support.untidy"


@pytest.fixture(scope="module")
def jobs(module_jobs: Jobs) -> Jobs:
    return module_jobs


@pytest.fixture(scope="module")
def one_worker(start_for_module: StartSupervisor) -> RunningSupervisor:
    """A supervisor with a single worker, so that every job meets what the one before has left."""
    return start_for_module(pool={"workers": 1, "modules": [MISBEHAVING, UNTIDY]})


# in the middle of something


@pytest.mark.parametrize("handler", ["half_a_message", "dies_with_the_lock", "closes_everything"])
def test_a_worker_that_dies_while_it_talks_is_a_crash_like_others(
    handler: str, one_worker: RunningSupervisor, jobs: Jobs
) -> None:
    job = jobs.run(handler, max_attempts=1)
    assert (job["status"], job["error"]["kind"]) == ("failed", "crash")
    assert jobs.run("ok")["status"] == "completed"


def test_what_a_worker_said_before_its_result_counts_for_its_job_and_not_for_the_next(
    one_worker: RunningSupervisor, jobs: Jobs
) -> None:
    late = jobs.insert("is_heard_late", {"done": 7})
    following = jobs.insert("sleeps", {"seconds": 0.5})
    assert jobs.wait(late)["progress"]["done"] == 7
    assert "progress" not in jobs.wait(following)


@pytest.mark.parametrize("size", [10_000, 1_000_000, 10_000_000])
def test_a_kill_in_the_middle_of_a_result_never_hangs_the_slot(
    size: int, one_worker: RunningSupervisor, jobs: Jobs
) -> None:
    """Some kills at random moments between the start of a job and the arrival of its result."""
    moments = random.Random(size)
    for _ in range(8):
        job_id = jobs.insert("large_and_slow", {"bytes": size, "seconds": 0.02})
        pid = jobs.wait(job_id, "processing", "completed").get("lease", {}).get("pid")
        threading.Event().wait(moments.uniform(0, 0.06))  # the moment is what is tried here
        if pid and psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)
        assert jobs.wait(job_id)["status"] == "completed"


def test_a_stopped_worker_is_killed_at_the_time_limit(one_worker: RunningSupervisor, jobs: Jobs) -> None:
    job_id = jobs.insert("progress", {"pause_s": 60}, timeout_s=2, max_attempts=1)
    until(lambda: jobs.get(job_id).get("progress"), 10, "the handler to have begun")
    worker = psutil.Process(jobs.get(job_id)["lease"]["pid"])
    worker.suspend()
    assert jobs.wait(job_id)["error"]["kind"] == "timeout"
    gone([worker])
    assert jobs.run("ok")["status"] == "completed"


def test_the_copy_of_a_handler_that_forks_serves_no_jobs(
    one_worker: RunningSupervisor, jobs: Jobs, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    for _ in range(3):
        assert jobs.run("forks")["status"] == "completed"
        assert jobs.run("ledger", {"ledger": str(ledger)})["status"] == "completed"
    starts = [line for line in ledger.read_text().splitlines() if line.startswith("start")]
    assert len(starts) == len(set(starts)) == 3


# what one job leaves for the next


def test_a_job_finds_the_process_as_the_first_one_did(one_worker: RunningSupervisor, jobs: Jobs) -> None:
    before = jobs.run("looks_around")["result"]
    mess = jobs.run("leaves_a_mess")
    after = jobs.run("looks_around")
    assert mess["status"] == "completed"
    assert mess["result"]["pid"] == after["result"]["pid"], "put in order, not replaced"
    assert after["result"] == before
    assert after["attempts"][-1]["logs"] == "to stdout\nto stderr\n"


def test_putting_signals_back_leaves_alone_what_shows_the_stack_of_a_crash(
    one_worker: RunningSupervisor, jobs: Jobs
) -> None:
    mess = jobs.run("leaves_a_mess")
    job = jobs.run("burns_and_segfaults", {"mb": 1, "seconds": 0}, max_attempts=1)
    assert job["attempts"][0]["pid"] == mess["result"]["pid"]
    assert "_deep_in_a_call" in job["attempts"][0]["evidence"]["stack"]


def test_the_peak_of_memory_is_each_job_s_own(one_worker: RunningSupervisor, jobs: Jobs) -> None:
    large, small = jobs.run("holds", {"mb": 200, "seconds": 0}), jobs.run("ok")
    assert large["attempts"][0]["pid"] == small["attempts"][0]["pid"]
    assert large["usage"]["peak_rss_mb"] > 200
    assert small["usage"]["peak_rss_mb"] < large["usage"]["peak_rss_mb"] - 150


def test_what_cannot_be_put_back_ends_the_worker(one_worker: RunningSupervisor, jobs: Jobs) -> None:
    job = jobs.run("lowers_a_limit")
    assert job["status"] == "completed"
    after = jobs.run("looks_around")
    assert after["attempt"] == 1
    assert after["result"]["pid"] != job["result"]["pid"]
    assert "RLIMIT_NOFILE" in one_worker.wait_for("worker.worn")["reason"]


@pytest.mark.parametrize(("what", "each"), [("files", 50), ("threads", 15)])
def test_a_worker_that_gathers_files_or_threads_is_replaced(
    what: str, each: int, one_worker: RunningSupervisor, jobs: Jobs
) -> None:
    pids = set()

    def is_replaced() -> bool:
        """Some jobs at a time: very short ones may all be over between two looks at their worker."""
        ids = [jobs.insert("leaves_open", {what: each}) for _ in range(5)]
        pids.update(jobs.wait(job_id)["result"]["pid"] for job_id in ids)
        return len(pids) > 1

    until(is_replaced, 20, "another worker")
    assert any(what in event["reason"] for event in one_worker.events("worker.worn"))


def test_a_flood_of_output_keeps_its_end_frees_the_disk_and_breaks_no_log(
    one_worker: RunningSupervisor, jobs: Jobs
) -> None:
    job_id = jobs.insert("floods", {"mb": 100, "seconds": 3})
    lease = jobs.wait(job_id, "processing")["lease"]

    def output() -> os.stat_result:
        return Path(f"/proc/{lease['pid']}/fd/1").stat()

    until(lambda: output().st_size > 90 << 20 and output().st_blocks * 512 < 20 << 20, 20, "the disk to be freed")
    job = jobs.wait(job_id)
    logs = job["attempts"][0]["logs"]
    assert logs.endswith("the end\n")
    assert len(logs) <= 64 * 1024
    assert "\0" not in logs
    one_worker.log()  # every line is one JSON object
    assert not one_worker.events("forged")


# what the system does not give


def test_recycling_under_load_loses_nothing(start: StartSupervisor, mongo_uri: str, database_name: str) -> None:
    start(pool={"workers": 2, "max_jobs_per_worker": 3})
    with jobs_in(mongo_uri, database_name) as jobs:
        ids = [jobs.insert("whoami") for _ in range(60)]
        ended = [jobs.wait(job_id) for job_id in ids]
    assert all((job["status"], job["attempt"], job["claims"]) == ("completed", 1, 1) for job in ended)
    assert len({job["result"]["pid"] for job in ended}) >= 15


def test_kills_and_resizes_leak_nothing(start: StartSupervisor, mongo_uri: str, database_name: str) -> None:
    supervisor = start(pool={"workers": 2}, retry={"max_crashes": 1})
    process = psutil.Process(supervisor.pid)
    with jobs_in(mongo_uri, database_name) as jobs:

        def workout(kills: int) -> None:
            ids = [jobs.insert("kills_itself") for _ in range(kills)]
            for job_id in ids:
                jobs.wait(job_id, within_s=60)
            for workers in (4, 1, 3, 2):
                supervisor.edit("pool", workers=workers)
                until(lambda workers=workers: _slots(jobs) == ["idle"] * workers, 20, f"{workers} idle slots")

        workout(10)
        held, rss_mb = _descriptors(process), process.memory_info().rss >> 20
        workout(30)
        until(lambda: _descriptors(process) == held, 10, f"{held} descriptors as before")
        helpers = min(32, (os.cpu_count() or 1) + 4)  # the event loop's own, started one by one
        until(lambda: process.num_threads() <= 2 + 2 * 2 + helpers, 10, "two, and two for each worker")
        assert process.memory_info().rss >> 20 <= rss_mb + 10
        shared = [path for path in Path("/dev/shm").iterdir() if f"-{supervisor.pid}-" in path.name]
        assert not shared


def _descriptors(process: psutil.Process) -> int:
    """All but the connections to the database, of which a pool keeps as many as it once had use for."""
    return process.num_fds() - len(process.net_connections("inet"))


def _slots(jobs: Jobs) -> list[str]:
    (document,) = jobs.collection.database["supervisors"].find()
    return [slot["state"] for slot in document["slots"]]


def test_a_pool_without_descriptors_to_spare_stays_small_until_there_are_more(
    start: StartSupervisor, mongo_uri: str, database_name: str
) -> None:
    """It had grown into its last descriptor, and any call to the database or look into /proc could end it."""
    supervisor = start(pool={"workers": 2})
    resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE, (60, 4096))
    supervisor.edit("pool", workers=6)
    said = supervisor.wait_for("pool.descriptors_short", timeout_s=30)
    assert (said["wanted"], said["slots"], said["limit"]) == (6, 2, 60)
    with jobs_in(mongo_uri, database_name) as jobs:
        ids = [jobs.insert("ok") for _ in range(20)] + [jobs.insert("large", {"bytes": 300 * 1024}) for _ in range(4)]
        assert all(jobs.wait(job_id)["attempt"] == 1 for job_id in ids)
        until(lambda: _slots(jobs) == ["idle"] * 2, 20, "two slots, and no more of them")
        assert psutil.Process(supervisor.pid).num_fds() < 60
        resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE, (4096, 4096))
        until(lambda: _slots(jobs) == ["idle"] * 6, 60, "six slots once there is room")
    assert len(supervisor.events("pool.descriptors_short")) == 1
    assert not supervisor.events("worker.start_failed")


def test_a_refused_fork_costs_no_job_its_life(start: StartSupervisor, mongo_uri: str, database_name: str) -> None:
    with control_group("pids", "pids.max") as group, jobs_in(mongo_uri, database_name) as jobs:
        supervisor = start(pool={"workers": 1})
        group.take_in(psutil.Process(supervisor.pid))
        running = jobs.insert("sleeps", {"seconds": 4})
        jobs.wait(running, "processing")
        tasks = int((group.folder / "pids.current").read_text())
        group.limit.write_text(str(tasks))
        supervisor.edit("pool", workers=3)
        fails, more = 0, 0

        def is_refused() -> bool:  # or was it a thread of ours? then there is to be room for one more of those
            nonlocal fails, more
            log = (supervisor.folder / "log").read_text(errors="replace")  # libraries may have printed into it by now
            if "no process can be started" in log:
                return True
            if (failed := log.count('"worker.start_failed"')) > fails:
                fails, more = failed, more + 1
                group.limit.write_text(str(tasks + more))
            return False

        until(is_refused, 60, "a refused fork")
        group.limit.write_text("max")
        job = jobs.wait(running, within_s=60)
        assert (job["status"], job["crashes"], job["attempt"]) == ("completed", 0, 1)
        until(lambda: _slots(jobs) == ["idle"] * 3, 60, "three slots once there is room")
        supervisor.end()


def test_the_kernel_kills_a_worker_for_its_memory_and_nobody_else(
    start: StartSupervisor, mongo_uri: str, database_name: str
) -> None:
    limits = ("memory.limit_in_bytes", "memory.max")
    with control_group("memory", *limits) as group, jobs_in(mongo_uri, database_name) as jobs:
        group.limit.write_text(str(300 << 20))
        supervisor = start(pool={"workers": 2})
        group.take_in(psutil.Process(supervisor.pid))
        neighbour = jobs.insert("sleeps", {"seconds": 4})
        jobs.wait(neighbour, "processing")
        job = jobs.run("holds", {"mb": 500, "seconds": 60}, max_attempts=1)
        (entry,) = job["attempts"]
        assert (entry["error"]["kind"], entry["error"]["signal"]) == ("crash", "SIGKILL")
        assert entry["evidence"]["oom_killed"] is True
        assert (jobs.wait(neighbour)["status"], supervisor.process.poll()) == ("completed", None)
        supervisor.end()


def test_an_interrupt_from_the_terminal_is_the_supervisor_s_alone(
    start: StartSupervisor, mongo_uri: str, database_name: str
) -> None:
    supervisor = start(shutdown={"drain_s": 30})
    with jobs_in(mongo_uri, database_name) as jobs:
        job_id = jobs.insert("sleeps", {"seconds": 2})
        jobs.wait(job_id, "processing")
        for process in (psutil.Process(supervisor.pid), *supervisor.family()):  # as Ctrl-C reaches all of a terminal
            process.send_signal(signal.SIGINT)
        assert supervisor.process.wait(20) == 0
        assert jobs.get(job_id)["status"] == "completed"


def test_a_dead_resource_tracker_and_a_closed_log_stop_nobody(
    start: StartSupervisor, mongo_uri: str, database_name: str
) -> None:
    supervisor = start(pool={"workers": 2})
    trackers = [each for each in supervisor.family() if "resource_tracker" in " ".join(each.cmdline())]
    for tracker in trackers:
        tracker.kill()
    with jobs_in(mongo_uri, database_name) as jobs:
        ids = [jobs.insert("exits", max_attempts=1) for _ in range(4)] + [jobs.insert("ok") for _ in range(40)]
        ended = [jobs.wait(job_id) for job_id in ids]
    assert [job["status"] for job in ended] == ["failed"] * 4 + ["completed"] * 40
    assert trackers


def test_a_supervisor_killed_while_its_workers_are_being_replaced_leaves_no_process(
    start: StartSupervisor, mongo_uri: str, database_name: str
) -> None:
    moments = random.Random(1)
    with MongoClient(mongo_uri) as client, jobs_in(mongo_uri, database_name) as jobs:
        for _ in range(4):
            supervisor = start(pool={"workers": 3}, retry={"max_crashes": 1})
            before = jobs.collection.count_documents({"status": "failed"})
            jobs.collection.insert_many([{"handler": "kills_itself", "status": "pending"} for _ in range(200)])
            wanted = before + 5 + moments.randrange(10)
            until(lambda wanted=wanted: jobs.collection.count_documents({"status": "failed"}) >= wanted, 20, "crashes")
            family = supervisor.family()
            supervisor.kill()
            gone(family, timeout_s=3)
            client[database_name]["jobs"].delete_many({"status": {"$in": ["pending", "processing"]}})


def test_two_supervisors_never_share_a_name(start: StartSupervisor, mongo_uri: str, database_name: str) -> None:
    for _ in range(2):
        start()
    with MongoClient(mongo_uri) as client:
        until(lambda: client[database_name]["supervisors"].count_documents({"phase": "running"}) == 2, 10, "both")
        documents = list(client[database_name]["supervisors"].find())
    assert all(a["_id"] != b["_id"] for a, b in itertools.combinations(documents, 2))
