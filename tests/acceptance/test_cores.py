"""How many workers a limited machine gets, which cores they run on, and whom they give way to."""

import os
from pathlib import Path

import pytest

from tests.support.control_groups import control_group
from tests.support.supervising import Document, Jobs, RunningSupervisor, StartSupervisor, configuration
from tests.support.until import until

CORES = sorted(os.sched_getaffinity(0))


def placed(jobs: Jobs, workers: int) -> dict[int, Document]:
    """Run a job on every worker at the same time; return by slot what each told of its place."""
    ids = [jobs.insert("tells_its_place", {"seconds": 0.4}) for _ in range(workers)]
    found = [jobs.wait(job_id, within_s=60) for job_id in ids]
    return {job["attempts"][-1]["slot"]: job["result"] for job in found}


def test_workers_are_bound_to_cores_by_their_slots_and_as_nice_as_they_should_be(
    start: StartSupervisor, jobs: Jobs
) -> None:
    supervisor = start(pool={"workers": 3, "pin": True, "nice": 5})
    until(lambda: len(supervisor.events("worker.started")) >= 3, 30, "three workers")
    ours = os.getpriority(os.PRIO_PROCESS, supervisor.pid)
    by_slot = until(lambda: len(found := placed(jobs, 3)) == 3 and found, 60, "a job in every slot")
    for slot, place in by_slot.items():
        core = CORES[slot % len(CORES)]
        assert place == {"cores": [core], "of_child": [core], "of_threads": [[core]], "nice": min(19, ours + 5)}

    supervisor.edit("pool", workers=2)
    until(lambda: set(placed(jobs, 2)) == {0, 1}, 60, "the third slot to go")
    for slot, place in placed(jobs, 2).items():
        assert place["cores"] == [CORES[slot % len(CORES)]], "the others stay where they are"

    running = jobs.insert("sleeps", {"seconds": 3})
    jobs.wait(running, "processing")
    supervisor.edit("pool", pin=False, nice=0)
    until(
        lambda: all((place["cores"], place["nice"]) == (CORES, ours) for place in placed(jobs, 2).values()),
        60,
        "workers that are free again",
    )
    assert jobs.wait(running)["attempt"] == 1, "and no job was cut short for that"
    assert not supervisor.events("worker.died_idle")


def workers_of_auto(folder: Path, config: dict[str, Document], *within: str) -> int:
    supervisor = RunningSupervisor(folder, config, within=within)
    try:
        return supervisor.start().wait_for("supervisor.ready")["workers"]
    finally:
        supervisor.end()


@pytest.mark.skipif(len(CORES) < 2, reason="with one core nothing can be told apart")
def test_auto_is_the_cores_that_the_control_group_and_the_affinity_leave(
    tmp_path: Path, mongo_uri: str, database_name: str
) -> None:
    config = configuration(mongo_uri, database_name, pool={"workers": "auto"})
    assert workers_of_auto(tmp_path / "free", config) == len(CORES)
    assert workers_of_auto(tmp_path / "bound", config, "taskset", "-c", str(CORES[-1])) == 1
    with control_group("cpu", "cpu.cfs_quota_us", "cpu.max") as group:
        group.limit.write_text({"cpu.cfs_quota_us": "90000", "cpu.max": "90000 100000"}[group.limit.name])
        join = f'echo $$ > {group.folder}/cgroup.procs && exec "$@"'
        assert workers_of_auto(tmp_path / "limited", config, "sh", "-c", join, "sh") == 1
