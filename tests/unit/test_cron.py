"""When cron lines come due, above all where clocks are put forward and back."""

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.config import cron
from supervisor.config.cron import MOST_COUNTED, check_cron, due, ticks
from supervisor.core.schedule import Due

BERLIN = "Europe/Berlin"
"""2026-03-29: 02:00 +01:00 is 03:00 +02:00. 2026-10-25: 03:00 +02:00 is 02:00 +01:00."""
LORD_HOWE = "Australia/Lord_Howe"
"""2026-10-04: 02:00 +10:30 is 02:30 +11:00. 2026-04-05: 02:00 +11:00 is 01:30 +10:30."""


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def first(line: str, timezone: str, after: str, count: int = 3) -> list[datetime]:
    return list(islice(ticks(line, timezone, at(after)), count))


@pytest.mark.parametrize(
    ("line", "timezone", "after", "expected"),
    [
        # put forward: a time that does not exist comes due once, at the next valid time
        pytest.param(
            "30 2 * * *", BERLIN, "2026-03-28T12:00+01:00",
            ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00", "2026-03-31T02:30+02:00"], id="gap",
        ),
        pytest.param(
            "0,30 2 * * *", BERLIN, "2026-03-28T12:00+01:00",
            ["2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00", "2026-03-30T02:30+02:00"], id="two in the gap",
        ),
        pytest.param(
            "0 2,3 * * *", BERLIN, "2026-03-28T12:00+01:00",
            ["2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00", "2026-03-30T03:00+02:00"], id="gap and its end",
        ),
        pytest.param(
            "15 2 * * *", LORD_HOWE, "2026-10-03T12:00+10:30",
            ["2026-10-04T02:30+11:00", "2026-10-05T02:15+11:00", "2026-10-06T02:15+11:00"], id="half an hour's gap",
        ),
        pytest.param(
            "0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00-03:00",
            ["2018-11-04T01:00-02:00", "2018-11-05T00:00-02:00", "2018-11-06T00:00-02:00"], id="no midnight",
        ),
        pytest.param(
            "0 12 * * *", "Pacific/Apia", "2011-12-29T13:00-10:00",
            ["2011-12-31T00:00+14:00", "2011-12-31T12:00+14:00", "2012-01-01T12:00+14:00"], id="no such day",
        ),
        # put back: a time that exists twice comes due once, the first time
        pytest.param(
            "30 2 * * *", BERLIN, "2026-10-24T12:00+02:00",
            ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00", "2026-10-27T02:30+01:00"], id="twice",
        ),
        pytest.param(
            "45 1 * * *", LORD_HOWE, "2026-04-04T12:00+11:00",
            ["2026-04-05T01:45+11:00", "2026-04-06T01:45+10:30", "2026-04-07T01:45+10:30"], id="half an hour twice",
        ),
        pytest.param(
            "0 2,3 * * *", BERLIN, "2026-10-25T01:00+02:00",
            ["2026-10-25T02:00+02:00", "2026-10-25T03:00+01:00", "2026-10-26T02:00+01:00"], id="twice, and after it",
        ),
        # a star goes by what the clock shows, so that no hour is left out
        pytest.param(
            "30 * * * *", BERLIN, "2026-03-29T01:00+01:00",
            ["2026-03-29T01:30+01:00", "2026-03-29T03:30+02:00", "2026-03-29T04:30+02:00"], id="hourly, gap",
        ),
        pytest.param(
            "30 * * * *", BERLIN, "2026-10-25T02:00+02:00",
            ["2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00", "2026-10-25T03:30+01:00"], id="hourly, twice",
        ),
        pytest.param(
            "*/15 * * * *", LORD_HOWE, "2026-04-05T01:45+11:00",
            ["2026-04-05T01:30+10:30", "2026-04-05T01:45+10:30", "2026-04-05T02:00+10:30"], id="quarters, twice",
        ),
        # and what has nothing to do with clocks
        pytest.param(
            "0 3 * * *", "UTC", "2026-03-28T03:00Z",
            ["2026-03-29T03:00Z", "2026-03-30T03:00Z", "2026-03-31T03:00Z"], id="not the time itself",
        ),
        pytest.param(
            "0 3 * * *", "UTC", "2026-03-28T02:59:59.999Z",
            ["2026-03-28T03:00Z", "2026-03-29T03:00Z", "2026-03-30T03:00Z"], id="a millisecond before",
        ),
        pytest.param(
            "0 0 29 2 *", "UTC", "2026-01-01T00:00Z",
            ["2028-02-29T00:00Z", "2032-02-29T00:00Z", "2036-02-29T00:00Z"], id="leap days",
        ),
        pytest.param(
            "0 0 13 * FRI", "UTC", "2026-11-01T00:00Z",
            ["2026-11-06T00:00Z", "2026-11-13T00:00Z", "2026-11-20T00:00Z"], id="the 13th, or a Friday",
        ),
        pytest.param(
            "0 0 L * *", "UTC", "2026-01-01T00:00Z",
            ["2026-01-31T00:00Z", "2026-02-28T00:00Z", "2026-03-31T00:00Z"], id="the last of the month",
        ),
    ],
)  # fmt: skip
def test_when_a_line_comes_due(line, timezone, after, expected):
    assert first(line, timezone, after) == [at(text) for text in expected]


