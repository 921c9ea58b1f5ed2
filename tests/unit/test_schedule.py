"""Whether a schedule makes a job now."""

from datetime import UTC, datetime, timedelta

import pytest

from supervisor.core.schedule import HELD_UP, Due, Turn, decide

TICK = datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
JUST_IN_TIME = TICK + timedelta(seconds=59.999)
TOO_LATE = TICK + timedelta(seconds=60)


@pytest.mark.parametrize("make_up", [False, True])
@pytest.mark.parametrize("now", [TICK, JUST_IN_TIME])
def test_whoever_is_there_within_the_minute_makes_the_job(now, make_up):
    assert decide(Due(TICK, 1), now, make_up=make_up) == Turn(TICK, 0)


@pytest.mark.parametrize("make_up", [False, True])
def test_those_before_the_latest_are_missed(make_up):
    assert decide(Due(TICK, 120), JUST_IN_TIME, make_up=make_up) == Turn(TICK, 119)


def test_what_is_missed_is_not_made_up():
    assert decide(Due(TICK, 3), TOO_LATE, make_up=False) == Turn(None, 3)


def test_what_is_missed_is_made_up_once_where_that_is_wanted():
    assert decide(Due(TICK, 3), TOO_LATE + timedelta(days=1), make_up=True) == Turn(TICK, 2)


def test_who_was_there_and_was_held_up_makes_the_latest_for_some_minutes():
    late = TICK + HELD_UP - timedelta(seconds=1)
    assert decide(Due(TICK, 3), late, make_up=False, held_up=True) == Turn(TICK, 2)
    assert decide(Due(TICK, 3), TICK + HELD_UP, make_up=False, held_up=True) == Turn(None, 3)
