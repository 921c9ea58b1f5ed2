"""A replica set of three whose primary dies, hangs or steps down in the middle of a claim, a renewal or a record."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient, timeout
from pymongo.errors import PyMongoError

from tests.support.failpoints import failing
from tests.support.mongo import RunningMongod, RunningReplicaSet, start_replica_set
from tests.support.oplog import ends
from tests.support.supervising import Document, Jobs, RunningSupervisor, configuration, gone
from tests.support.until import until

DATABASE = "failover"
NAMESPACE = f"{DATABASE}.jobs"
WRITES = ["update", "findAndModify"]
LEASE = {"seconds": 20, "reap_every_s": 0.5}
"""Long enough for any election here: none of these faults may cost an attempt."""


@pytest.fixture(scope="module")
def members(
    mongod: RunningMongod, tmp_path_factory: pytest.TempPathFactory, lasting: set[int]
) -> Iterator[RunningReplicaSet]:
    """Three members, each with a clock of its own where that can be had."""
    running = start_replica_set(tmp_path_factory.mktemp("members"), own_clocks=True)
    lasting.update(member.pid for member in running.members)
    yield running
    running.stop()


@pytest.fixture
def whole(members: RunningReplicaSet, lasting: set[int]) -> Iterator[RunningReplicaSet]:
    """The replica set with a primary; afterwards, what the test has ended is started again."""
    members.primary()
    yield members
    for member in members.members:
        if not member.alive():
            member.restart()
            lasting.add(member.pid)
    members.primary()


@pytest.fixture(scope="module")
def supervisor(
    members: RunningReplicaSet, tmp_path_factory: pytest.TempPathFactory, lasting: set[int]
) -> Iterator[RunningSupervisor]:
    """One supervisor for all tests here: after every failover it must work on."""
    config = configuration(members.uri, DATABASE, lease=LEASE)
    running = RunningSupervisor(tmp_path_factory.mktemp("supervisor"), config).start()
    lasting.add(running.pid)
    yield running
    family = running.family()
    members.primary()
    assert running.stop() == 0
    gone(family)


@pytest.fixture
def jobs(members: RunningReplicaSet) -> Iterator[Jobs]:
    """A producer that is served by whoever is primary, and waits out an election."""
    with MongoClient[Document](members.uri, tz_aware=True, w="majority", timeoutMS=20_000) as client:
        yield Jobs(client[DATABASE]["jobs"])


def ended_once(jobs: Jobs, *job_ids: Any) -> bool:
    counted = ends(jobs.collection.database.client, NAMESPACE)
    return {job_id: counted[job_id] for job_id in job_ids} == dict.fromkeys(job_ids, 1)


def left_alone(job: Document) -> bool:
    """Completed at the first try, as if nothing had happened."""
    return (job["status"], job["attempt"], job["claims"], len(job["attempts"])) == ("completed", 1, 1, 1)


def started(supervisor: RunningSupervisor, job_id: Any) -> bool:
    return any(entry["job_id"] == str(job_id) for entry in supervisor.events("job.started"))


@contextmanager
def held_up(primary: RunningMongod) -> Iterator[Any]:
    """Hold up every write to a job for some seconds, in the middle of which the primary is to go."""
    with failing(primary, WRITES, namespace=NAMESPACE, blockConnection=True, blockTimeMS=3000) as point:
        yield point


def step_down(primary: RunningMongod) -> None:
    with primary.client(timeout_ms=10_000) as client:
        client.admin.command("replSetStepDown", 5, force=True)


def test_a_primary_that_is_killed_in_mid_claim(
    whole: RunningReplicaSet, supervisor: RunningSupervisor, jobs: Jobs, tmp_path: Path
) -> None:
    acknowledged = jobs.run("ok")["_id"]
    supervisor.wait_for("attempt.ended")
    ledger, primary = tmp_path / "ledger", whole.primary()
    with held_up(primary) as point:
        job_id = jobs.insert("ledger", {"ledger": str(ledger)})
        point.wait()
        primary.kill()
    job = jobs.wait(job_id, within_s=40)
    assert (job["status"], job["attempt"]) == ("completed", 1)
    assert len(ledger.read_text().splitlines()) == 2, "one start and one end"
    assert jobs.get(acknowledged)["status"] == "completed", "what was acknowledged is not undone"
    assert ended_once(jobs, acknowledged, job_id)


def test_a_primary_that_steps_down_in_mid_renewal(
    whole: RunningReplicaSet, supervisor: RunningSupervisor, jobs: Jobs
) -> None:
    primary = whole.primary()
    job_id = jobs.insert("sleeps", {"seconds": 6})
    until(lambda: started(supervisor, job_id))
    with held_up(primary) as point:
        point.wait()
        step_down(primary)
    assert left_alone(jobs.wait(job_id, within_s=40))
    assert ended_once(jobs, job_id)


def test_a_primary_that_is_killed_in_mid_completion(
    whole: RunningReplicaSet, supervisor: RunningSupervisor, jobs: Jobs
) -> None:
    primary = whole.primary()
    plain = jobs.insert("sleeps", {"seconds": 1})
    parent = jobs.insert("sleeps", {"seconds": 1}, then=[{"handler": "ok"}])
    until(lambda: started(supervisor, plain) and started(supervisor, parent))
    with held_up(primary) as point:
        point.wait(count=2)
        primary.kill()
    assert left_alone(jobs.wait(plain, within_s=40))
    ended = jobs.wait(parent, within_s=40)
    assert left_alone(ended)
    (child,) = ended["children"]
    assert jobs.wait(child)["status"] == "completed"
    assert jobs.collection.count_documents({"payload.parent_job_id": parent}) == 1
    assert ended_once(jobs, plain, parent, child)


def test_a_primary_that_hangs(whole: RunningReplicaSet, supervisor: RunningSupervisor, jobs: Jobs) -> None:
    primary = whole.primary()
    running = jobs.insert("sleeps", {"seconds": 3})
    until(lambda: started(supervisor, running))
    primary.kill(signal.SIGSTOP)
    try:
        since = time.monotonic()
        waiting = until(lambda: insert_if_possible(jobs), 40, "a primary that takes a job")
        assert jobs.wait(waiting, within_s=40)["status"] == "completed"
        # a few seconds; more where the other secondary was fetching from it, and has to notice that first
        assert time.monotonic() - since < 30
    finally:
        primary.kill(signal.SIGCONT)
    assert left_alone(jobs.wait(running, within_s=40))
    assert ended_once(jobs, running, waiting)


def insert_if_possible(jobs: Jobs) -> Any:
    try:
        with timeout(2):  # else the producer's own call hangs with the primary
            return jobs.insert("ok")
    except PyMongoError:
        return None


def test_a_primary_that_steps_down_again_and_again(
    whole: RunningReplicaSet, supervisor: RunningSupervisor, jobs: Jobs
) -> None:
    ids = []
    for _ in range(2):
        ids += [jobs.insert("busy", {"seconds": 0.02}) for _ in range(10)]
        step_down(whole.primary())
    for job_id in ids:
        job = jobs.wait(job_id, within_s=40)
        assert (job["status"], job["attempt"]) == ("completed", 1)
    assert ended_once(jobs, *ids)


def test_a_write_of_unknown_durability_is_made_again_and_recorded_once(
    whole: RunningReplicaSet, supervisor: RunningSupervisor, jobs: Jobs
) -> None:
    unknown = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out"}
    job_id = jobs.insert("sleeps", {"seconds": 0.5})
    until(lambda: started(supervisor, job_id))
    with failing(whole.primary(), ["update"], {"times": 2}, namespace=NAMESPACE, writeConcernError=unknown) as point:
        point.wait()
        assert left_alone(jobs.wait(job_id))
    assert ended_once(jobs, job_id)


def test_without_a_majority_results_are_held_and_written_when_it_is_back(
    whole: RunningReplicaSet, supervisor: RunningSupervisor, jobs: Jobs, tmp_path: Path, lasting: set[int]
) -> None:
    primary = whole.primary()
    others = [member for member in whole.members if member is not primary]
    others[0].kill()

    late = configuration(whole.uri, DATABASE, mongo={"collection": "others"}, lease=LEASE)
    other_jobs = Jobs(jobs.collection.database["others"])
    other_job = other_jobs.insert("ok")
    newcomer = RunningSupervisor(tmp_path / "newcomer", late).start()
    try:
        assert newcomer.events("database.index_missing"), "it builds none while a member is down"
        assert other_jobs.wait(other_job)["status"] == "completed"
    finally:
        family = newcomer.family()
        newcomer.stop()
        gone(family)

    job_id = jobs.insert("sleeps", {"seconds": 1})
    until(lambda: started(supervisor, job_id))
    others[1].kill()
    known = len(supervisor.events("database.unavailable"))
    supervisor.wait_for("database.unavailable", timeout_s=20, count=known + 1)
    for member in others:
        member.restart()
        lasting.add(member.pid)
    assert left_alone(jobs.wait(job_id, within_s=40))
    assert ended_once(jobs, job_id)


def test_a_new_primary_whose_clock_is_ahead_ends_no_lease(
    whole: RunningReplicaSet, supervisor: RunningSupervisor, jobs: Jobs, tmp_path: Path
) -> None:
    config = configuration(whole.uri, DATABASE, lease=LEASE, pool={"workers": 0})
    onlooker = RunningSupervisor(tmp_path / "onlooker", config).start()  # it only reaps
    try:
        job_id = jobs.insert("sleeps", {"seconds": 8})
        until(lambda: started(supervisor, job_id))
        primary = whole.primary()
        ahead = next(member for member in whole.members if member is not primary)
        ahead.set_clock(120)
        if not clock_differs(primary, ahead):
            pytest.skip("libfaketime is not installed (the Debian package libfaketime)")
        for jump_s, member in [(120, ahead), (-120, primary)]:
            step_up(member)
            until(lambda seen=jump_s: saw_jump(onlooker, seen), 20, f"the onlooker to doubt a clock {jump_s} s off")
        assert left_alone(jobs.wait(job_id, within_s=40))
        assert not onlooker.events("job.orphaned")
        assert ended_once(jobs, job_id)
    finally:
        for member in whole.members:
            member.set_clock(0)
        onlooker.end()


def saw_jump(onlooker: RunningSupervisor, jump_s: float) -> bool:
    doubted = onlooker.events("database.clock_doubted")
    return any(entry["new_primary"] and abs(entry["jump_s"] - jump_s) < 5 for entry in doubted)


def clock_differs(one: RunningMongod, other: RunningMongod) -> bool:
    def difference_s() -> float:
        return abs((one.hello()["localTime"] - other.hello()["localTime"]).total_seconds())

    try:
        return until(lambda: difference_s() > 100, 3)
    except AssertionError:
        return False


def step_up(member: RunningMongod) -> None:
    """Make this member the primary."""

    def is_primary() -> bool:
        if not member.hello().get("isWritablePrimary"):
            with member.client(timeout_ms=10_000) as client, suppress(PyMongoError):
                client.admin.command("replSetStepUp")
        return bool(member.hello().get("isWritablePrimary"))

    until(is_primary, 20, "another primary")