@pytest.mark.parametrize("after", ["2026-10-25T02:15+01:00", "2026-10-25T02:29:59+01:00", "2026-10-25T02:45+01:00"])
def test_a_start_within_the_repeated_hour_does_not_go_back_to_the_first(after):
    assert first("30 2 * * *", BERLIN, after, 1) == [at("2026-10-26T02:30+01:00")]


LINES = st.tuples(
    st.sampled_from(["0", "30", "*", "*/15", "0,30", "10-50/20"]),
    st.sampled_from(["2", "*", "1-3", "*/2", "0", "2,3"]),
    st.sampled_from(["*", "1-7", "29", "*/2"]),
    st.just("*"),
    st.sampled_from(["*", "sun", "1-5"]),
).map(" ".join)
ZONES = st.sampled_from(["UTC", BERLIN, LORD_HOWE, "America/New_York", "Asia/Kathmandu"])
MINUTES = st.integers(0, 400 * 24 * 60)
START = datetime(2026, 1, 1, tzinfo=UTC)


@given(LINES, ZONES, MINUTES, st.integers(0, 45_000))
def test_a_restart_at_any_time_finds_the_same_times(line, timezone, begin, later_s):
    """Else two supervisors that were started at different times would disagree about what is due."""
    after = START + timedelta(minutes=begin)
    later = after + timedelta(seconds=later_s)
    one = islice(ticks(line, timezone, after), 800)
    other = list(islice(ticks(line, timezone, later), 10))
    expected = [tick for tick in one if tick > later][: len(other)]
    assert other[: len(expected)] == expected


@given(LINES, ZONES, MINUTES)
def test_times_are_whole_minutes_in_utc_and_only_go_forward(line, timezone, begin):
    after = START + timedelta(minutes=begin, seconds=7)
    found = list(islice(ticks(line, timezone, after), 50))
    assert all(tick.tzinfo is UTC and tick.second == tick.microsecond == 0 for tick in found)
    assert [after, *found] == sorted({after, *found})


def test_what_is_due_is_the_latest_with_the_number_of_all():
    after, until = at("2026-10-24T12:00+02:00"), at("2026-10-27T12:00+01:00")
    assert due("30 2 * * *", BERLIN, after, until) == Due(at("2026-10-27T02:30+01:00"), 3)
    assert due("30 2 * * *", BERLIN, after, after + timedelta(hours=14)) is None
    assert due("30 2 * * *", BERLIN, after, at("2026-10-25T02:30+02:00")) == Due(at("2026-10-25T02:30+02:00"), 1)


@pytest.mark.parametrize(
    ("line", "latest"),
    [("* * * * *", "2026-11-20T12:00Z"), ("* * 1-7 * *", "2026-11-07T23:59Z"), ("*/2 4 * * *", "2026-11-20T04:58Z")],
)
def test_of_very_many_the_latest_is_found_without_counting_them_all(line, latest):
    until = at("2026-11-20T12:00:30Z")
    assert due(line, "UTC", until - timedelta(days=3000), until) == Due(at(latest), MOST_COUNTED)


@given(LINES, ZONES, MINUTES, st.integers(1, 20_000))
def test_the_latest_of_many_is_the_one_that_counting_all_would_find(line, timezone, begin, minutes):
    after = START + timedelta(minutes=begin)
    until = after + timedelta(minutes=minutes)
    found = []
    for tick in ticks(line, timezone, after):
        if tick > until:
            break
        found.append(tick)
    if found:
        assert cron._latest(line, timezone, found[0], until) == found[-1]


@pytest.mark.parametrize("line", ["0 0 30 2 *", "0 0 31 4,6 *", "0 0 */31 * MON#5"])
def test_a_line_that_never_comes_due_is_refused(line):
    with pytest.raises(ValueError, match="comes due some day"):
        check_cron(line)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("60 * * * *", 'minute is "60": allowed are 0-59'),
        ("* 24 * * *", 'hour is "24"'),
        ("* * 0 * *", 'day of month is "0"'),
        ("* * * foo *", 'month is "foo": allowed are 1-12, names'),
        ("* * * * 8", 'day of week is "8"'),
        ("*/0 * * * *", "minute"),
        ("5-1 * * * *", "minute"),
        (",1 * * * *", "minute"),
        ("٣ * * * *", "minute"),
        ("9" * 5000 + " * * * *", "minute"),
        ("0 0 3 * * *", "five fields"),
        ("@daily", "five fields"),
        ("", "five fields"),
    ],
)
def test_a_wrong_line_is_refused_naming_the_field(line, fault):
    with pytest.raises(ValueError) as caught:
        check_cron(line)
    assert fault in str(caught.value)
    assert len(str(caught.value)) < 200
