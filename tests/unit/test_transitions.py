"""What every outcome does to its job: the table at the top of `core.transitions`, row by row, and what always holds."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.job import ENDED, Status
from supervisor.core.outcome import (
    Cancelled,
    Crashed,
    ErrorInfo,
    ErrorKind,
    Interrupted,
    Lost,
    OutOfMemory,
    Raised,
    Returned,
    TimedOut,
    Usage,
)
from supervisor.core.retry import RetryPolicy
from supervisor.core.transitions import decide, describe_death
from tests.support.jobs import half, job, raised

POLICY = RetryPolicy(max_attempts=3, max_crashes=3, backoff_s=8.0, backoff_max_s=300.0)
# the second attempt failed: 16 s, half of it fixed and half of the rest by `half`
BACKOFF_S = 12.0
PENDING, COMPLETED, FAILED, CANCELLED = Status.PENDING, Status.COMPLETED, Status.FAILED, Status.CANCELLED

RETURNED = Returned(result=b"")
EXCEPTION = raised()
RETRY = raised(retry_in_s=30)
TIMED_OUT = TimedOut(limit_s=5, killed=True)
OUT_OF_MEMORY = OutOfMemory(limit_mb=100, used_mb=120.4)
CRASHED = Crashed(started=True, signal="SIGSEGV")
NEVER_STARTED = Crashed(started=False, signal="SIGKILL")
INTERRUPTED = Interrupted(reason="drain")
LOST = Lost(supervisor="other", cause="lease expired")
REFUSED = [pytest.param(raised(kind), kind, id=kind) for kind in (ErrorKind.PERMANENT, ErrorKind.RESULT)]


def test_a_returned_job_is_completed_without_an_error():
    change = decide(job(attempt=2, crashes=1), RETURNED, POLICY, half)
    assert (change.status, change.outcome, change.error) == (COMPLETED, "completed", None)
    assert (change.attempt, change.crashes) == (2, 1)


@pytest.mark.parametrize(
    ("ended", "in_s"),
    [
        pytest.param(EXCEPTION, BACKOFF_S, id="an exception"),
        pytest.param(RETRY, 30.0, id="Retry with in_s"),
        pytest.param(raised(retry_in_s=0), 0.0, id="Retry at once"),
        pytest.param(raised(retry_in_s=-5), 0.0, id="Retry in the past"),
        pytest.param(TIMED_OUT, BACKOFF_S, id="a timeout"),
        pytest.param(OUT_OF_MEMORY, BACKOFF_S, id="too much memory"),
        pytest.param(CRASHED, BACKOFF_S, id="a crash"),
        pytest.param(LOST, None, id="a lost supervisor: its lease was the wait"),
    ],
)
def test_with_attempts_left_a_failed_job_is_pending_again_later_and_keeps_its_error(ended, in_s):
    change = decide(job(attempt=2), ended, POLICY, half)
    assert (change.status, change.attempt, change.run_in_s) == (PENDING, 2, in_s)
    assert change.error["message"]


@pytest.mark.parametrize(
    ("ended", "kind"),
    [
        pytest.param(EXCEPTION, "exception", id="an exception"),
        pytest.param(RETRY, "exception", id="Retry"),
        pytest.param(TIMED_OUT, "timeout", id="a timeout"),
        pytest.param(OUT_OF_MEMORY, "memory", id="too much memory"),
        pytest.param(CRASHED, "crash", id="a crash"),
        pytest.param(LOST, "lost", id="a lost supervisor"),
    ],
)
def test_without_attempts_left_the_job_fails_with_the_kind_of_its_last_error(ended, kind):
    change = decide(job(attempt=3), ended, POLICY, half)
    assert (change.status, change.outcome, change.error["kind"]) == (FAILED, kind, kind)
    assert (change.attempt, change.run_in_s) == (3, None)


@pytest.mark.parametrize("attempt", [1, 3])
@pytest.mark.parametrize(("ended", "kind"), REFUSED)
def test_what_cannot_get_better_fails_at_once_and_counts_the_attempt(ended, kind, attempt):
    change = decide(job(attempt=attempt), ended, POLICY, half)
    assert (change.status, change.error["kind"], change.attempt) == (FAILED, kind, attempt)


@pytest.mark.parametrize("attempt", [1, 3])
def test_an_invalid_payload_fails_at_once_and_spends_nothing(attempt):
    change = decide(job(attempt=attempt, crashes=1), raised(ErrorKind.INVALID), POLICY, half)
    assert (change.status, change.outcome, change.error["kind"]) == (FAILED, "invalid", "invalid")
    assert (change.attempt, change.crashes) == (attempt - 1, 1)


@pytest.mark.parametrize("attempt", [1, 3])
@pytest.mark.parametrize(
    "ended",
    [pytest.param(NEVER_STARTED, id="a crash before the start"), pytest.param(INTERRUPTED, id="an interruption")],
)
def test_an_attempt_that_nobody_is_to_blame_for_is_given_back_and_due_soon(ended, attempt):
    change = decide(job(attempt=attempt, crashes=2), ended, POLICY, half)
    due = POLICY.backoff_s if ended is NEVER_STARTED else None  # a worker may die before every start of this job
    assert (change.status, change.outcome, change.error, change.run_in_s) == (PENDING, "interrupted", None, due)
    assert (change.attempt, change.crashes) == (attempt - 1, 2)


@pytest.mark.parametrize("attempt", [1, 3])
def test_a_cancelled_job_ends_cancelled(attempt):
    change = decide(job(attempt=attempt), Cancelled(), POLICY, half)
    assert (change.status, change.outcome, change.attempt) == (CANCELLED, "cancelled", attempt)
    assert change.error["kind"] == "cancelled"


def test_a_crash_counts_as_an_attempt_and_as_a_crash():
    change = decide(job(attempt=2, crashes=1), CRASHED, POLICY, half)
    assert (change.attempt, change.crashes, change.error["kind"]) == (2, 2, "crash")
    assert (change.error["signal"], change.error["exit_code"]) == ("SIGSEGV", None)


def test_max_crashes_quarantine_the_job_with_attempts_left():
    change = decide(job(attempt=3, crashes=2, max_attempts=100), CRASHED, POLICY, half)
    assert (change.status, change.outcome, change.error["kind"]) == (FAILED, "poison", "poison")
    assert (change.crashes, change.run_in_s) == (3, None)
    assert change.error["message"] == "quarantined after 3 crashes; the last: the worker was killed by SIGSEGV"


def test_only_crashes_lead_to_quarantine():
    change = decide(job(attempt=2, crashes=2), EXCEPTION, POLICY, half)
    assert (change.status, change.crashes) == (PENDING, 2)


def test_the_max_attempts_of_the_job_wins_over_the_policy():
    assert decide(job(attempt=1, max_attempts=1), EXCEPTION, POLICY, half).status is FAILED
    assert decide(job(attempt=3, max_attempts=4), EXCEPTION, POLICY, half).status is PENDING


@pytest.mark.parametrize(
    ("ended", "message"),
    [
        (EXCEPTION, "boom"),
        (TIMED_OUT, "ran longer than 5 s and was killed"),
        (TimedOut(limit_s=0.5, killed=False), "ran longer than 0.5 s and stopped"),
        (OUT_OF_MEMORY, "used 120 MB with its subprocesses, the limit is 100 MB"),
        (CRASHED, "the worker was killed by SIGSEGV"),
        (Crashed(started=True, exit_code=3), "the worker exited with code 3"),
        (Crashed(started=True), "the worker died"),
        (LOST, "lease expired: other"),
        (Cancelled(), "cancelled while running"),
    ],
)
def test_the_error_says_what_happened(ended, message):
    assert decide(job(), ended, POLICY, half).error["message"] == message


def test_exit_code_0_is_a_death_too():
    assert describe_death(0, None) == "the worker exited with code 0"


def test_a_timeout_keeps_the_traceback_of_where_the_handler_was():
    said = ErrorInfo("", "JobTimeout", "Traceback …")
    error = decide(job(), TimedOut(limit_s=1, killed=False, error=said), POLICY, half).error
    assert (error["type"], error["traceback"]) == ("JobTimeout", "Traceback …")


def test_the_error_document_has_every_field_of_the_contract():
    info = ErrorInfo("no", "Refusal", "Traceback …", "encrypted_pdf")
    assert decide(job(), Raised(kind=ErrorKind.PERMANENT, error=info), POLICY, half).error == {
        "kind": "permanent",
        "code": "encrypted_pdf",
        "type": "Refusal",
        "message": "no",
        "traceback": "Traceback …",
        "exit_code": None,
        "signal": None,
    }


counts = st.integers(0, 50)
outcomes = st.one_of(
    st.builds(Returned, result=st.none() | st.binary(max_size=3), usage=st.builds(Usage)),
    st.builds(
        Raised,
        kind=st.sampled_from([ErrorKind.EXCEPTION, ErrorKind.PERMANENT, ErrorKind.INVALID, ErrorKind.RESULT]),
        error=st.just(ErrorInfo("boom")),
        retry_in_s=st.none() | st.floats(),
    ),
    st.builds(TimedOut, limit_s=st.floats(0.1, 100), killed=st.booleans()),
    st.builds(
        Crashed,
        started=st.booleans(),
        exit_code=st.none() | st.integers(0, 255),
        signal=st.none() | st.just("SIGKILL"),
    ),
    st.just(OUT_OF_MEMORY),
    st.just(INTERRUPTED),
    st.just(Cancelled()),
    st.just(LOST),
)
jobs = st.builds(
    job, attempt=st.integers(1, 50), crashes=counts, token=st.integers(1, 99), max_attempts=st.none() | counts
)
policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 50),
    max_crashes=st.integers(1, 50),
    backoff_s=st.floats(0, 100),
    backoff_max_s=st.floats(0, 1000),
)
randomness = st.floats(0, 1, exclude_max=True)


@given(job=jobs, ended=outcomes, policy=policies, random=randomness)
def test_whatever_happens_the_change_is_sound(job, ended, policy, random):
    change = decide(job, ended, policy, lambda: random)
    assert change.status in (PENDING, *ENDED)
    assert job.attempt - 1 <= change.attempt <= job.attempt
    assert change.attempt >= 0
    assert job.crashes <= change.crashes <= job.crashes + 1
    assert (change.job, change.ended) == (job, ended)
    if change.status in ENDED:
        assert change.run_in_s is None
    if change.run_in_s is not None:
        assert change.run_in_s >= 0
    assert (change.error is None) == (change.outcome in ("completed", "interrupted"))


@given(job=jobs, ended=outcomes, policy=policies)
def test_a_job_never_has_more_tries_than_allowed(job, ended, policy):
    change = decide(job, ended, policy, half)
    if change.status is PENDING and change.attempt == job.attempt:
        assert job.attempt < policy.attempts_of(job)
        assert change.crashes < policy.max_crashes or change.crashes == job.crashes


@pytest.mark.parametrize("in_s", [math.inf, -math.inf, math.nan, 1e300, 10**400])
def test_a_handler_cannot_ask_for_a_retry_at_a_time_that_no_date_can_hold(in_s):
    assert 0 <= decide(job(), raised(retry_in_s=in_s), POLICY, half).run_in_s <= 1e9
