"""How far a claim spreads over the queue: not at all alone, and as far as it takes among many."""

import pytest

from supervisor.core.spread import CALM, WIDEST, Spread


def test_whoever_loses_nothing_keeps_to_strict_order() -> None:
    spread = Spread()
    for _ in range(100):
        spread.note([0, 0], lost=0)
    assert (spread.width, spread.share) == (1, 1)


@pytest.mark.parametrize("tried", [1, 8])
def test_whoever_loses_everything_looks_wider_at_once_and_no_wider_than_that(tried: int) -> None:
    spread = Spread()
    widths = []
    for _ in range(8):
        spread.note([0] * tried, lost=tried)
        widths.append(spread.width)
    assert widths == [2, 4, 8, 16, 32, 64, 64, 64]
    assert spread.share == 1 / WIDEST


def test_a_job_that_is_lost_now_and_then_is_bearable() -> None:
    spread = Spread()
    for _ in range(20):
        spread.note([0, 0], lost=1)
        spread.note([0, 0], lost=0)
        spread.note([0, 0], lost=0)
    assert spread.width == 1


def test_after_a_while_without_a_loss_it_goes_back_to_strict_order() -> None:
    spread = Spread(width=4)
    for _ in range(CALM - 1):
        spread.note([0], lost=0)
    assert spread.width == 4
    spread.note([0], lost=0)
    assert spread.width == 2
    for _ in range(2 * CALM):
        spread.note([0], lost=0)
    assert spread.width == 1


def test_where_too_few_jobs_were_found_it_looks_at_more_of_them() -> None:
    spread = Spread(width=4)
    spread.narrow()
    spread.narrow()
    spread.narrow()
    assert spread.width == 1


def test_of_a_higher_priority_than_the_lowest_that_was_tried_nothing_is_left_out() -> None:
    spread = Spread()
    spread.note([9, 9, 0.5, 0.5], lost=4)
    assert spread.priority == 0.5
