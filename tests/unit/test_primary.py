"""When the database's clock is doubted: after an election and after a jump, for one lease."""

import pytest

from supervisor.core.primary import Change, PrimaryWatch, Sighting

LEASE_S = 60.0
START_S = 1_800_000_000.0  # of the database's clock when ours says 0


def sighting(asked_s, *, election="first", ahead_s=0.0, took_s=0.01):
    """What a primary says whose clock is `ahead_s` seconds ahead, to a question that took `took_s` seconds."""
    return Sighting(election, START_S + asked_s + took_s / 2 + ahead_s, asked_s, asked_s + took_s)


@pytest.fixture
def watch():
    watch = PrimaryWatch()
    assert watch.see(sighting(0), LEASE_S) is None, "the first sighting is believed"
    assert watch.believes(sighting(0))
    return watch


def test_a_new_primary_is_believed_after_one_lease(watch):
    assert watch.see(sighting(5, election="second"), LEASE_S) == Change(new_primary=True, jump_s=0)
    for at_s, believed in [(5, False), (64, False), (66, True)]:
        later = sighting(at_s, election="second")
        assert at_s == 5 or watch.see(later, LEASE_S) is None, "said once"
        assert watch.believes(later) is believed


@pytest.mark.parametrize("jump_s", [120, 16, -16, -3600])
def test_a_clock_that_jumps_by_more_than_a_quarter_of_the_lease_is_doubted_for_one_lease(watch, jump_s):
    change = watch.see(sighting(5, ahead_s=jump_s), LEASE_S)
    assert change is not None
    assert change.new_primary is False
    assert change.jump_s == pytest.approx(jump_s, abs=0.1)
    assert not watch.believes(sighting(64, ahead_s=jump_s))
    assert watch.believes(sighting(66, ahead_s=jump_s))


@pytest.mark.parametrize("drift_s", [14, -14])
def test_a_clock_that_is_adjusted_a_little_is_believed(watch, drift_s):
    assert watch.see(sighting(5, ahead_s=drift_s), LEASE_S) is None
    assert watch.believes(sighting(5, ahead_s=drift_s))


def test_an_answer_that_took_long_is_no_jump(watch):
    assert watch.see(sighting(5, took_s=100), LEASE_S) is None
    assert watch.see(sighting(110), LEASE_S) is None


def test_each_election_starts_the_time_again(watch):
    watch.see(sighting(5, election="second"), LEASE_S)
    watch.see(sighting(60, election="third"), LEASE_S)
    assert not watch.believes(sighting(70, election="third"))
    assert watch.believes(sighting(121, election="third"))


def test_behind_a_mongos_there_are_no_elections_to_see():
    watch = PrimaryWatch()
    for at_s in (0, 5, 10):
        assert watch.see(sighting(at_s, election=None), LEASE_S) is None
