"""Many jobs of all kinds while the pool is resized, and two supervisors on one database."""

import collections
from pathlib import Path
from typing import Any

from tests.support.supervising import Jobs, StartSupervisor, gone
from tests.support.until import until

KINDS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # handler, fields, how it must end
    ("ok", {}, {"status": "completed", "attempt": 1}),
    ("raises", {"max_attempts": 2}, {"status": "failed", "attempt": 2, "kind": "exception"}),
    ("sleeps", {"timeout_s": 0.05, "max_attempts": 1}, {"status": "failed", "attempt": 1, "kind": "timeout"}),
    ("segfault", {"max_attempts": 1}, {"status": "failed", "attempt": 1, "kind": "crash", "crashes": 1}),
    ("exits", {"max_attempts": 2}, {"status": "failed", "attempt": 2, "kind": "crash", "crashes": 2}),
    ("crashes_once", {}, {"status": "completed", "attempt": 2, "crashes": 1}),
    ("unstorable", {"payload": {"kind": "lock"}}, {"status": "failed", "attempt": 1, "kind": "result"}),
    ("double", {"payload": {"n": 2}}, {"status": "completed", "attempt": 1}),
    ("sys_exit", {"max_attempts": 1}, {"status": "failed", "attempt": 1, "kind": "exception"}),
    ("busy", {}, {"status": "completed", "attempt": 1}),
]


def test_500_jobs_of_all_kinds_end_as_they_should_while_workers_is_edited(
    start: StartSupervisor, jobs: Jobs, tmp_path: Path
) -> None:
    supervisor = start(pool={"workers": 2, "kill_grace_s": 0.2})
    pids = tmp_path / "pids"
    stubborn = jobs.insert("ignores_everything", {"pids": str(pids)}, timeout_s=1, max_attempts=1, priority=5)
    expected = {}
    for number in range(499):
        handler, fields, ending = KINDS[number % len(KINDS)]
        payload = fields.get("payload", {"seconds": 30} if handler == "sleeps" else {})
        others = {key: value for key, value in fields.items() if key != "payload"}
        expected[jobs.insert(handler, payload, **others)] = ending
    ended = {"status": {"$in": ["completed", "failed"]}}
    for share, workers in [(100, 4), (250, 1), (300, 2)]:
        until(lambda share=share: jobs.collection.count_documents(ended) >= share, 60, f"{share} ended jobs")
        supervisor.edit("pool", workers=workers)
    jobs.wait_for_all(timeout_s=90)

    wrong = []
    for job_id, ending in expected.items():
        job = jobs.get(job_id)
        seen = {key: job.get(key) for key in ("status", "attempt", "crashes")} | {
            "kind": (job.get("error") or {}).get("kind")
        }
        if any(seen[key] != value for key, value in ending.items()):
            wrong.append((job["handler"], ending, seen))
    assert wrong == []
    assert jobs.get(stubborn)["error"]["kind"] == "timeout"
    assert [change["new"] for change in supervisor.events("pool.resized")] == [2, 4, 1, 2]
    family = supervisor.family()
    assert supervisor.stop() == 0
    gone(family)


def test_two_supervisors_share_1000_jobs_and_survive_the_death_of_one(
    start: StartSupervisor, jobs: Jobs, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    documents = [
        {"handler": "ledger", "status": "pending", "payload": {"ledger": str(ledger), "seconds": 0.003}}
        for _ in range(1000)
    ]
    jobs.collection.insert_many(documents)
    slow = jobs.insert("sleeps", {"seconds": 30}, priority=9)
    first, second = start(lease={"seconds": 3}), start(lease={"seconds": 3})
    until(lambda: jobs.collection.count_documents({"status": "completed"}) >= 300, 60, "300 completed jobs")
    owner = jobs.get(slow)["lease"]["supervisor"]
    victim, survivor = (first, second) if f"-{first.pid}-" in owner else (second, first)
    family = victim.family()
    victim.kill()
    held = {str(job["_id"]) for job in jobs.collection.find({"lease.supervisor": owner})}
    gone(family, timeout_s=2)
    jobs.collection.update_one({"_id": slow}, {"$set": {"payload.seconds": 0}})
    jobs.wait_for_all(timeout_s=90)
    assert jobs.collection.count_documents({"status": "completed"}) == 1001

    lines = [line.split() for line in ledger.read_text().splitlines()]
    starts = collections.Counter((job, token) for kind, job, token, _ in lines if kind == "start")
    assert max(starts.values()) == 1, "no claim was run twice"
    ends = collections.Counter(job for kind, job, *_ in lines if kind == "end")
    again = {job for job, count in ends.items() if count > 1}
    assert again <= held, "only what the victim had finished and not recorded may run again"
    assert len(ends) == 1000
    ran = collections.Counter(job["attempts"][-1]["supervisor"] for job in jobs.collection.find({"handler": "ledger"}))
    assert len(ran) == 2, "both took part"
    assert jobs.get(slow)["attempts"][0]["outcome"] == "lost"
    assert survivor.stop() == 0
