"""A run from its start to its evidence."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from pymongo import WriteConcern

from tests.chaos.audit import Evidence
from tests.chaos.fleet import DATABASE, Fleet
from tests.chaos.history import read_history
from tests.chaos.injectors import GONE_S, INJECTORS
from tests.chaos.ledger import Effects, Ledger
from tests.chaos.plan import WORKERS, Plan
from tests.chaos.producer import Producer
from tests.chaos.world import World
from tests.support.mongo import start_replica_set
from tests.support.processes import command_line
from tests.support.until import until

WATCH_EVERY_S = 0.5
QUIET_S = 120.0
"""Without a job that ends for so long, after the faults are over, what is left will not end."""
READ_MS = 60_000


def run(plan: Plan, folder: Path) -> tuple[World, Evidence]:
    """Run the plan in `folder`; everything that was started is gone afterwards."""
    with _world(plan, folder) as world:
        producer = _disturb(world)
        _mend(world)
        _wait_for_the_rest(world)
        world.troubles += _left_by_jobs(world)
        world.troubles += world.fleet.stop()
        return world, _collect(world, producer, _left_running(world))


@contextlib.contextmanager
def _world(plan: Plan, folder: Path) -> Iterator[World]:
    replica_set = start_replica_set(folder)
    world = World(plan, folder, replica_set, Fleet(folder, replica_set.uri))
    try:
        Effects(folder).prepare()
        world.fleet.start()
        world.started_at = time.monotonic()
        yield world
    finally:
        world.over.set()
        world.fleet.kill()
        replica_set.stop()


def _disturb(world: World) -> Producer:
    """Have the jobs arrive while the faults are injected; return when both are over."""
    producer = Producer(world)
    parts = [producer, *(injector(world) for injector in INJECTORS)]
    for part in parts:
        part.start()
    while not all(part.finished.is_set() for part in parts):
        world.wait(WATCH_EVERY_S)
        world.troubles += world.fleet.start_again_what_ended()
    return producer


def _mend(world: World) -> None:
    for member in world.fleet.members:
        member.resize(WORKERS)
        member.wait_until_ready()
    world.replica_set.primary()


def _wait_for_the_rest(world: World) -> None:
    """Wait until every job has ended, or none does any more; which of the two, the audit finds."""
    with world.client(timeout_ms=5000) as client:
        jobs, last, since = world.jobs(client), -1, time.monotonic()
        while time.monotonic() < since + QUIET_S:
            left = jobs.count_documents({"status": {"$in": ["pending", "processing"]}})
            if not left:
                return
            if left != last:
                last, since = left, time.monotonic()
            world.wait(WATCH_EVERY_S)
            world.troubles += world.fleet.start_again_what_ended()


def _left_by_jobs(world: World) -> list[str]:
    """Return what jobs have started and ended jobs have left, while the supervisors are still running."""
    strangers = [process for process in world.fleet.processes() if process.name() == "sleep"]
    return [f"left by a job that ended: {command_line(process)}" for process in strangers]


def _left_running(world: World) -> list[str]:
    with contextlib.suppress(AssertionError):
        until(lambda: not world.fleet.processes(), GONE_S)
    return [command_line(process) for process in world.fleet.processes()]


def _collect(world: World, producer: Producer, left: list[str]) -> Evidence:
    with world.client(timeout_ms=READ_MS) as client:
        # what is read after this write is everywhere, and no election can take it back
        everywhere = WriteConcern(w=len(world.replica_set.members), j=True)
        client[DATABASE].get_collection("marks", write_concern=everywhere).insert_one({})
        documents = {str(job["_id"]): job for job in world.jobs(client).find()}
        files = client[DATABASE]["files.files"].find({}, {"length": 1})
        return Evidence(
            ordered=producer.ordered,
            documents=documents,
            history=read_history(client),
            ledger=Ledger(world.folder).entries(),
            effects=Effects(world.folder).standing(),
            files={file["_id"]: file["length"] for file in files},
            processes=left,
            troubles=world.troubles,
        )
