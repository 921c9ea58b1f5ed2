"""The audit of the chaos run is shown histories that are wrong, one thing at a time, and must say so.

A green run means something only because of this: the sound history below passes, and each harm to it is found.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.chaos.audit import Evidence, audit
from tests.chaos.history import NAMESPACE, Change, Claim, changes_of
from tests.chaos.kinds import KINDS
from tests.chaos.ledger import Effects, Entry, Ledger
from tests.chaos.plan import FAULTS, Plan
from tests.chaos.recovery import ELSEWHERE, JOB_AGAIN, NEXT_CLAIM, SLOT_BUSY, UNDISTURBED, recovery_times
from tests.chaos.world import Fault

KIND = {kind.name: kind for kind in KINDS}


def claimed(token: int, job: str = "a", *, at: float = 0.0, term: int = 1, pid: int = 70, slot: int = 0) -> Change:
    return Change(job, "processing", Claim(token, "host-7-abc", slot, pid), at=at, term=term)


def evidence() -> Evidence:
    """A sound run of two jobs: `a` lost its first worker and was completed by its second claim, `bad` never ran."""
    return Evidence(
        ordered={"a": KIND["short"], "bad": KIND["malformed"]},
        documents={
            "a": {"status": "completed", "attempts": [{"token": 1}, {"token": 2}], "result": {"job": "a", "token": 2}},
            "bad": {"status": "failed", "error": {"kind": "invalid"}},
        },
        history=[
            Change("a", "pending", inserted=True),
            Change("bad", "pending", inserted=True),
            claimed(1),
            Change("bad", "failed"),
            Change("a", "pending", ended_token=1),
            claimed(2),
            Change("a", "completed", ended_token=2),
        ],
        ledger=[Entry("start", "a", 1, 70, 0), Entry("start", "a", 2, 71, 1), Entry("end", "a", 2, 71, 2)],
        effects={"a": 2},
    )


def test_a_sound_run_passes() -> None:
    assert audit(evidence()) == []


def lose(run: Evidence) -> None:
    del run.documents["a"]


def leave(run: Evidence) -> None:
    run.documents["a"]["status"] = "processing"


def end_again(run: Evidence) -> None:
    run.history.append(Change("a", "completed", ended_token=2))


def revive(run: Evidence) -> None:
    run.history.append(Change("a", "pending"))


def touch(run: Evidence) -> None:
    run.history.append(Change("a"))


def delete(run: Evidence) -> None:
    run.history.append(Change("a", "deleted"))


def forget(run: Evidence) -> None:
    del run.history[0]


def claim_again(run: Evidence) -> None:
    run.history[5] = claimed(1)


def complete_for_another(run: Evidence) -> None:
    run.history[6] = replace(run.history[6], ended_token=1)


def start_again(run: Evidence) -> None:
    run.ledger.append(run.ledger[1])


def start_unclaimed(run: Evidence) -> None:
    run.ledger.append(Entry("start", "a", 3, 72, 3))


def set_a_stale_effect(run: Evidence) -> None:
    run.effects["a"] = 1


def set_no_effect(run: Evidence) -> None:
    run.effects.clear()


def never_end(run: Evidence) -> None:
    run.ledger.pop()


def mix_up_results(run: Evidence) -> None:
    run.documents["a"]["result"]["token"] = 1


def fail(run: Evidence) -> None:
    run.documents["a"] |= {"status": "failed", "error": {"kind": "invalid"}}


def run_what_is_malformed(run: Evidence) -> None:
    run.ledger.append(Entry("start", "bad", 1, 70, 0))


def lose_a_follower(run: Evidence) -> None:
    run.documents["a"]["then"] = [{"handler": "short"}]


def enqueue_for_nobody(run: Evidence) -> None:
    run.documents["b"] = run.documents["a"] | {"result": {"job": "b", "token": 2}}


def truncate(run: Evidence) -> None:
    run.ordered["a"] = KIND["large"]
    run.documents["a"] |= {"payload": {"bytes": 100}, "result_file": 1}
    run.files[1] = 50


def forget_progress(run: Evidence) -> None:
    run.ordered["a"] = KIND["progress"]
    run.documents["a"]["progress"] = {"done": 1}


def leave_running(run: Evidence) -> None:
    run.processes.append("72: sleep 600")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lose, "a is lost"),
        (leave, "a (short) is left processing"),
        (end_again, "a (short) ended 2 times"),
        (revive, "a was completed and then changed (to pending)"),
        (touch, "a was completed and then changed (to the same status)"),
        (delete, "a was completed and then changed (to deleted)"),
        (forget, "a has no insert in the oplog"),
        (claim_again, "a was claimed with token 1 after 1"),
        (complete_for_another, "a: token 1 wrote an end while 2 held the lease"),
        (start_again, "a was started 2 times with token 2"),
        (start_unclaimed, "a was started with token 3, which no claim"),
        (set_a_stale_effect, "a was completed by token 2, and its effect is of 1"),
        (set_no_effect, "a was completed by token 2, and its effect is of None"),
        (never_end, "a was completed by token 2, which never came to its end"),
        (mix_up_results, "a has the result {'job': 'a', 'token': 1}"),
        (fail, "a (short) ended as invalid"),
        (run_what_is_malformed, "bad (malformed) was started"),
        (lose_a_follower, "a names 0 followers of 1, and 0 exist"),
        (enqueue_for_nobody, "b is nobody's"),
        (truncate, "a has a result file of 50 bytes for 100"),
        (forget_progress, "a completed with progress 1 of 5"),
        (leave_running, "left running: 72: sleep 600"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_the_chaos_audit_finds_each_violation(harm: Any, said: str) -> None:
    run = evidence()
    harm(run)
    assert any(violation.startswith(said) for violation in audit(run)), audit(run)


def entry(op: str, written: dict[str, Any], **more: Any) -> dict[str, Any]:
    when = {"wall": datetime.fromtimestamp(100, UTC), "t": 3}
    return {"op": op, "ns": NAMESPACE, "o": written, "o2": {"_id": "a"}, **when, **more}


@pytest.mark.parametrize(
    ("written", "status", "token"),
    [
        ({"$v": 2, "diff": {"u": {"status": "completed"}, "i": {"attempts": [{"token": 4}]}}}, "completed", 4),
        ({"$v": 2, "diff": {"u": {"status": "failed"}, "sattempts": {"a": True, "u1": {"token": 5}}}}, "failed", 5),
        ({"_id": "a", "status": "failed", "attempts": [{"token": 1}, {"token": 6}]}, "failed", 6),
        ({"$v": 2, "diff": {"slease": {"u": {"expires_at": 1}}}}, None, None),
    ],
    ids=["first attempt", "later attempt", "whole document", "renewal"],
)
def test_updates_are_read_in_every_form_that_the_oplog_gives_them(written: Any, status: Any, token: Any) -> None:
    (change,) = changes_of(entry("u", written))
    assert (change.job, change.status, change.ended_token, change.at, change.term) == ("a", status, token, 100, 3)


def test_the_changes_of_a_transaction_are_read_in_order() -> None:
    parts = [
        {"op": "u", "ns": NAMESPACE, "o": {"$v": 2, "diff": {"u": {"status": "completed"}}}, "o2": {"_id": "a"}},
        {"op": "i", "ns": "chaos.other", "o": {"_id": "x"}},
        {"op": "i", "ns": NAMESPACE, "o": {"_id": "b", "status": "pending"}},
    ]
    found = list(changes_of(entry("c", {"applyOps": parts}, ns="admin.$cmd")))
    assert [(change.job, change.status, change.inserted) for change in found] == [
        ("a", "completed", False),
        ("b", "pending", True),
    ]


def test_recovery_is_timed_from_the_fault_to_the_next_claim() -> None:
    history = [
        claimed(1, "a", at=10, pid=70, slot=0),
        claimed(1, "b", at=10, pid=71, slot=1),
        Change("a", "pending", at=12.1),
        claimed(2, "a", at=12.5, pid=72, slot=1),
        claimed(1, "c", at=13, pid=73, slot=0),
        claimed(2, "b", at=20, term=2),
    ]
    faults = [Fault("worker killed", 12, 70), Fault("supervisor killed", 14, 7), Fault("failover", 15)]
    times = recovery_times(faults, history)
    assert times == {SLOT_BUSY: [1.0], JOB_AGAIN: [0.5], ELSEWHERE: [6.0], UNDISTURBED: [], NEXT_CLAIM: [5.0]}
    assert recovery_times(faults[:2], history)[UNDISTURBED] == [6.0]


def test_a_slot_that_may_have_been_taken_away_is_not_timed() -> None:
    history = [claimed(1, at=10), claimed(1, "b", at=90)]
    faults = [Fault("worker killed", 12, 70), Fault("workers edited", 11, 7)]
    assert recovery_times(faults, history)[SLOT_BUSY] == []


def test_the_outside_store_refuses_what_comes_after_a_later_attempt(tmp_path: Any) -> None:
    effects = Effects(tmp_path)
    effects.prepare()
    assert [effects.apply("a", token) for token in (1, 3, 2, 3)] == [True, True, False, False]
    assert effects.standing() == {"a": 3}


def test_the_ledger_keeps_every_line(tmp_path: Any) -> None:
    ledger = Ledger(tmp_path)
    for event in ("start", "end"):
        ledger.write(event, "a", 2)
    assert [(entry.event, entry.job, entry.token) for entry in ledger.entries()] == [("start", "a", 2), ("end", "a", 2)]


def test_the_smallest_run_still_has_some_of_every_fault() -> None:
    plan = Plan(seed=1, scale=0.0001)
    assert all(plan.count(fault) >= 1 for fault in FAULTS)


def test_the_full_run_has_what_was_promised() -> None:
    plan = Plan(seed=1)
    assert plan.jobs >= 10_000
    assert plan.count("worker killed") >= 200
    assert plan.count("supervisor killed") >= 20
    assert plan.count("failover") >= 10
