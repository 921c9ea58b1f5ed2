"""TERM, a second TERM, SIGKILL: what happens to running jobs and to processes."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.support.supervising import ROOT, Jobs, RunningSupervisor, StartSupervisor, configuration, gone
from tests.support.until import until


def test_term_lets_short_jobs_finish_and_gives_long_ones_back(start: StartSupervisor, jobs: Jobs) -> None:
    supervisor = start(shutdown={"drain_s": 2}, pool={"workers": 2})
    long, short = jobs.insert("sleeps", {"seconds": 10}), jobs.insert("sleeps", {"seconds": 1})
    jobs.wait(long, "processing")
    jobs.wait(short, "processing")
    waiting = jobs.insert("ok", run_at=None)
    family = supervisor.family()
    jobs.wait(waiting, "pending", within_s=0.1)
    assert supervisor.stop() == 0
    gone(family)
    assert jobs.get(short)["status"] == "completed"
    job = jobs.get(long)
    assert (job["status"], job["attempt"], job.get("lease")) == ("pending", 0, None)
    assert jobs.get(waiting)["status"] == "pending", "no claims after TERM"
    assert jobs.collection.database["supervisors"].count_documents({}) == 0
    assert supervisor.events("supervisor.stopped")

    start()
    jobs.collection.update_one({"_id": long}, {"$set": {"payload.seconds": 0}})
    job = jobs.wait(long)
    assert (job["status"], job["attempt"], job["result"]["attempt"]) == ("completed", 1, 1)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_skips_the_wait(second: signal.Signals, start: StartSupervisor, jobs: Jobs) -> None:
    supervisor = start(shutdown={"drain_s": 60})
    job_id = jobs.insert("sleeps", {"seconds": 60})
    jobs.wait(job_id, "processing")
    supervisor.process.send_signal(signal.SIGTERM)
    supervisor.wait_for("supervisor.draining")
    supervisor.process.send_signal(second)
    assert supervisor.process.wait(10) == 0
    job = jobs.get(job_id)
    assert (job["status"], job["attempt"]) == ("pending", 0)


def test_a_job_that_ignores_the_drain_is_killed_and_given_back(
    start: StartSupervisor, jobs: Jobs, tmp_path: Path
) -> None:
    supervisor = start(shutdown={"drain_s": 0})
    pids = tmp_path / "pids"
    job_id = jobs.insert("ignores_everything", {"pids": str(pids)})
    until(lambda: pids.exists() and len(pids.read_text().split()) == 2, what="the grandchildren")
    family = supervisor.family()
    assert len(family) >= 4, "fork server, worker and two grandchildren"
    assert supervisor.stop() == 0
    gone(family)
    job = jobs.get(job_id)
    assert (job["status"], job["attempt"]) == ("pending", 0)


def test_sigkill_leaves_no_process_behind(start: StartSupervisor, jobs: Jobs, tmp_path: Path) -> None:
    """Busy in Python with grandchildren, busy in C with the interpreter lock held, stopped, and idle."""
    supervisor = start(pool={"workers": 4})
    pids = tmp_path / "pids"
    for handler, payload in (("ignores_everything", {"pids": str(pids)}), ("c_loop", {})):
        jobs.wait(jobs.insert(handler, payload), "processing")
    stopped = psutil.Process(jobs.wait(jobs.insert("sleeps", {"seconds": 60}), "processing")["lease"]["pid"])
    supervisor.wait_for("job.started", count=3)
    stopped.suspend()
    until(lambda: pids.exists() and len(pids.read_text().split()) == 2, what="the grandchildren")
    grandchildren = [psutil.Process(int(pid)) for pid in pids.read_text().split()]
    family = [*supervisor.family(), *grandchildren]
    assert stopped in family
    supervisor.kill()
    gone(family, timeout_s=2)


def test_a_successor_on_the_host_releases_a_dead_predecessors_jobs_at_once(start: StartSupervisor, jobs: Jobs) -> None:
    first = start(lease={"seconds": 120})
    job_id = jobs.insert("sleeps", {"seconds": 60})
    jobs.wait(job_id, "processing")
    first.kill()
    jobs.collection.update_one({"_id": job_id}, {"$set": {"payload.seconds": 0}})
    second = start(lease={"seconds": 120})
    assert second.wait_for("job.orphaned")["cause"] == "its supervisor died"
    job = jobs.wait(job_id, within_s=10)
    assert (job["status"], job["attempt"]) == ("completed", 2)
    assert job["attempts"][0]["outcome"] == "lost"
    assert jobs.collection.database["supervisors"].count_documents({}) == 1


def test_an_expired_lease_is_taken_over_by_a_living_supervisor(start: StartSupervisor, jobs: Jobs) -> None:
    victim = start(lease={"seconds": 3})
    job_id = jobs.insert("sleeps", {"seconds": 30})
    jobs.wait(job_id, "processing")
    survivor = start(lease={"seconds": 3})
    victim.process.send_signal(signal.SIGSTOP)  # it lives, and keeps nothing
    try:
        jobs.collection.update_one({"_id": job_id}, {"$set": {"payload.seconds": 0}})
        taken_over = survivor.wait_for("job.orphaned", timeout_s=10)
        assert taken_over["cause"] == "its lease expired"
        job = jobs.wait(job_id)
        assert (job["status"], job["attempt"]) == ("completed", 2)
    finally:
        victim.process.send_signal(signal.SIGCONT)
    victim.wait_for("job.lease_lost")  # found out by its guard or by its renewal, whichever came first
    ended = jobs.get(job_id)
    assert len([entry for entry in ended["attempts"] if entry["outcome"] == "completed"]) == 1


def test_a_job_longer_than_its_lease_keeps_it(start: StartSupervisor, jobs: Jobs) -> None:
    for _ in range(2):  # the other one would take the job over
        start(lease={"seconds": 3})
    started = time.monotonic()
    job = jobs.run("sleeps", {"seconds": 5})
    assert time.monotonic() - started > 4.5
    assert (job["status"], job["attempt"], job["claims"]) == ("completed", 1, 1)


def forkserver_of(supervisor: RunningSupervisor) -> psutil.Process:
    """The child that has children: the workers."""
    (found,) = [child for child in psutil.Process(supervisor.pid).children() if child.children()]
    return found


def test_a_fork_server_that_dies_charges_nobody(start: StartSupervisor, jobs: Jobs) -> None:
    supervisor = start(pool={"workers": 2})
    running = [jobs.insert("sleeps", {"seconds": 2}) for _ in range(2)]
    for job_id in running:
        jobs.wait(job_id, "processing")
    forkserver_of(supervisor).kill()
    for job_id in running:
        job = jobs.wait(job_id)
        assert (job["status"], job["attempt"], job["crashes"]) == ("completed", 1, 0)
        assert [entry["outcome"] for entry in job["attempts"]] == ["interrupted", "completed"]


def test_a_fork_server_that_hangs_is_replaced(start: StartSupervisor, jobs: Jobs) -> None:
    supervisor = start(pool={"workers": 1})
    hung = forkserver_of(supervisor)
    hung.suspend()
    job = jobs.run("exits", max_attempts=1, within_s=30)
    assert job["error"]["kind"] == "crash"
    assert jobs.run("ok", within_s=40)["status"] == "completed"
    assert not hung.is_running()


def test_term_while_the_fork_server_hangs_ends_all_the_same(start: StartSupervisor, jobs: Jobs) -> None:
    supervisor = start(pool={"workers": 2}, shutdown={"drain_s": 0})
    forkserver_of(supervisor).suspend()
    jobs.run("exits", max_attempts=1, within_s=30)
    family = supervisor.family()
    assert supervisor.stop(timeout_s=25) == 0
    gone(family)


def test_term_while_workers_are_starting_ends_them_and_leaves_the_log_in_order(
    mongo_uri: str, database_name: str, tmp_path: Path
) -> None:
    module = "import time\nfrom supervisor import handler\n\n@handler.setup\ndef load():\n    time.sleep(60)\n"
    (tmp_path / "slow_to_load.py").write_text(module)
    config = configuration(mongo_uri, database_name, pool={"modules": ["slow_to_load"]})
    supervisor = RunningSupervisor(
        tmp_path / "supervisor", config, environ={"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    ).start(ready=False)
    until(lambda: len(supervisor.family()) >= 4, 20, "the fork server, its tracker and two workers")
    family = supervisor.family()
    assert supervisor.stop() == 0
    gone(family)
    assert supervisor.log()[-1]["event"] == "supervisor.stopped", "and nothing in it is anything but JSON"
