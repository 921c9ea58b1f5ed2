"""Limits across machines, as figures: what may still start, and that a rate holds in every window of its period."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.gate import UNLIMITED, FleetLimits, Started, opening, still_counting, to_remember

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PER_MINUTE = FleetLimits(starts=100, per_s=60)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_no_limits_are_no_limits():
    assert not FleetLimits()
    assert opening(FleetLimits(), {None: 9, "a": 9}, [], NOW).room == UNLIMITED
    assert opening(FleetLimits(), {"a": 9}, [], NOW).room_in("a") == UNLIMITED


@pytest.mark.parametrize(("running", "room"), [({}, 3), ({None: 1}, 2), ({None: 1, "a": 1}, 1), ({"a": 2, "b": 5}, 0)])
def test_the_total_counts_jobs_of_all_groups(running, room):
    assert opening(FleetLimits(total=3), running, [], NOW).room == room


def test_a_full_group_is_full_and_others_are_not():
    found = opening(FleetLimits(per_group=2), {"a": 2, "b": 1, "c": 3, None: 7}, [], NOW)
    assert found.full_groups == ["a", "c"]
    assert [found.admits(group) for group in ("a", "b", "c", "d", None)] == [False, True, False, True, True]
    assert found.taking("b").full_groups == ["a", "b", "c"]
    assert found.taking(None).full_groups == ["a", "c"]


def test_a_spent_rate_says_when_it_opens():
    spent = opening(PER_MINUTE, {}, [Started(NOW, 60), Started(later(10), 40)], later(20))
    assert (spent.room, spent.opens_in_s) == (0, 41)  # when the minute of the first 60 is over, and their piece of it
    assert opening(PER_MINUTE, {}, [Started(NOW, 60), Started(later(10), 40)], later(61)).room == 60


def test_starts_under_another_clock_count_from_now_on():
    assert still_counting([Started(later(500), 1)], PER_MINUTE, NOW) == [Started(NOW, 1)]


def test_many_starts_are_remembered_in_few_entries():
    started = []
    for number in range(6000):
        now = later(number / 100)
        started = to_remember([*started, Started(now, 1)], PER_MINUTE, now)
    assert len(started) <= 62
    assert sum(each.count for each in started) == 6000


def test_a_start_that_is_under_way_counts_as_if_it_were_now():
    """It may be made at any time until its date, and the period begins with it."""
    under_way = Started(later(5), 100, turn=3)
    for seconds in (0, 2, 4.9):
        found = opening(PER_MINUTE, {}, [under_way], later(seconds))
        assert (found.room, found.opens_in_s) == (0, 61)
        assert to_remember([under_way], PER_MINUTE, later(seconds)) == [under_way]
    assert to_remember([under_way], PER_MINUTE, later(5)) == [Started(later(5), 100)]


@given(
    starts=st.integers(1, 20),
    per_s=st.sampled_from([1.0, 60.0, 3600.0]),
    looks=st.lists(st.tuples(st.floats(0, 0.7), st.integers(1, 9), st.floats(0, 5)), max_size=60),
)
def test_no_window_sees_more_starts_than_the_rate_however_long_a_claim_takes(starts, per_s, looks):
    limits, started, now, log = FleetLimits(starts=starts, per_s=per_s), [], NOW, []
    for wait, wanted, delay in looks:
        now += timedelta(seconds=wait * per_s)
        found = opening(limits, {}, started, now)
        taken = min(wanted, found.room)
        assert (found.opens_in_s is None) == (found.room > 0)
        if taken:
            until = now + timedelta(seconds=5)
            reserved = [*to_remember(started, limits, now), Started(until, taken, turn=len(log) + 1)]
            now += timedelta(seconds=delay)
            log += [now] * taken
            started = [Started(now, each.count) if each.turn == reserved[-1].turn else each for each in reserved]
    for first in log:
        assert sum(first <= each < first + timedelta(seconds=per_s) for each in log) <= starts


@given(st.integers(1, 10), st.lists(st.integers(1, 10), max_size=10))
def test_a_rate_opens_when_it_says(starts, wanted):
    limits, started, now = FleetLimits(starts=starts, per_s=60), [], NOW
    for count in wanted:
        found = opening(limits, {}, started, now)
        if found.opens_in_s is not None:
            now += timedelta(seconds=found.opens_in_s + 0.001)
            found = opening(limits, {}, started, now)
        assert found.room > 0
        started = to_remember([*started, Started(now, min(count, found.room))], limits, now)
