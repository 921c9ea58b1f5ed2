"""Workers with a model of 500 MB: what eight of them take beside one, and how soon one is back after a crash.

Memory is PSS, of the fork server and all workers, after every worker has used its model: what is shared counts once.
Beside a model that the fork server loads once (`fork_safe=True`), the same one loaded by each worker, without and with
a spare worker that stands ready.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager

from bench.contenders import running
from bench.measuring import Bench, Figures, Ratio, Surroundings, Wanted
from tests.support.supervising import Jobs, RunningSupervisor, jobs_in

MANY = 8
HOLD_S = 1.0
"""A job holds its worker for so long that the next one goes to another."""


def measure(surroundings: Surroundings, rounds: int) -> Figures:
    """Return megabytes of one and of many workers, and milliseconds to the next job after a crash."""
    figures = Figures()
    for number in range(rounds):
        for name, workers in (("one", 1), ("eight", MANY)):
            with model(surroundings, f"shared_{workers}_{number}", "shared", workers) as (supervisor, jobs):
                figures.add(name, pss_mb(supervisor, jobs, workers), "MB")
                if workers == 1:
                    figures.add("restart", restart_ms(supervisor, jobs, 2 if surroundings.quick else 5), "ms")
        for name, workers in (("one, loaded by each", 1), ("two, loaded by each", 2)):
            with model(surroundings, f"own_{workers}_{number}", "own", workers) as (supervisor, jobs):
                figures.add(name, pss_mb(supervisor, jobs, workers), "MB")
                if workers == 1:
                    figures.add("restart, loaded by each", restart_ms(supervisor, jobs, 2), "ms")
        with model(surroundings, f"spare_{number}", "own", 1, spares=1) as (supervisor, jobs):
            figures.add("restart, a spare ready", restart_ms(supervisor, jobs, 3), "ms")
    return figures


@contextmanager
def model(
    surroundings: Surroundings, name: str, loaded: str, workers: int, spares: int = 0
) -> Iterator[tuple[RunningSupervisor, Jobs]]:
    """Run a supervisor whose workers have the model."""
    database = f"memory_{name}"
    environ = {"MODEL": loaded, "MODEL_MB": "100" if surroundings.quick else "500"}
    pool = {"modules": ["bench.model"], "workers": workers, "spares": spares}
    tables = {"pool": pool, "retry": {"max_crashes": 1}, "log": {"level": "debug"}}
    with (
        running(surroundings, database, environ=environ, **tables) as supervisor,
        jobs_in(surroundings.uri, database) as jobs,
    ):
        yield supervisor, jobs


def pss_mb(supervisor: RunningSupervisor, jobs: Jobs, workers: int) -> float:
    """Let every worker use its model at the same time, and return what all of them take together."""
    ids = [jobs.insert("predicts", {"seconds": HOLD_S * workers}) for _ in range(workers)]
    pids = {jobs.wait(job_id, within_s=300)["result"]["pid"] for job_id in ids}
    assert len(pids) == workers, f"{len(pids)} workers of {workers} had a job"
    return sum(process.memory_full_info().pss for process in supervisor.family()) / (1 << 20)


def restart_ms(supervisor: RunningSupervisor, jobs: Jobs, rounds: int) -> float:
    """Return the median of the milliseconds from a crash to the first line of the next job.

    With spares, one is ready each time.
    """
    found = []
    for number in range(1, rounds + 1):
        if supervisor.config["pool"]["spares"]:
            supervisor.wait_for("spare.ready", timeout_s=300, count=number)
        crash = jobs.insert("dies_with_its_model", {}, priority=1)
        following = jobs.insert("predicts", {})
        started = jobs.wait(following, within_s=300)["result"]["at"]
        found.append((started - float(jobs.wait(crash)["attempts"][-1]["logs"])) * 1000)
    return statistics.median(found)


BENCH = Bench(
    "memory",
    "workers with a model of 500 MB, PSS, and back after a crash",
    measure,
    ratios=(
        Ratio("eight", "one", at_most=1.3),
        Ratio("restart", "restart, loaded by each"),
        Ratio("restart, a spare ready", "restart, loaded by each"),
    ),
    wanted=(Wanted("restart", 100),),
    rounds=1,
    quick_rounds=1,
    in_quick=False,
)
