"""A network between supervisor and database that is slow, loses replies, breaks connections or swallows everything."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.failpoints import failing
from tests.support.mongo import RunningMongod
from tests.support.oplog import ends
from tests.support.proxy import Proxy, proxy_to
from tests.support.supervising import Jobs, StartSupervisor
from tests.support.until import until

pytestmark = pytest.mark.slow

CLAIM, RECORD = "findAndModify jobs", "update jobs"
"""The claim of a lone job, and the record of any."""


@pytest.fixture
def proxy(mongod: RunningMongod) -> Iterator[Proxy]:
    with proxy_to(mongod.port) as running:
        yield running


def starts(ledger: Path) -> Counter[str]:
    """How often each attempt (job and token) has started, by a file outside of the program."""
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    return Counter(" ".join(line.split()[1:3]) for line in lines if line.startswith("start"))


def ended_once(jobs: Jobs, job_ids: list[Any]) -> bool:
    namespace = f"{jobs.collection.database.name}.jobs"
    return ends(jobs.collection.database.client, namespace) == Counter(job_ids)


def test_delays_and_broken_connections_cost_time_and_nothing_else(
    start: StartSupervisor, jobs: Jobs, proxy: Proxy, tmp_path: Path
) -> None:
    start(mongo={"uri": proxy.uri}, lease={"seconds": 20})
    proxy.latency_s, proxy.resets = 0.05, 0.1
    ledger = tmp_path / "ledger"
    ids = [jobs.insert("ledger", {"ledger": str(ledger)}) for _ in range(8)]
    for job_id in ids:
        assert jobs.wait(job_id, within_s=60)["status"] == "completed"
    assert ended_once(jobs, ids)
    assert set(starts(ledger).values()) == {1}, "no attempt started twice"


def test_lost_replies_leave_no_job_claimed_by_nobody_and_none_recorded_twice(
    start: StartSupervisor, jobs: Jobs, proxy: Proxy, tmp_path: Path
) -> None:
    supervisor = start(mongo={"uri": proxy.uri}, lease={"seconds": 18})  # the claim is repeated for 5 s
    ledger = tmp_path / "ledger"

    proxy.drop = CLAIM
    lost = jobs.insert("ledger", {"ledger": str(ledger)})
    assert supervisor.wait_for("database.unavailable")["during"] == "claiming", "its repetition was lost too"
    assert jobs.get(lost)["status"] == "processing"
    proxy.drop = None
    healed = time.monotonic()
    assert jobs.wait(lost)["claims"] == 2
    assert time.monotonic() - healed < 18 / 3 + 1
    assert supervisor.events("lease.stray")

    recorded = jobs.insert("sleeps", {"seconds": 0.5})
    supervisor.wait_for("job.started", count=2)
    proxy.drop = RECORD
    assert jobs.wait(recorded)["status"] == "completed"
    assert supervisor.wait_for("database.unavailable", count=2)["during"] == "recording results"
    assert len(supervisor.events("attempt.ended")) == 1, "it does not know yet that it is recorded"
    proxy.drop = None
    ended = supervisor.wait_for("attempt.ended", count=2)
    assert (ended["job_id"], ended["status"]) == (str(recorded), "completed")
    assert len(jobs.get(recorded)["attempts"]) == 1
    assert ended_once(jobs, [lost, recorded])
    assert starts(ledger) == {f"{lost} 2": 1}, "the claim without a reply never ran"


def test_a_black_hole_of_two_leases_never_makes_two_attempts_live_at_once(
    start: StartSupervisor, jobs: Jobs, proxy: Proxy, tmp_path: Path
) -> None:
    lease = {"seconds": 4}
    cut_off = start(mongo={"uri": proxy.uri}, lease=lease, pool={"workers": 1})
    ledger = tmp_path / "ledger"
    job_id = jobs.insert("pulse", {"ledger": str(ledger), "seconds": 60})
    until(ledger.exists, what="the first sign of life")
    other = start(lease=lease, pool={"workers": 1})
    proxy.black_hole = True
    dark_since = time.monotonic()
    assert jobs.wait(job_id)["attempts"][0]["outcome"] == "lost"
    pulses = [line.split() for line in ledger.read_text().splitlines()]
    first, second = ([float(at) for token, at in pulses if token == wanted] for wanted in "12")
    assert dark_since < first[-1] < second[0] < dark_since + 4 + 5
    cut_off.wait_for("lease.expiring")
    assert other.stop() == 0

    time.sleep(max(0.0, dark_since + 8 - time.monotonic()))
    waiting = jobs.insert("ok")
    proxy.black_hole = False
    healed = time.monotonic()
    assert jobs.wait(waiting)["status"] == "completed"
    assert time.monotonic() - healed < 5
    cut_off.wait_for("job.lease_lost")
    assert ended_once(jobs, [job_id, waiting])


def test_without_a_change_stream_polling_finds_the_work(
    start: StartSupervisor, jobs: Jobs, mongod: RunningMongod
) -> None:
    start()
    namespace = f"{jobs.collection.database.name}.jobs"
    broken, stalled = {"closeConnection": True}, {"blockConnection": True, "blockTimeMS": 3000}
    for trouble in (broken, stalled):
        with failing(mongod, ["getMore"], namespace=namespace, **trouble) as point:
            point.wait()
            inserted = time.monotonic()
            assert jobs.run("ok")["status"] == "completed"
            assert time.monotonic() - inserted < 5 + 1


def change_streams(jobs: Jobs, namespace: str) -> dict[int, str]:
    """Cursors of change streams that are open on `namespace`, each with where it is asked from."""
    everything = [{"$currentOp": {"allUsers": True, "idleCursors": True}}, {"$match": {"ns": namespace}}]
    found = jobs.collection.database.client.admin.aggregate(everything)
    cursors = [each for each in found if "$changeStream" in str(each.get("cursor"))]
    return {each["cursor"]["cursorId"]: each.get("client", "") for each in cursors}


def test_a_change_stream_that_is_killed_is_opened_again(start: StartSupervisor, jobs: Jobs) -> None:
    supervisor = start()
    database = jobs.collection.database
    namespace = f"{database.name}.jobs"
    killed = until(lambda: change_streams(jobs, namespace), what="its change stream")
    for cursor in killed:
        database.command("killCursors", "jobs", cursors=[cursor])
    inserted = time.monotonic()
    assert jobs.run("ok")["status"] == "completed"
    assert time.monotonic() - inserted < 5 + 1
    until(lambda: change_streams(jobs, namespace).keys() - killed.keys(), what="another change stream")
    assert supervisor.process.poll() is None


def test_a_collection_that_is_dropped_under_a_running_job_and_made_again_is_worked_on(
    start: StartSupervisor, jobs: Jobs
) -> None:
    supervisor = start(pool={"workers": 1})
    gone_with_it = jobs.insert("sleeps", {"seconds": 60})
    supervisor.wait_for("job.started")
    jobs.collection.drop()
    inserted = time.monotonic()
    waiting = jobs.insert("ok")
    assert supervisor.wait_for("lease.lost")["job_id"] == str(gone_with_it)
    assert jobs.wait(waiting)["status"] == "completed"
    assert time.monotonic() - inserted < 5 + 1
    namespace = f"{jobs.collection.database.name}.jobs"
    until(lambda: change_streams(jobs, namespace), what="a change stream on the new collection")
    assert jobs.run("ok")["status"] == "completed"
    assert jobs.collection.count_documents({}) == 2
    assert supervisor.process.poll() is None
