"""Why a job is not running: each reason from the facts that make it, and which of several is the decisive one."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.client.gate_usage import Usage
from supervisor.client.hindrances import rivals
from supervisor.client.reasons import MOST_COUNTED, Code, Facts
from supervisor.client.why import reasons
from supervisor.core.fleet import Drain
from supervisor.core.gate import Started
from supervisor.store.controls import Pause

NOW = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
LEASE = {"token": 1, "supervisor": "a-1", "host": "a", "slot": 0, "pid": 4711, "expires_at": NOW + timedelta(seconds=9)}

TAKEN_OVER = "others take the job over when its lease ends"


def job(status="pending", **fields):
    return {"_id": 7, "handler": "ocr", "status": status, **fields}


def ago(seconds):
    return NOW - timedelta(seconds=seconds)


def entry(handler="ocr", claimed=True, max_running=None, running=0, **fields):
    return {"handler": handler, "claimed": claimed, "max_running": max_running, "running": running, **fields}


def supervisor(host="a", *states, age_s=1.0, phase="running", workers=2, handlers=None, **fields):
    slots = [{"slot": slot, "state": state} for slot, state in enumerate(states or ("idle", "busy"))]
    entries = [entry()] if handlers is None else handlers
    return {"_id": f"{host}-1", "host": host, "phase": phase, "workers": workers, "slots": slots, "handlers": entries,
            "heartbeat_age_s": age_s, **fields}  # fmt: skip


def limited(**fleet):
    return supervisor(handlers=[{**entry(), "fleet": fleet}])


def facts(of=None, *supervisors, **more):
    return Facts(job() if of is None else of, NOW, supervisors=supervisors or (supervisor(),), **more)


def told(known):
    return [(reason.code.value, reason.text, reason.command) for reason in reasons(known)]


CASES = [
    # a job that is not pending
    (facts(job("processing", attempt=2, lease=LEASE, started_at=ago(80))),
     "running", "it is running: attempt 2 on a, slot 0, pid 4711, for 80s", "stack 7"),
    (facts(job("processing", attempt=2, lease=LEASE, started_at=ago(80), cancel_requested=True)),
     "running", "it is running: attempt 2 on a, slot 0, pid 4711, for 80s, and has been asked to stop", "stack 7"),
    (facts(job("processing", lease=LEASE), supervisor(age_s=31)),
     "orphaned", f"its supervisor on a has been silent for 31s; {TAKEN_OVER} (ends in 9.0s)", "status"),
    (facts(job("processing", lease={**LEASE, "expires_at": ago(1)}), supervisor("b")),
     "orphaned", f"its supervisor on a is gone; {TAKEN_OVER} (has ended)", "status"),
    (facts(job("completed", finished_at=ago(120))), "completed", "it completed 2m ago", "job 7"),
    (facts(job("failed", finished_at=ago(5), error={"kind": "timeout", "message": "too slow"})),
     "failed", "it failed 5.0s ago: timeout: too slow", "autopsy 7"),
    (facts(job("cancelled")), "cancelled", "it was cancelled", "retry 7"),
    # what holds for the whole fleet
    (facts(problem="priority: is 'x', must be an integer"), "invalid",
     "its document breaks the schema, and will be failed as invalid: priority: is 'x', must be an integer", None),
    (facts(job("odd"), problem="status: is 'odd'"),
     "invalid", "its document breaks the schema, and no supervisor looks at it: status: is 'odd'", None),
    (facts(job(cancel_requested=True)), "cancelling",
     "it is to be cancelled, as soon as a supervisor comes to it", None),
    (facts(pauses=[Pause("ocr", "empty pages", "operator", ago(300))]),
     "paused", "ocr is paused by operator 5m ago: empty pages", "resume ocr"),
    (facts(pauses=[Pause("*", "", "breaker")]), "paused", "all handlers are paused by breaker", "resume --all"),
    (facts(job(run_at=NOW + timedelta(hours=5))), "not_due",
     "it is due in 5h, since its producer wants it not before 2026-03-01 08:00:00 UTC", None),
    (facts(job(run_at=NOW + timedelta(seconds=12), attempt=1, error={"kind": "timeout"})),
     "not_due", "its retry is due in 12s (attempt 1 ended: timeout)", None),
    (Facts(job(), NOW), "no_supervisor", "no supervisor is running on this database", "run"),
    (facts(None, supervisor(age_s=180), supervisor(age_s=4000)), "no_supervisor",
     "no supervisor is running on this database; the last one was heard of 3m ago", "run"),
    # what holds for single supervisors
    (facts(), "free", "a slot is free on a: it is claimed any moment", None),
    (facts(None, supervisor(workers=0, slots=[], handlers=[entry(coroutine=True)])),
     "free", "there is room in the event loop on a: it is claimed any moment", None),
    (facts(None, supervisor(workers=0, handlers=[entry(coroutine=True, max_running=100, running=100)])),
     "capped", "max_running = 100 of ocr is reached on a", None),
    (facts(None, supervisor("b", "busy", "busy"), supervisor("a", "busy", "stopping")),
     "busy", "all slots on a, b are busy (3 running)", "status"),
    (facts(None, supervisor("a", "backoff", "starting")),
     "no_worker_ready", "no worker is ready on a (slots: 1 backoff, 1 starting)", "status"),
    (facts(None, supervisor(slots=[])), "no_worker_ready", "no worker is ready on a (slots: none yet)", "status"),
    (facts(None, supervisor(handlers=[entry(max_running=4, running=4)])),
     "capped", "max_running = 4 of ocr is reached on a", None),
    (facts(None, limited(total=4), usage=Usage(running=4)), "limited",
     "of ocr, max_running_total = 4 is reached: 4 are running across the fleet", "status"),
    (facts(job(group_key="g"), limited(per_group=1), usage=Usage(running=3, group="g", in_group=1)), "limited",
     "of ocr, max_running_per_group = 1 is reached: 1 of group g are running", "status"),
    (facts(None, limited(starts=5, per_s=60.0), usage=Usage(started=(Started(ago(21), 5),))), "limited",
     "of ocr, rate = 5 in 60s is spent; the next start is possible in 40s", "status"),
    (facts(job(group_key="g"), limited(total=4, per_group=2), usage=Usage(running=3, group="g", in_group=1)), "free",
     "a slot is free on a: it is claimed any moment", None),
    (facts(None, supervisor(phase="starting")), "starting", "the supervisor on a is still starting", "status"),
    (facts(None, supervisor(workers=0)), "no_workers", "workers = 0 on a", None),
    (facts(None, supervisor(phase="draining")), "draining", "the supervisor on a is stopping and claims nothing",
     "status"),
    (facts(drains=[Drain("a", "new kernel", "operator", ago(90))]), "drained",
     "a is drained by operator 90s ago: new kernel", "undrain --host a"),
    (facts(None, supervisor("a"), supervisor("b"), drains=[Drain("*")]), "drained",
     "every host is drained by operator", "undrain"),
    (facts(None, supervisor(workers=0, workers_from="control")), "no_workers",
     "workers = 0 on a, by a resize", "resize configured"),
    (facts(None, supervisor(handlers=[entry(claimed=False)])), "unclaimed", "pool.claim leaves ocr out on a", None),
    (facts(None, supervisor(handlers=[entry("ocrr"), entry("ner")])),
     "unregistered", "ocr is registered on no running supervisor; was ocrr meant?", "check"),
    (facts(None, supervisor(handlers=[entry(name) for name in ("m", "n", "p", "q", "z")])),
     "unregistered", "ocr is registered on no running supervisor; they have m, n, p, 2 more", "check"),
    (facts(in_front=132), "behind", "it waits behind 132 jobs of higher priority or older", None),
    (facts(in_front=MOST_COUNTED + 1), "behind",
     "it waits behind more than 10,000 jobs of higher priority or older", None),
    (facts(in_front=1), "behind", "it waits behind 1 job of higher priority or older", None),
]  # fmt: skip


@pytest.mark.parametrize(("known", "code", "text", "command"), CASES, ids=[f"{case[1]}-{case[2]}" for case in CASES])
def test_a_reason_is_told_from_its_facts(known, code, text, command):
    assert told(known)[0] == (code, text, command)


def test_every_reason_is_in_the_guide():
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "see-what-is-going-on.md").read_text(encoding="utf-8")
    assert [code.value for code in Code if f"`{code}`" not in page] == []


def test_every_reason_is_tested():
    assert {case[1] for case in CASES} == set(Code)


@pytest.mark.parametrize(
    ("known", "codes"),
    [
        (facts(job(run_at=NOW + timedelta(hours=1), cancel_requested=True), pauses=[Pause("*"), Pause("ocr")]),
         ["cancelling", "paused", "paused", "not_due", "free"]),
        (facts(pauses=[Pause("ner")], drains=[Drain("b")]), ["free"]),
        (facts(None, supervisor("a"), supervisor("b"), drains=[Drain("a")]), ["free", "drained"]),
        (facts(None, supervisor("a", handlers=[entry("ner")]), supervisor("b", workers=0), supervisor("c", "busy")),
         ["busy", "no_workers", "unregistered"]),
        (facts(None, supervisor("a", "busy"), in_front=3), ["behind", "busy"]),
        (facts(None, supervisor(handlers=[entry(max_running=1, running=1)]), in_front=3), ["capped", "behind"]),
        (facts(None, supervisor(age_s=99), supervisor("b", "busy")), ["busy"]),
        (facts(None, supervisor("a", handlers=[entry(max_running=1, running=1)]), supervisor("b")), ["free", "capped"]),
    ],
)  # fmt: skip
def test_the_decisive_reason_comes_first(known, codes):
    assert [reason.code.value for reason in reasons(known)] == codes


def test_a_handler_that_some_supervisors_lack_is_told_of_these_alone():
    known = facts(None, supervisor("a", handlers=[entry("ner")]), supervisor("b"))
    assert told(known)[-1] == ("unregistered", "ocr is not registered on a", "check")


def test_a_supervisor_of_an_older_version_that_does_not_name_its_handlers_may_have_it():
    assert [code for code, _, _ in told(facts(None, supervisor(handlers=[])))] == ["free"]


def test_rivals_are_the_handlers_that_the_same_slots_would_be_given_to():
    handlers = [entry(), entry("ner"), entry("full", max_running=1, running=1), entry("other", claimed=False)]
    elsewhere = supervisor("b", handlers=[entry("far")])
    known = facts(None, supervisor(handlers=[*handlers, entry("halted")]), elsewhere, pauses=[Pause("halted")])
    assert rivals(known) == ["ner", "ocr"]


def test_coroutines_and_what_needs_a_worker_are_no_rivals():
    handlers = [entry(), entry("ner"), entry("ask", coroutine=True), entry("mail", coroutine=True)]
    known = facts(None, supervisor(handlers=handlers))
    assert rivals(known) == ["ner", "ocr"]
    assert rivals(facts({**job(), "handler": "ask"}, supervisor(handlers=handlers))) == ["ask", "mail"]


def test_rivals_are_its_own_kind_where_no_slot_is_to_be_had():
    capped = [entry(max_running=1, running=1), entry("ner")]
    assert rivals(facts(None, supervisor(handlers=capped))) == ["ocr"]
    assert rivals(Facts(job(), NOW)) == ["ocr"]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
statuses = st.sampled_from(["pending", "processing", "failed"])
odd_job = st.fixed_dictionaries(
    {"_id": st.integers(), "handler": anything, "status": statuses | anything},
    optional=dict.fromkeys(("run_at", "attempt", "lease", "error", "started_at", "finished_at"), anything),
)
odd_piece = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("handler", "claimed", "max_running", "running", "state"), anything)
)
odd_supervisor = st.fixed_dictionaries(
    {"_id": st.integers(), "heartbeat_age_s": st.none() | st.floats(0, 30)},
    optional={
        **dict.fromkeys(("host", "phase", "workers"), anything),
        **dict.fromkeys(("handlers", "slots"), anything | st.lists(odd_piece, max_size=3)),
    },
)


@given(odd_job, st.lists(odd_supervisor, max_size=3))
def test_documents_that_somebody_else_has_written_get_an_answer_too(document, supervisors):
    found = reasons(Facts(document, NOW, supervisors=supervisors))
    assert found
    assert all(reason.text for reason in found)
