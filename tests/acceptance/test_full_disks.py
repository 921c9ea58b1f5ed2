"""No room in the folder for temporary files, or in shared memory: a supervisor needs both for its workers."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.small_disks import fill, own_shared_memory, small_disk
from tests.support.supervising import Jobs, RunningSupervisor, configuration, gone
from tests.support.until import until

pytestmark = pytest.mark.slow

OPTIONS = "size=1m,nr_inodes=100"


@contextmanager
def running(supervisor: RunningSupervisor) -> Iterator[RunningSupervisor]:
    try:
        yield supervisor.start()
        family = supervisor.family()
        assert supervisor.stop() == 0
        gone(family)
    finally:
        supervisor.end()


def works(jobs: Jobs) -> None:
    """Jobs that leave nothing behind run, and a worker that dies has a successor."""
    ids = [jobs.insert("ok") for _ in range(50)]
    for job_id in [*ids, jobs.insert("crashes_once"), jobs.insert("ok")]:
        assert jobs.wait(job_id)["status"] == "completed"


def grows(supervisor: RunningSupervisor, jobs: Jobs, folder: Path, ballast: list[Path]) -> None:
    """There is no more room for more workers; when there is, they come."""
    supervisor.edit("pool", workers=4)
    assert "No space left on device" in supervisor.wait_for("worker.start_failed", timeout_s=20)["reason"]
    works(jobs)
    for each in ballast:
        each.unlink()
    until(lambda: _idle(jobs) == 4, 30, "four idle slots")


def _idle(jobs: Jobs) -> int:
    (document,) = jobs.collection.database["supervisors"].find()
    return sum(slot["state"] == "idle" for slot in document["slots"])


def test_a_full_folder_for_temporary_files_fails_what_needs_it_and_nothing_else(
    jobs: Jobs, mongo_uri: str, database_name: str, tmp_path: Path
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="s", dir="/tmp"))  # in pytest's, paths are too long for a socket
    config = configuration(mongo_uri, database_name)
    supervisor = RunningSupervisor(tmp_path / "supervisor", config, environ={"TMPDIR": str(folder)})
    try:
        with small_disk(folder, OPTIONS), running(supervisor):
            ballast = fill(folder)
            works(jobs)
            for handler, payload in (("prints", {}), ("large", {"bytes": 1 << 20})):
                job = jobs.run(handler, payload, max_attempts=1)
                assert (job["status"], job["error"]["kind"]) == ("failed", "exception")
                assert "No space left on device" in job["error"]["message"]
            grows(supervisor, jobs, folder, ballast)
            assert jobs.run("large", {"bytes": 100_000})["status"] == "completed"
            assert jobs.run("prints")["status"] == "completed"
    finally:
        shutil.rmtree(folder)


def test_full_shared_memory_stops_no_worker_that_stands(
    jobs: Jobs, mongo_uri: str, database_name: str, tmp_path: Path
) -> None:
    supervisor = RunningSupervisor(
        tmp_path / "supervisor", configuration(mongo_uri, database_name), within=own_shared_memory(OPTIONS)
    )
    with running(supervisor):
        folder = Path(f"/proc/{supervisor.pid}/root") / "dev" / "shm"
        ballast = fill(folder)
        works(jobs)
        grows(supervisor, jobs, folder, ballast)
        works(jobs)
