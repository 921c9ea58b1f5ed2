"""The facts that tell why a job is not running, from a real database: above all, how many jobs come before it."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId

from supervisor.client.operator import OperatorQueue
from supervisor.client.reasons import MOST_COUNTED
from supervisor.client.why import reasons
from supervisor.errors import JobNotFoundError
from supervisor.store.claims import ClaimStore
from supervisor.store.presence import PresenceStore
from tests.support.jobs import JOBS, OWNER, claim_some, insert_unchecked, pending, room

FUTURE = datetime(9999, 1, 1, tzinfo=UTC)
HANDLERS = ("count", "sum")


@pytest.fixture
def queue(mongo_uri, database_name, jobs):
    with OperatorQueue.connect(mongo_uri, database_name, payload_kb=1) as connection:
        yield connection


@pytest.fixture
async def beats(database):
    """A supervisor with a free slot, and one handler more than it claims."""
    entries = [{"handler": name, "claimed": name in HANDLERS, "max_running": None, "running": 0}
               for name in (*HANDLERS, "elsewhere")]  # fmt: skip
    report = {"host": "h", "phase": "running", "workers": 1, "slots": [{"slot": 0, "state": "idle"}]}
    await PresenceStore(database, "s1").beat({**report, "handlers": entries})
    # it beats once only, and the test may take longer than a supervisor may be silent
    await database["supervisors"].update_one({}, {"$set": {"heartbeat_at": datetime.now(UTC) + timedelta(hours=1)}})


async def in_front(queue, job_id):
    return (await asyncio.to_thread(queue.facts, job_id)).in_front


async def codes(queue, job_id):
    return [reason.code.value for reason in reasons(await asyncio.to_thread(queue.facts, job_id))]


async def test_as_many_jobs_are_in_front_as_are_claimed_before(database, jobs, queue, beats):
    dice = random.Random(7)
    moments = [datetime.now(UTC) - timedelta(hours=hours) for hours in (1, 2, 3)]
    ids = [*range(20), *(f"id-{number}" for number in range(20)), *(ObjectId() for _ in range(20))]
    dice.shuffle(ids)
    fields = [{"priority": dice.choice([None, -3, 0, 0.0, 2, 2.0, 9]), "run_at": dice.choice([None, *moments])}
              for _ in ids]  # fmt: skip
    missing = [{name: value for name, value in each.items() if value is not None or dice.random() < 0.5}
               for each in fields]  # fmt: skip
    await jobs.insert_many(
        [pending(_id=job_id, handler=dice.choice(HANDLERS), **each) for job_id, each in zip(ids, missing, strict=True)]
    )
    await jobs.insert_many([
        *(pending(priority=99, run_at=FUTURE) for _ in range(5)),
        *(pending(priority=99, handler="elsewhere") for _ in range(5)),
        *(pending(priority=99, status="failed") for _ in range(5)),
    ])  # fmt: skip
    counted = {job_id: await in_front(queue, job_id) for job_id in ids}
    claims = await claim_some(ClaimStore(database, JOBS, OWNER), len(ids), room(*HANDLERS))
    assert [counted[claim.job.id] for claim in claims] == list(range(len(ids)))


async def test_counting_reads_hardly_more_than_what_it_counts(database, jobs, queue, beats):
    await jobs.insert_many([pending(_id=number, priority=number % 3, handler=HANDLERS[number % 2])
                            for number in range(900)])  # fmt: skip
    await jobs.insert_many([pending(priority=5, run_at=FUTURE) for _ in range(2000)])
    await database.command("profile", 2)
    assert await in_front(queue, 897) == 600 + 299
    await database.command("profile", 0)
    counts = {"command.aggregate": JOBS, "command.pipeline.$count": {"$exists": True}}
    seen = await database["system.profile"].find(counts).to_list()
    assert seen
    for figure in ("docsExamined", "keysExamined"):
        assert sum(each[figure] for each in seen) < 1000, "jobs that are not due must not be read"


async def test_counting_stops_at_its_bound(jobs, queue, monkeypatch):
    monkeypatch.setattr("supervisor.client.facts.MOST_COUNTED", 10)
    await jobs.insert_many([pending(_id=number, priority=number % 3) for number in range(60)])
    assert await in_front(queue, 57) == 11
    assert MOST_COUNTED == 10_000


async def test_what_a_claim_would_refuse_is_told_before_it_does(jobs, queue, beats):
    await insert_unchecked(
        jobs, pending(_id="large", payload={"text": "x" * 2000}), pending(_id="odd", attempts=7), pending(_id="fine"),
        pending(_id="typed", priority="high"), {"_id": "bare", "status": "pending"},
    )  # fmt: skip
    problems = {job_id: (await asyncio.to_thread(queue.facts, job_id)).problem
                for job_id in ("large", "odd", "typed", "bare", "fine")}  # fmt: skip
    assert problems == {
        "large": "payload: is 2 kB, must be at most 1 kB (limits.payload_kb); larger input belongs in a file",
        "odd": "attempts: is of type int, must be an array",
        "typed": "priority: is 'high', must be an integer from -2147483648 to 2147483647",
        "bare": "handler: missing, must be a string",
        "fine": None,
    }
    assert (await codes(queue, "typed"))[0] == "invalid"
    assert await codes(queue, "fine") == ["free"]


async def test_pauses_and_heartbeats_are_taken_in(jobs, queue, beats):
    await jobs.insert_one(pending(_id=1))
    assert await codes(queue, 1) == ["free"]
    await asyncio.to_thread(queue.controls.pause, "count", "why not")
    assert await codes(queue, 1) == ["paused", "free"]
    with pytest.raises(JobNotFoundError, match="no job has the id '2'"):
        await asyncio.to_thread(queue.facts, 2)
