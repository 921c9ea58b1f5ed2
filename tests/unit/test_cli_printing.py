"""How the command line writes values, durations and tables."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from bson import Binary, Decimal128, Int64, ObjectId
from bson.datetime_ms import DatetimeMS

from supervisor.cli.printing import as_json, clean, error_in_short, fit
from supervisor.client.documents import id_text
from supervisor.core.durations import duration

NOON = datetime(2026, 3, 1, 12, 30, 0, 250_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0092, "9ms"), (3.61, "3.6s"), (45, "45s"), (99.4, "99s"), (720, "12m"), (18_000, "5h"), (700_000, "8d"),
     (None, ""), ("x", ""), (True, ""), (float("nan"), "")],
)  # fmt: skip
def test_a_duration_is_told_in_one_unit(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (ObjectId("65f2a1c0e4b0a1b2c3d4e5f6"), "65f2a1c0e4b0a1b2c3d4e5f6"),
        (NOON, "2026-03-01T12:30:00.250Z"),
        (NOON.astimezone(timezone(timedelta(hours=2))), "2026-03-01T12:30:00.250Z"),
        (Decimal128("1.10"), "1.10"),
        (b"abc", "YWJj"),
        (Binary(b"abc", 5), "YWJj"),
        (Int64(5), 5),
        (float("inf"), "inf"),
        ([None, True, {"a": (1, 2.5)}], [None, True, {"a": [1, 2.5]}]),
        (DatetimeMS(2**62), {"$date": {"$numberLong": str(2**62)}}),
    ],
)
def test_json_holds_only_what_json_has(value, plain):
    assert json.loads(as_json({"value": value})) == {"value": plain}


def test_ids_are_strings_that_a_command_takes_again():
    shown = [id_text(value) for value in (ObjectId("65f2a1c0e4b0a1b2c3d4e5f6"), 7, "seven", {"a": 1})]
    assert shown == ["65f2a1c0e4b0a1b2c3d4e5f6", "7", "seven", '{"a": 1}']
    assert json.loads(as_json({"_id": 7})) == {"_id": "7"}


def test_nothing_from_a_document_reaches_the_terminal_as_a_control_sequence():
    assert clean("a\x1b[2Jb\nc\x07") == r"a\x1b[2Jb c\x07"


def test_an_error_in_short_names_kind_code_and_message():
    assert error_in_short({"kind": "permanent", "code": "no_use", "message": "never\nmind"}) == (
        "permanent: no_use: never mind"
    )
    assert error_in_short({"kind": "timeout", "code": None, "message": "slow"}) == "timeout: slow"
    assert error_in_short("nonsense") == ""


def test_a_table_gives_up_the_width_of_its_widest_column_first():
    assert fit([24, 9, 200], 80) == [24, 9, 43]
    assert fit([24, 9, 10], 80) == [24, 9, 10]
    assert fit([60, 90], 62) == [30, 30]


def test_a_table_keeps_ids_whole_where_it_is_too_narrow():
    assert fit([24, 9, 200], 40)[0] == 24
    assert fit([24, 9, 200], 40)[-1] == 3
