"""What is claimed before a slot is free, and where it goes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.lookahead import (
    AHEAD_S,
    ENOUGH,
    IN_LINE_S,
    LONGEST_S,
    MOST_AHEAD,
    SAMPLES,
    SHORT_S,
    SLOW_S,
    Ahead,
    Pace,
    Place,
    deal,
)

LONG = math.inf


def paced(*run_times_s: float) -> Pace:
    pace = Pace()
    for run_s in run_times_s:
        pace.note("h", run_s)
    return pace


def busy(slot: int, most: int = 10, ahead_s: float = AHEAD_S) -> Place:
    return Place(slot, 1000 + slot, free=False, most=most, ahead_s=ahead_s)


def free(slot: int, most: int = 10, ahead_s: float = AHEAD_S) -> Place:
    return Place(slot, 1000 + slot, free=True, most=most, ahead_s=ahead_s)


def dealt(takes_s, *places: Place) -> list[int]:
    return [place.slot for place in deal(takes_s, list(places))]


def test_a_handler_is_unknown_until_enough_of_its_jobs_have_ended():
    assert not paced(*[0.001] * (ENOUGH - 1)).expected("h").is_short
    assert paced(*[0.001] * ENOUGH).expected("h").seconds == pytest.approx(0.001)
    assert not paced(*[0.001] * ENOUGH).expected("other").is_short


def test_one_long_job_in_four_does_not_make_a_handler_long_but_one_in_three_does():
    assert paced(*[0.001, 0.001, 0.001, 0.001, 9.0] * 6).expected("h").is_short
    assert not paced(*[0.001, 0.001, 9.0] * 8).expected("h").is_short


def test_a_long_job_among_short_ones_counts_for_as_long_as_it_keeps_others_waiting():
    assert paced(*[0.01] * 7, 9.0).expected("h").seconds == pytest.approx((7 * 0.01 + SLOW_S) / 8)


def test_only_the_newest_count():
    assert paced(*[9.0] * 100, *[0.001] * SAMPLES).expected("h").seconds == pytest.approx(0.001)
    assert not paced(*[0.001] * 100, *[9.0] * (SAMPLES // 2)).expected("h").is_short


def test_the_quickest_handler_counts_for_what_may_wait():
    pace = paced(*[9.0] * ENOUGH)
    assert pace.ahead() == Ahead(0, AHEAD_S)
    for _ in range(ENOUGH):
        pace.note("quick", 0.004)
    assert pace.ahead() == Ahead(50, AHEAD_S)
    assert Pace().ahead().most == 0


def test_more_may_wait_while_others_are_in_line_and_in_a_slot_that_takes_over_from_another():
    pace = paced(*[0.016] * ENOUGH)
    assert pace.ahead(2) == Ahead(25, 2 * AHEAD_S)
    pace.in_line = True
    assert pace.ahead() == Ahead(31, IN_LINE_S)
    assert pace.ahead(2) == Ahead(62, 2 * IN_LINE_S)


def test_where_claims_take_long_jobs_of_a_few_claims_length_are_short():
    pace = paced(*[2 * SHORT_S] * ENOUGH)
    assert not pace.expected("h").is_short
    for _ in range(30):
        pace.note_claim(SHORT_S)
    assert pace.expected("h").is_short
    assert pace.expected("h").slow_s == pytest.approx(2 * pace.short_s)
    for _ in range(30):
        pace.note_claim(10.0)
    assert pace.short_s == LONGEST_S
    for _ in range(30):
        pace.note_claim(0.001)
    assert not pace.expected("h").is_short
    assert pace.expected("h").slow_s == SLOW_S


@pytest.mark.parametrize(
    ("shortest_s", "most"),
    [(0.0, MOST_AHEAD), (0.0001, MOST_AHEAD), (0.02, 10), (SHORT_S, 4), (LONGEST_S, 1), (LONG, 0)],
)
def test_as_many_may_wait_as_fill_a_moment(shortest_s, most):
    assert Ahead.of(shortest_s, in_line=False).most == most


def test_free_slots_come_first_and_take_a_job_of_any_kind():
    assert dealt([LONG, 0.01, 0.01], busy(0), free(1), free(2)) == [1, 2, 0]


def test_nothing_waits_behind_a_long_job():
    assert dealt([LONG, 0.01, 0.01], free(0)) == [0]


def test_a_long_job_is_not_passed_over():
    assert dealt([0.01, LONG, 0.01, 0.01], free(0), busy(1)) == [0]


def test_short_jobs_go_where_the_least_work_waits():
    assert dealt([0.01] * 4, busy(0, ahead_s=0.1), busy(1, ahead_s=0.075)) == [0, 0, 0, 1]


def test_a_place_takes_no_more_than_it_may():
    assert len(deal([0.0001] * 9, [free(0, most=3), busy(1, most=2)])) == 5
    assert len(deal([0.03] * 9, [free(0, ahead_s=0.1)])) == 4  # the fourth begins within 100 ms


@given(
    st.lists(st.sampled_from([0.0001, 0.01, SHORT_S, LONG]), max_size=40),
    st.lists(st.tuples(st.booleans(), st.integers(1, 6), st.floats(0.001, AHEAD_S)), max_size=5),
)
def test_whatever_there_is_the_order_of_the_queue_is_kept(takes_s, described):
    places = [Place(slot, slot, *each) for slot, each in enumerate(described)]
    given_to = deal(takes_s, places)
    assert len(given_to) <= len(takes_s)
    for place in places:
        here = [takes_s[position] for position, each in enumerate(given_to) if each.slot == place.slot]
        assert len(here) <= place.most
        assert LONG not in here[1:]
        assert place.free or LONG not in here
        assert here[:1] != [LONG] or len(here) == 1
    if len(given_to) < len(takes_s):  # the next one finds no place
        assert not {place.slot for place in places if place.free} - {place.slot for place in given_to}
