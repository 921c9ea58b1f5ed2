"""How long a failed job waits for its next try."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.retry import RetryPolicy, backoff
from tests.support.jobs import job

ALMOST_1 = 1 - 2**-53


@pytest.mark.parametrize(
    ("attempt", "shortest", "longest"),
    [(1, 0.5, 1.0), (2, 1.0, 2.0), (3, 2.0, 4.0), (4, 4.0, 8.0), (10, 150.0, 300.0), (10_000, 150.0, 300.0)],
)
def test_the_wait_doubles_up_to_its_maximum_and_half_of_it_is_random(attempt, shortest, longest):
    policy = RetryPolicy(backoff_s=1.0, backoff_max_s=300.0)
    assert backoff(attempt, policy, lambda: 0.0) == shortest
    assert backoff(attempt, policy, lambda: ALMOST_1) == pytest.approx(longest)


@given(
    attempt=st.integers(1, 2**31),
    first=st.floats(0.001, 1e6),
    longest=st.floats(0.001, 1e6),
    random=st.floats(0, 1, exclude_max=True),
)
def test_the_wait_is_never_nothing_and_never_above_its_maximum(attempt, first, longest, random):
    policy = RetryPolicy(backoff_s=first, backoff_max_s=longest)
    assert min(first, longest) / 2 <= backoff(attempt, policy, lambda: random) <= longest


@given(attempt=st.integers(1, 100), random=st.floats(0, 1, exclude_max=True))
def test_a_later_attempt_waits_no_shorter(attempt, random):
    policy = RetryPolicy()
    assert backoff(attempt, policy, lambda: random) <= backoff(attempt + 1, policy, lambda: random)


def test_a_backoff_of_zero_does_not_wait():
    assert backoff(5, RetryPolicy(backoff_s=0.0), lambda: 0.9) == 0.0


def test_a_job_may_bring_its_own_number_of_attempts():
    assert RetryPolicy(max_attempts=3).attempts_of(job()) == 3
    assert RetryPolicy(max_attempts=3).attempts_of(job(max_attempts=7)) == 7
