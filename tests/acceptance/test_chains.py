"""A chain of real work, OCR → entities → callback, whose supervisor is killed at every boundary of every step.

The handlers are the ones that users get, and the callback goes to a real HTTP server. A boundary is hit by holding up
the worker, the database or that server there; the product has no hook for it.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo import MongoClient

from handlers._ocr.sample import DPI, draw_sample
from supervisor.client.operator import OperatorQueue
from tests.support.failpoints import FailPoint, failing
from tests.support.mongo import RunningMongod
from tests.support.oplog import ends
from tests.support.receiver import Receiver, receiving
from tests.support.supervising import Document, Jobs, RunningSupervisor, StartSupervisor
from tests.support.until import until

STEPS = ("ocr", "ner", "calls_back")
MODULES = ["handlers.ocr", "handlers.ner", "tests.support.callbacks"]
Boundary = Callable[["Chain", str], None]
OURS = "mongo-job-supervisor"
"""How supervisors name themselves to the database; the test itself has no name there."""
PAGE = (1654, 500)
"""Of the sample, the first lines; one of them has an e-mail address."""
LONG_S, SHORT_S = 60, 4
"""A command that is held for longer than the deadline of a call, 5 s, never happens; for less, it happens then."""


@dataclass
class Chain:
    """A chain under way: its jobs, whom it calls back, and the supervisor that has it at the moment."""

    mongod: RunningMongod
    jobs: Jobs
    queue: OperatorQueue
    receiver: Receiver
    start: StartSupervisor
    supervisors: list[RunningSupervisor] = field(default_factory=list)
    worker: psutil.Process = field(init=False)

    @property
    def database(self) -> Any:
        return self.jobs.collection.database

    def job(self, step: str) -> Document:
        """The job of a step, of which there is never more than one; empty as long as there is none."""
        found = list(self.jobs.collection.find({"handler": step}))
        assert len(found) <= 1, found
        return found[0] if found else {}

    @property
    def supervisor(self) -> RunningSupervisor:
        return self.supervisors[-1]

    def supervise(self) -> None:
        """Start the next supervisor, with one worker; results go through files, as those of long documents do."""
        following = self.start(
            pool={"workers": 1, "modules": MODULES},
            limits={"result_inline_kb": 1},
            lease={"seconds": 30, "reap_every_s": 0.5},
        )
        self.supervisors.append(following)

    def reach(self, step: str) -> None:
        """Have everything before `step` done, and stop the worker while it is idle."""
        self.supervise()
        until(lambda: self.job(step).get("status") == "pending", 90, f"{step} to be next")
        slot = until(self._idle_slot, 30, "the worker to be idle")
        self.worker = psutil.Process(slot["pid"])
        self.worker.suspend()

    def _idle_slot(self) -> Document | None:
        slot = self.slot()
        return slot if slot.get("state") == "idle" else None

    def slot(self) -> Document:
        """The one slot of the supervisor that runs, as its heartbeat tells; empty before there is any."""
        found = self.database["supervisors"].find_one({"pid": self.supervisor.pid}) or {"slots": []}
        return dict(next(iter(found["slots"]), {}))

    def let_it_be_claimed(self, step: str) -> None:
        self.queue.controls.resume(step)
        until(lambda: self.job(step)["status"] == "processing", 20, f"{step} to be claimed")

    def let_it_run(self, step: str) -> None:
        """Have the job handed to the worker, which is to go on then; returns as soon as it may."""
        until(lambda: self.slot().get("job_id") == self.job(step)["_id"], 20, f"{step} to be on the slot")
        self.worker.resume()

    def until_it_returns(self, step: str) -> None:
        """Wait until the worker has handed in its outcome, which nobody has written down yet."""
        until(lambda: self.slot().get("job_id") is None, 60, f"{step} to return")
        assert self.job(step)["status"] == "processing"

    @contextmanager
    def held(self, command: str, collection: str, seconds: float = LONG_S) -> Iterator[FailPoint]:
        """Hold up a command of supervisors on a collection for so long."""
        namespace = f"{self.database.name}.{collection}"
        how = {"blockConnection": True, "blockTimeMS": seconds * 1000, "appName": OURS, "namespace": namespace}
        with failing(self.mongod, [command], **how) as point:
            yield point

    def drop_held(self) -> None:
        """End the commands of dead supervisors that are held up: they never happen."""
        with self.mongod.client() as client:
            ours = {"appName": OURS, "opid": {"$exists": True}}
            for operation in client.admin.aggregate([{"$currentOp": {}}, {"$match": ours}]):
                client.admin.command("killOp", op=operation["opid"])


def claimed(chain: Chain, step: str) -> None:
    """The claim is written, and the supervisor has not heard yet what it has won."""
    with chain.held("find", "jobs"):
        chain.let_it_be_claimed(step)
        chain.supervisor.kill()
        chain.drop_held()


def running(chain: Chain, step: str) -> None:
    """The handler is in the middle: it has asked for its document or its parent's result, or for the other service."""
    chain.let_it_be_claimed(step)
    if step == STEPS[-1]:
        chain.receiver.answering.clear()
        chain.let_it_run(step)
        until(lambda: chain.receiver.requests, 20, "the request")
        chain.supervisor.kill()
        chain.receiver.answering.set()
    else:
        with chain.held("find", "files.files") as point:
            chain.let_it_run(step)
            point.wait(30)
            chain.supervisor.kill()
            chain.drop_held()


