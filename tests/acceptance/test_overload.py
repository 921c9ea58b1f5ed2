"""More of everything than there should be: supervisors without work, cancellations, load from outside."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from supervisor import Queue
from supervisor.wakeup import QUIET_S
from tests.support.supervising import Document, Jobs, RunningSupervisor, StartSupervisor, jobs_in

pytestmark = pytest.mark.slow

CROWD = 4
WATCH_S = 12.0

IN_WORKERS = ["ledger", "waits_for_file", "ok", "sleeps"]
"""No coroutine: a supervisor that claims those too claims for them separately."""


@pytest.fixture(scope="module")
def jobs(module_jobs: Jobs) -> Jobs:
    return module_jobs


@pytest.fixture(scope="module")
def alone(start_for_module: StartSupervisor) -> RunningSupervisor:
    """A supervisor that keeps the times and handlers that it has by default, coroutines among them."""
    return start_for_module(pool={"workers": 1}, lease={"seconds": 60, "reap_every_s": 5})


@pytest.fixture(scope="module")
def crowd(alone: RunningSupervisor, start_for_module: StartSupervisor) -> list[RunningSupervisor]:
    """That one and others beside it, each with one worker."""
    return [alone, *(start_for_module(pool={"workers": 1, "claim": IN_WORKERS}) for _ in range(CROWD - 1))]


@contextmanager
def commands(jobs: Jobs) -> Iterator[list[Document]]:
    """Have the database note what supervisors ask it; the list is filled at the end of the block."""
    database, noted = jobs.collection.database, list[Document]()
    database.command("profile", 2)
    yield noted
    database.command("profile", 0)
    noted += database["system.profile"].find({"appName": "mongo-job-supervisor"}).sort("ts")
    database["system.profile"].drop()


def claims(noted: list[Document]) -> list[Document]:
    return [entry for entry in noted if entry["command"].get("aggregate") == "jobs"]


def polls(noted: list[Document]) -> list[Document]:
    """The looks whether there is anything to claim at all."""
    found = [entry for entry in noted if entry["command"].get("find") == "jobs"]
    return [entry for entry in found if {"status", "handler"} <= entry["command"]["filter"].keys()]


def test_a_supervisor_without_work_asks_seldom_and_never_in_step(alone: RunningSupervisor, jobs: Jobs) -> None:
    with commands(jobs) as noted:
        time.sleep(WATCH_S)  # how much it asks in a while is what is tried here
    looks = polls(noted)
    assert WATCH_S / QUIET_S / 2 < len(looks) < WATCH_S / QUIET_S * 2
    gaps = [(later["ts"] - earlier["ts"]).total_seconds() for earlier, later in pairwise(looks)]
    assert max(gaps) - min(gaps) > 0.1 * QUIET_S, "jittered"
    assert not claims(noted), "for nothing"
    assert len(noted) < WATCH_S * 3, "with its heartbeat, controls, reaper and change streams"


def test_one_job_is_started_once_however_many_wait_for_it(
    crowd: list[RunningSupervisor], jobs: Jobs, tmp_path: Path
) -> None:
    ledger, herd = tmp_path / "ledger", 8
    with commands(jobs) as noted:
        begun = time.monotonic()
        for _ in range(herd):
            job = jobs.run("ledger", {"ledger": str(ledger)})
            assert (job["attempt"], job["claims"]) == (1, 1)
        took_s = time.monotonic() - begun
    starts = [line for line in ledger.read_text().splitlines() if line.startswith("start")]
    assert len(starts) == herd
    woken, polling = herd * (len(crowd) + 3 + 2), took_s * len(crowd) * 2
    assert len(claims(noted)) <= woken + polling, "each looks once; who has run the job looks again; one has two kinds"


def test_5000_cancellations_at_once_stop_the_jobs_that_were_meant_and_no_other(
    crowd: list[RunningSupervisor], jobs: Jobs, mongo_uri: str, tmp_path: Path
) -> None:
    go, ledger = tmp_path / "go", tmp_path / "ledger"
    kept, stopped = ([jobs.insert("waits_for_file", {"path": str(go)}) for _ in range(CROWD // 2)] for _ in range(2))
    for job_id in (*kept, *stopped):
        jobs.wait(job_id, "processing")
    waiting = [{"handler": "ledger", "status": "pending", "payload": {"ledger": str(ledger)}} for _ in range(5040)]
    ids = jobs.collection.insert_many(waiting).inserted_ids
    spared, by_queue = ids[::126], [each for n, each in enumerate(ids) if 0 < n % 126 < 5]
    by_document = [each for n, each in enumerate(ids) if n % 126 >= 5]

    database = jobs.collection.database.name
    with Queue.connect(mongo_uri, database=database) as queue, ThreadPoolExecutor(8) as threads:
        one_by_one = threads.map(queue.cancel, by_queue)
        ask = {"$set": {"cancel_requested": True}}
        jobs.collection.update_many({"_id": {"$in": by_document}}, ask)
        jobs.collection.update_many({"_id": {"$in": stopped}}, ask)
        assert set(one_by_one) == {"cancelled"}
    for job_id in stopped:
        jobs.wait(job_id)
    go.touch()
    jobs.wait_for_all(timeout_s=60)

    outcomes = {job["_id"]: job for job in jobs.collection.find()}
    assert {outcomes[job_id]["status"] for job_id in (*by_document, *by_queue, *stopped)} == {"cancelled"}
    for job_id in (*kept, *spared):
        job = outcomes[job_id]
        assert (job["status"], job["attempt"], job["claims"], len(job["attempts"])) == ("completed", 1, 1, 1)
    started = Counter(line.split()[1] for line in ledger.read_text().splitlines() if line.startswith("start"))
    assert started == {str(job_id): 1 for job_id in spared}


@contextmanager
def load(processes: int) -> Iterator[None]:
    """Keep the cores busy with others' work of the same importance."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for each in busy:
            each.kill()
            each.wait()


def test_no_lease_is_lost_to_a_machine_with_twice_the_work_that_it_can_do(
    start: StartSupervisor, mongo_uri: str, database_name: str
) -> None:
    both = [start(lease={"seconds": 3}) for _ in range(2)]  # each would take over what the other one lets go
    with jobs_in(mongo_uri, database_name) as jobs, load(2 * (os.cpu_count() or 1)):
        ids = [jobs.insert("sleeps", {"seconds": 6}), *(jobs.insert("busy") for _ in range(10))]
        ended = [jobs.wait(job_id, within_s=60) for job_id in ids]
    assert all((job["status"], job["attempt"], job["claims"]) == ("completed", 1, 1) for job in ended)
    for supervisor in both:
        assert not [name for name in ("job.orphaned", "lease.lost", "lease.expiring") if supervisor.events(name)]
