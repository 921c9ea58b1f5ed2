"""Controls of hosts: what is read, and which of several holds."""

from datetime import UTC, datetime, timedelta

import pytest

from supervisor.cli.in_force import effective
from supervisor.core.fleet import Drain, Resize, drain_of, resize_of, to_drain, to_resize

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(minutes=1)


@pytest.mark.parametrize(
    ("workers", "read"), [(0, 0), (1024, 1024), (3.0, 3), ("auto", "auto"), (None, None)], ids=repr
)
def test_a_resize_takes_a_number_auto_or_nothing(workers, read):
    assert to_resize({"host": "a", "workers": workers, "at": NOON}) == Resize("a", read, "operator", NOON)


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"host": "a"}, 'workers: missing, must be an integer from 0 to 1024, "auto" or null'),
        *(
            ({"host": "a", "workers": value}, f"workers: is {str(value)!r}, must be")
            for value in (-1, 1025, 1.5, True, "4", "many", float("nan"), float("inf"), [], {}, 2**63)
        ),
        ({"workers": 1}, "host: is 'None', must be the name of a host or \"*\""),
        ({"host": "", "workers": 1}, "host: is '', must be"),
        ({"host": 7, "workers": 1}, "host: is '7', must be"),
        ({"host": "a", "workers": 1, "at": "today"}, "at: is 'today', must be a date"),
    ],
    ids=str,
)
def test_a_malformed_resize_names_the_field(document, problem):
    with pytest.raises(ValueError) as refused:
        to_resize(document)
    assert str(refused.value).startswith(problem)


def test_a_drain_is_read_with_its_reason():
    document = {"host": "*", "reason": "new kernel", "by": "a script", "at": NOON}
    assert to_drain(document) == Drain("*", "new kernel", "a script", NOON)
    assert to_drain({"host": "a"}) == Drain("a")
    with pytest.raises(ValueError, match="host"):
        to_drain({"host": ["a"]})


@pytest.mark.parametrize(
    ("resizes", "workers"),
    [
        ([Resize("a", 1, at=NOON), Resize("*", 2, at=LATER)], 2),
        ([Resize("a", 1, at=LATER), Resize("*", 2, at=NOON)], 1),
        ([Resize("a", 1, at=NOON), Resize("*", 2, at=NOON)], 1),
        ([Resize("a", 1), Resize("*", 2, at=NOON)], 2),
        ([Resize("b", 1, at=LATER), Resize("*", 2, at=NOON)], 2),
    ],
)
def test_the_newest_resize_holds_whether_for_the_host_or_for_all(resizes, workers):
    for order in (resizes, resizes[::-1]):
        held = resize_of("a", order)
        assert held is not None
        assert held.workers == workers


def test_of_other_hosts_nothing_holds_here():
    assert resize_of("a", [Resize("b", 1, at=NOON)]) is None
    assert drain_of("a", [Drain("b")]) is None
    assert drain_of("a", [Drain("*"), Drain("a", "ours")]) == Drain("a", "ours")


def test_a_listing_shows_what_is_in_force_only():
    everywhere = Resize("*", 4, at=NOON)
    older, newer = Resize("a", 1, at=NOON - timedelta(hours=1)), Resize("b", None, "config", LATER)
    assert effective([everywhere, older, newer]) == [everywhere, newer]
    assert effective([Resize("*", None, at=NOON), newer]) == [], "as configured, where nothing else was said"