def returned(chain: Chain, step: str) -> None:
    """The worker has returned, and nothing of that is written."""
    chain.let_it_be_claimed(step)
    with chain.held("update", "jobs"):
        chain.let_it_run(step)
        chain.until_it_returns(step)
        chain.supervisor.kill()
        chain.drop_held()


def recording(chain: Chain, step: str) -> None:
    """The record is under way: between the completion and the follower's insertion, or sent and not answered yet."""
    chain.let_it_be_claimed(step)
    if step != STEPS[-1]:
        with chain.held("insert", "jobs", SHORT_S) as point:
            chain.worker.resume()
            point.wait(60)
            chain.supervisor.kill()
        return
    with chain.held("update", "jobs", SHORT_S) as point:
        chain.let_it_run(step)
        chain.until_it_returns(step)
        point.wait(60)
        chain.supervisor.kill()
    # what was sent comes true although nobody is there to hear it
    chain.jobs.wait(chain.job(step)["_id"], "completed")


def recorded(chain: Chain, step: str) -> None:
    """The step is complete, and its follower is there and waits."""
    chain.let_it_be_claimed(step)
    chain.let_it_run(step)
    chain.jobs.wait(chain.job(step)["_id"], "completed", within_s=60)
    chain.supervisor.kill()


@pytest.fixture
def chain(
    mongod: RunningMongod, mongo_uri: str, database_name: str, jobs: Jobs, start: StartSupervisor, tmp_path: Path
) -> Iterator[Chain]:
    draw_sample().crop((0, 0, *PAGE)).save(tmp_path / "page.png", dpi=(DPI, DPI))
    with receiving() as receiver, MongoClient[Document](mongo_uri, tz_aware=True) as client:
        queue = OperatorQueue(client, database_name)
        for step in STEPS:
            queue.controls.pause(step)
        then = {"handler": "calls_back", "payload": {"url": receiver.address}}
        then = {"handler": "ner", "payload": {"model": "rules"}, "then": [then]}
        queue.enqueue("ocr", {"source": {"file_id": queue.upload(tmp_path / "page.png")}}, then=[then])
        yield Chain(mongod, jobs, queue, receiver, start)


LOST: dict[Boundary, tuple[str, ...]] = {
    claimed: STEPS,
    running: STEPS,
    returned: STEPS,
    recording: STEPS[:-1],
    recorded: (),
}
"""The steps whose attempt is lost to a kill at this boundary."""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("boundary", LOST)
def test_a_chain_survives_a_kill_of_its_supervisor_at_every_boundary_of_every_step(
    boundary: Boundary, chain: Chain
) -> None:
    for step in STEPS:
        chain.reach(step)
        boundary(chain, step)
    chain.supervise()
    chain.jobs.wait_for_all(120)
    # what was killed in the middle of its request cannot know whether that got through, and asks again
    check(chain, LOST[boundary], requests=2 if boundary is running else 1)


def test_a_chain_survives_a_kill_between_a_completion_and_the_insertion_of_its_follower(chain: Chain) -> None:
    chain.reach("ocr")
    recording(chain, "ocr")
    chain.queue.controls.resume_all()
    chain.supervise()
    chain.jobs.wait_for_all(90)
    check(chain, ("ocr",), requests=1)


def check(chain: Chain, lost: Sequence[str], requests: int) -> None:
    """Each step is one job, completed once; the callback was asked for `requests` times and has had its effect once."""
    jobs = [chain.job(step) for step in STEPS]
    assert chain.jobs.collection.count_documents({}) == len(STEPS)
    assert [job["status"] for job in jobs] == ["completed"] * len(STEPS)
    assert [job.get("children") for job in jobs] == [[jobs[1]["_id"]], [jobs[2]["_id"]], None]
    ended = ends(chain.database.client, chain.jobs.collection.full_name)
    assert [ended[job["_id"]] for job in jobs] == [1] * len(STEPS)

    outcomes = {job["handler"]: [entry["outcome"] for entry in job["attempts"]] for job in jobs}
    assert outcomes == {step: ["lost", "completed"] if step in lost else ["completed"] for step in STEPS}
    # at once, and not after a lease, or the minute for which the transaction of a dead client stays open
    orphaned = [line for each in chain.supervisors for line in each.output().splitlines() if "job.orphaned" in line]
    assert [json.loads(line)["cause"] for line in orphaned] == ["its supervisor died"] * len(lost)

    tokens = [token for _, token in chain.receiver.requests]
    assert tokens == sorted(set(tokens)), "each attempt under a token of its own"
    assert len(tokens) == requests
    (told,) = chain.receiver.done.items()
    assert told[0] == str(jobs[2]["_id"])
    assert told[1]["counts"]["EMAIL"] >= 1
