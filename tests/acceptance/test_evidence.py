"""What an attempt that ended badly leaves to see, and memory as a limit that holds while the job runs."""

from pathlib import Path

import psutil
import pytest

from tests.support.processes import command_line
from tests.support.supervising import Jobs, RunningSupervisor, StartSupervisor, gone


@pytest.fixture(scope="module")
def jobs(module_jobs: Jobs) -> Jobs:
    return module_jobs


@pytest.fixture(scope="module")
def supervisor(start_for_module: StartSupervisor) -> RunningSupervisor:
    return start_for_module(handlers__hoards={"memory_limit_mb": 300}, pool={"max_growth_mb": 100})


def test_a_worker_that_dies_leaves_its_stack_its_words_and_what_it_used(
    supervisor: RunningSupervisor, jobs: Jobs
) -> None:
    neighbour = jobs.insert("sleeps", {"seconds": 3})
    jobs.wait(neighbour, "processing")
    job = jobs.run("burns_and_segfaults", {"mb": 80, "seconds": 0.3}, max_attempts=1)
    (entry,) = job["attempts"]
    assert entry["error"]["signal"] == "SIGSEGV"
    assert "the last words" in entry["logs"]
    assert "_deep_in_a_call" in entry["evidence"]["stack"]
    assert entry["usage"] == job["usage"]
    assert entry["usage"]["cpu_s"] >= 0.3
    assert entry["usage"]["peak_rss_mb"] >= 80
    assert entry["evidence"]["oom_killed"] is False
    machine = entry["evidence"]["machine"]
    assert machine["cores"] >= 1
    assert machine["memory_available_mb"] > 0
    assert [(other["handler"], other["job_id"]) for other in machine["others"]] == [("sleeps", neighbour)]


@pytest.mark.parametrize("handler", ["exits", "kills_itself"])
def test_even_the_shortest_life_is_accounted_for(handler: str, supervisor: RunningSupervisor, jobs: Jobs) -> None:
    (entry,) = jobs.run(handler, max_attempts=1)["attempts"]
    assert entry["usage"]["cpu_s"] >= 0
    assert entry["usage"]["peak_rss_mb"] > 10
    assert entry["evidence"]["stack"] is None, "no signal that anybody could have caught"
    assert entry["evidence"]["oom_killed"] is False


@pytest.mark.parametrize(
    ("handler", "place"),
    [("sleeps", "in sleeps"), ("ignores_everything", "in ignores_everything"), ("c_loop", "in c_loop")],
)
def test_a_time_limit_shows_where_the_job_was(
    handler: str, place: str, supervisor: RunningSupervisor, jobs: Jobs
) -> None:
    (entry,) = jobs.run(handler, timeout_s=0.3, max_attempts=1)["attempts"]
    assert entry["error"]["kind"] == "timeout"
    assert place in entry["evidence"]["stack"]
    assert entry["usage"]["peak_rss_mb"] > 10


@pytest.mark.parametrize("in_a_child", [False, True], ids=["by itself", "in a subprocess"])
def test_a_job_that_takes_memory_is_stopped_at_its_limit(
    in_a_child: bool, supervisor: RunningSupervisor, jobs: Jobs
) -> None:
    neighbour = jobs.insert("sleeps", {"seconds": 2})
    job = jobs.run("hoards", {"mb_per_s": 200, "in_a_child": in_a_child}, max_attempts=1)
    assert job["status"] == "failed"
    error = job["error"]
    assert error["kind"] == "memory"
    used_mb = float(error["message"].split()[1])
    assert 300 <= used_mb < 450, "half a second later it would have been 400"
    assert error["message"] == f"used {used_mb:.0f} MB with its subprocesses, the limit is 300 MB"
    assert job["usage"]["peak_rss_mb"] > 300
    assert "in hoards" in job["attempts"][0]["evidence"]["stack"]
    worker = job["attempts"][0]["pid"]
    hoarders = [each for each in supervisor.family() if each.pid == worker or "hoard = []" in command_line(each)]
    gone(hoarders, timeout_s=2)
    assert jobs.wait(neighbour)["attempt"] == 1
    assert jobs.run("ok")["status"] == "completed"


def test_memory_below_the_limit_is_the_job_s_own_business(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    job = jobs.run("holds", {"mb": 150, "seconds": 0.5})
    assert job["status"] == "completed"
    assert job["usage"]["peak_rss_mb"] > 150


def test_a_worker_that_grows_is_replaced_between_two_jobs(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    ids = [jobs.insert("leaks", {"mb": 10}) for _ in range(80)]
    pids = [jobs.wait(job_id)["result"]["pid"] for job_id in ids]
    assert len(set(pids)) > 2, "two workers would do, if none were replaced"
    assert all(jobs.get(job_id)["attempt"] == 1 for job_id in ids)
    assert "its memory has grown by" in supervisor.events("worker.worn")[0]["reason"]


def test_workers_are_the_first_that_the_kernel_should_kill(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    pid = jobs.run("whoami")["result"]["pid"]

    def score(process: int) -> int:
        return int(Path(f"/proc/{process}/oom_score_adj").read_text())

    forkserver = psutil.Process(pid).parent()
    assert forkserver is not None
    assert score(pid) == 500
    assert score(supervisor.pid) == score(forkserver.pid) < 500
