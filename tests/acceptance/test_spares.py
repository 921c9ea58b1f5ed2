"""Spare workers: a slot that loses its worker has another one at once, however long its model takes to load."""

import re
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support import slow_start
from tests.support.command_line import CommandLine
from tests.support.supervising import MISBEHAVING, ROOT, Jobs, RunningSupervisor, configuration, gone
from tests.support.until import until

ALL_KEYS = {"workers": 1, "spares": 1, "modules": [MISBEHAVING, slow_start.__name__]}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The file without which no worker gets past its setup hook."""
    file = tmp_path / "model"
    file.touch()
    return file


@pytest.fixture
def supervisor(tmp_path: Path, model: Path, mongo_uri: str, database_name: str) -> Iterator[RunningSupervisor]:
    config = configuration(mongo_uri, database_name, pool=ALL_KEYS)
    environ = {slow_start.VARIABLE: str(model), "PYTHONPATH": str(ROOT)}
    running = RunningSupervisor(tmp_path / "supervisor", config, environ=environ).start()
    yield running
    running.end()


def spares(supervisor: RunningSupervisor, count: int) -> list[int]:
    """Wait until so many spares have become ready since the start; return their process ids."""
    supervisor.wait_for("spare.ready", timeout_s=30, count=count)
    return [entry["pid"] for entry in supervisor.events("spare.ready")]


def test_a_slot_that_loses_its_worker_has_the_spare_one_at_once_and_a_new_spare_follows(
    supervisor: RunningSupervisor, jobs: Jobs, model: Path, command: CommandLine
) -> None:
    (spare,) = spares(supervisor, 1)
    until(lambda: re.search(rf"spare +{spare}", command("status").out), 30, "a status that shows it")
    model.unlink()  # from here on nobody gets through his setup
    crashed = jobs.run("exits", max_attempts=1)
    following = jobs.run("prints")
    seats = [(job["attempts"][-1]["slot"], job["attempts"][-1]["pid"]) for job in (crashed, following)]
    assert [slot for slot, _ in seats] == [0, 0], "the slot stays what it is"
    assert seats[1][1] == spare != seats[0][1]
    assert following["attempts"][-1]["logs"].startswith("to stdout"), "with files of its own"

    jobs.run("exits", max_attempts=1)
    waiting = jobs.insert("ok")
    until(lambda: jobs.collection.database["supervisors"].find_one()["slots"][0]["state"] == "starting", 20)
    assert jobs.get(waiting)["status"] == "pending", "there was but one"
    model.touch()
    assert jobs.wait(waiting)["status"] == "completed"
    assert psutil.pid_exists(spares(supervisor, 2)[-1])


def test_spares_come_and_go_with_edits_and_end_with_their_supervisor(supervisor: RunningSupervisor, jobs: Jobs) -> None:
    (first,) = spares(supervisor, 1)
    supervisor.edit("pool", workers=2)
    taken = supervisor.wait_for("spare.taken")
    assert (taken["slot"], taken["pid"]) == (1, first), "a slot that is new takes it, too"
    second = spares(supervisor, 2)[-1]
    supervisor.edit("pool", max_jobs_per_worker=1)
    until(lambda: jobs.run("whoami")["result"]["pid"] == second, 30, "a worker that is recycled to be followed by it")
    supervisor.edit("pool", max_jobs_per_worker=1000, spares=2, nice=1)
    until(lambda: len(alive := living_spares(supervisor)) == 2 and all(p.nice() == 1 for p in alive), 30, "two spares")
    psutil.Process(living_spares(supervisor)[0].pid).kill()
    supervisor.wait_for("spare.failed")
    until(lambda: len(living_spares(supervisor)) == 2, 30, "the dead one to be replaced")
    supervisor.edit("pool", spares=0)
    until(lambda: not living_spares(supervisor), 30, "none")
    supervisor.edit("pool", spares=1)
    until(lambda: living_spares(supervisor), 30, "one again")
    family = supervisor.family()
    supervisor.kill()
    gone(family)


def living_spares(supervisor: RunningSupervisor) -> list[psutil.Process]:
    """Those that no slot has taken, and that live."""
    taken = {entry["pid"] for entry in supervisor.events("spare.taken")}
    family = {process.pid: process for process in supervisor.family()}
    ready = [entry["pid"] for entry in supervisor.events("spare.ready")]
    return [family[pid] for pid in ready if pid in family and pid not in taken]
