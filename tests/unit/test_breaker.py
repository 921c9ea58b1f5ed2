"""When crashing jobs pause their handler."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.breaker import Breaker
from supervisor.core.outcome import Cancelled, Crashed, ErrorKind, Interrupted, Lost, OutOfMemory, TimedOut
from tests.support.jobs import change, job, raised, returned

CRASH = Crashed(started=True, signal="SIGSEGV")
SILENT = [
    Crashed(started=False, exit_code=1),
    Interrupted(reason="draining"),
    Cancelled(),
    Lost(supervisor="s", cause="its lease expired"),
    raised(ErrorKind.INVALID),
]
ALIVE = [
    returned({}),
    raised(),
    raised(ErrorKind.PERMANENT),
    raised(ErrorKind.RESULT),
    TimedOut(limit_s=1, killed=True),
    OutOfMemory(limit_mb=1, used_mb=2),
]


def noted(breaker, *outcomes, most=3, first_id=1):
    """Note one attempt of a different job for each outcome; return the reasons that are some."""
    said = [breaker.note(change(job(id=first_id + number), outcome), most) for number, outcome in enumerate(outcomes)]
    return [reason for reason in said if reason]


def test_the_reason_tells_how_many_how_the_last_died_and_what_to_do():
    (reason,) = noted(Breaker(), CRASH, CRASH, Crashed(started=True, exit_code=3))
    assert reason == (
        "3 different jobs of count crashed in a row, the last one 3: the worker exited with code 3; "
        "look into it with: autopsy 3; once it is mended: resume count"
    )


def test_one_job_that_crashes_again_and_again_is_no_reason():
    breaker = Breaker()
    again = [breaker.note(change(job(id={"no": "hash"}, attempt=n), CRASH), 2) for n in range(1, 10)]
    assert not any(again)
    assert noted(breaker, CRASH, most=2)


@pytest.mark.parametrize("outcome", ALIVE, ids=lambda outcome: type(outcome).__name__)
def test_an_attempt_that_did_not_crash_starts_the_count_again(outcome):
    assert noted(Breaker(), CRASH, CRASH, outcome, CRASH, CRASH) == []


@pytest.mark.parametrize("outcome", SILENT, ids=lambda outcome: type(outcome).__name__)
def test_an_end_that_says_nothing_of_the_handler_changes_nothing(outcome):
    assert noted(Breaker(), outcome, outcome, outcome) == []
    assert len(noted(Breaker(), CRASH, CRASH, outcome, CRASH)) == 1


def test_handlers_are_counted_apart():
    breaker = Breaker()
    noted(breaker, CRASH, CRASH)
    assert breaker.note(change(job(handler="other", id=9), returned({})), 3) is None
    assert noted(breaker, CRASH, first_id=9)


def test_the_count_starts_again_when_it_is_told_to_forget_and_after_a_reason():
    breaker = Breaker()
    noted(breaker, CRASH, CRASH)
    breaker.forget("count")
    assert noted(breaker, CRASH, CRASH) == []
    assert len(noted(breaker, CRASH, CRASH, CRASH, first_id=9)) == 1


def test_a_limit_of_zero_never_pauses():
    assert noted(Breaker(), *[CRASH] * 50, most=0) == []


@given(
    attempts=st.lists(st.tuples(st.integers(1, 6), st.sampled_from([CRASH, *SILENT, *ALIVE]))), most=st.integers(1, 5)
)
def test_a_reason_means_that_so_many_jobs_crashed_since_anything_else_became_of_one(attempts, most):
    breaker, crashed = Breaker(), set()
    for job_id, outcome in attempts:
        if outcome in ALIVE:
            crashed.clear()
        elif outcome is CRASH:
            crashed.add(job_id)
        reason = breaker.note(change(job(id=job_id), outcome), most)
        assert bool(reason) == (len(crashed) >= most)
        if reason:
            crashed.clear()
