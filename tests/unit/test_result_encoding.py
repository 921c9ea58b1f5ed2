"""From what a handler returned to what the database can store: what is refused, and how its place is named."""

import math
import uuid
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64, ObjectId, json_util
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, HttpUrl, SecretStr

from supervisor.worker.results import MAX_DEPTH, SPOOLED_RESULT, NotStorableError, encode_result

INLINE = 1024
NOW = datetime(2024, 5, 1, 12, 30, tzinfo=UTC)


class Colour(Enum):
    RED = "red"


class Point(BaseModel):
    x: int
    label: str = "here"


class Shape(BaseModel):
    points: list[Point]
    note: Any = None


def stored(value, spool):
    """Encode, and read back what stands in the document."""
    data, file = encode_result(value, INLINE, spool)
    assert file is None
    return bson.decode(data, bson.CodecOptions(tz_aware=True))


def nested(levels: int, inmost: Any = 1) -> dict[str, Any]:
    value = inmost
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"n": 1, "big": 2**63 - 1, "small": -(2**63), "half": 0.5, "yes": True, "none": None, "text": "ä"},
        {"inf": math.inf, "date": NOW, "id": ObjectId(), "bytes": b"\x00\xff", "list": [1, [2, {"a": []}]]},
        {"$where": "1", "a.b": 1, "": 2, "$set": {"x": "$$NOW"}},
        {"nul in a value": "a\0b"},
        nested(MAX_DEPTH),
    ],
)
def test_what_bson_can_hold_is_stored_as_it_is(tmp_path, value):
    assert stored(value, tmp_path) == value


def test_not_a_number_is_stored(tmp_path):
    assert math.isnan(stored({"a": math.nan}, tmp_path)["a"])


@pytest.mark.parametrize(
    ("value", "document"),
    [
        (Point(x=1), {"x": 1, "label": "here"}),
        (Shape(points=[Point(x=1)]), {"points": [{"x": 1, "label": "here"}], "note": None}),
        ({"a": Point(x=2), "b": [Point(x=3)]}, {"a": {"x": 2, "label": "here"}, "b": [{"x": 3, "label": "here"}]}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        ({"pair": (1, 2)}, {"pair": [1, 2]}),
        ({"n": Int64(5)}, {"n": 5}),
    ],
)
def test_models_and_tuples_become_documents_and_arrays(tmp_path, value, document):
    assert stored(value, tmp_path) == document


def test_no_result_is_no_document(tmp_path):
    assert encode_result(None, INLINE, tmp_path) == (None, None)


@pytest.mark.parametrize(
    ("value", "kind"),
    [("text", "a str"), (5, "an int"), ([1], "a list"), (b"x", "a bytes"), (True, "a bool"), (object(), "an object")],
)
def test_what_is_no_document_is_refused(tmp_path, value, kind):
    with pytest.raises(NotStorableError) as refusal:
        encode_result(value, INLINE, tmp_path)
    assert str(refusal.value) == f"the handler returned {kind}; a dict, a pydantic model or None is allowed"


UNSTORABLE = [
    pytest.param({1, 2}, "a set", id="a set"),
    pytest.param(frozenset(), "a frozenset", id="a frozenset"),
    pytest.param(object(), "an object", id="an object"),
    pytest.param(Decimal("1.5"), "a Decimal", id="a decimal"),
    pytest.param(date(2024, 5, 1), "a date", id="a date without a time"),
    pytest.param(time(12), "a time", id="a time"),
    pytest.param(timedelta(1), "a timedelta", id="a duration"),
    pytest.param(Path("x"), "a PosixPath", id="a path"),
    pytest.param(Colour.RED, "a Colour", id="an enum"),
    pytest.param(uuid.UUID(int=1), "an UUID", id="a uuid"),
    pytest.param(1 + 2j, "a complex", id="a complex number"),
    pytest.param(2**63, "an int", id="an integer of more than 64 bits"),
    pytest.param(-(2**63) - 1, "an int", id="a negative one"),
    pytest.param(print, "a builtin_function_or_method", id="a function"),
]


@pytest.mark.parametrize(("value", "kind"), UNSTORABLE)
@pytest.mark.parametrize(
    ("around", "place"),
    [
        (lambda value: {"a": value}, "result.a"),
        (lambda value: {"pages": [{}, {"words": (1, value)}]}, "result.pages[1].words[1]"),
        (lambda value: {"a.b": {"$c": value}}, "result.a.b.$c"),
    ],
    ids=["at the top", "inside", "odd keys"],
)
def test_what_bson_cannot_hold_is_named_by_its_place(tmp_path, around, place, value, kind):
    with pytest.raises(NotStorableError) as refusal:
        encode_result(around(value), INLINE, tmp_path)
    assert str(refusal.value).startswith(f"{place}: {kind} cannot be stored: ")


@pytest.mark.parametrize(
    ("value", "as_json"),
    [
        (date(2024, 5, 1), "2024-05-01"),
        (time(12), "12:00:00"),
        (timedelta(1), "P1D"),
        (Decimal("1.50"), "1.50"),
        (Path("x/y"), "x/y"),
        (Colour.RED, "red"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (HttpUrl("http://a.example/b"), "http://a.example/b"),
        (frozenset([7]), [7]),
        ((1, (Colour.RED,)), [1, ["red"]]),
        ({5: date(2024, 5, 1), Colour.RED: 1, date(2024, 5, 1): 2}, {"5": "2024-05-01", "red": 1, "2024-05-01": 2}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_bson_does_not_have_is_stored_in_its_json_form_if_it_is_in_a_model(tmp_path, value, as_json):
    assert stored(Shape(points=[], note=value), tmp_path)["note"] == as_json


def test_what_bson_has_stays_what_it_is_in_a_model(tmp_path):
    kept = {
        "at": datetime(2024, 5, 1, tzinfo=UTC),
        "id": ObjectId(),
        "data": b"x",
        "n": Int64(5),
        "re": Decimal128("1"),
    }
    assert stored(Shape(points=[], note=kept), tmp_path)["note"] == kept


@pytest.mark.parametrize(
    ("value", "kind"),
    [(object(), "an object"), (2**63, "an int"), (print, "a builtin"), (SecretStr("x"), "a SecretStr")],
)
def test_what_has_no_such_form_and_secrets_are_refused_in_a_model_too(tmp_path, value, kind):
    with pytest.raises(NotStorableError, match=rf"^result.note.x\[0\]: {kind}"):
        encode_result(Shape(points=[], note={"x": [value]}), INLINE, tmp_path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1: "a"}, "result: the key 1 is an int, must be a string"),
        ({"a": {None: 1}}, "result.a: the key None is a NoneType, must be a string"),
        ({"a": [{("x", "y"): 1}]}, "result.a[0]: the key ('x', 'y') is a tuple, must be a string"),
        ({"a": {"b\0c": 1}}, r"result.a: the key 'b\x00c' contains a NUL character"),
    ],
)
def test_a_key_that_is_no_name_is_named(tmp_path, value, message):
    with pytest.raises(NotStorableError) as refusal:
        encode_result(value, INLINE, tmp_path)
    assert str(refusal.value) == message


def endless() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["a"] = value
    return value


@pytest.mark.parametrize("value", [nested(5000), endless(), {"a": [nested(3000)]}], ids=["5000", "endless", "a list"])
def test_what_is_nested_without_measure_is_refused(tmp_path, value):
    with pytest.raises(NotStorableError) as refusal:
        encode_result(value, INLINE * 1024, tmp_path)
    assert str(refusal.value).startswith("result.a")
    assert str(refusal.value).endswith(f": nested deeper than {MAX_DEPTH} levels")


@pytest.mark.parametrize("levels", [190, 250, 900])
def test_what_the_database_would_find_too_deep_is_refused(tmp_path, levels):
    with pytest.raises(NotStorableError):
        encode_result(nested(levels), INLINE * 1024, tmp_path)


@pytest.mark.parametrize(
    ("text", "kept"), [("\ud800", "?"), ("a\udfffb", "a?b"), ("\ud83d\ude00", "??"), ("ok \U0001f600", "ok \U0001f600")]
)
def test_half_a_surrogate_pair_is_replaced(tmp_path, text, kept):
    assert stored({"text": text, "words": [{"w": text}], "key " + text: 1}, tmp_path) == {
        "text": kept,
        "words": [{"w": kept}],
        "key " + kept: 1,
    }


def test_a_surrogate_does_not_hide_what_cannot_be_stored(tmp_path):
    with pytest.raises(NotStorableError, match=r"^result\.b: a set cannot be stored: "):
        encode_result({"a": "\ud800", "b": set()}, INLINE, tmp_path)


# files


def test_a_result_at_the_limit_stays_in_the_document_and_one_byte_more_goes_to_a_file(tmp_path):
    value = {"text": "x" * 100}
    size = len(bson.encode(value))
    assert encode_result(value, size, tmp_path) == (bson.encode(value), None)
    assert encode_result(value, size - 1, tmp_path) == (None, SPOOLED_RESULT)


def test_the_file_holds_what_the_document_would_have_held(tmp_path):
    value = {"text": "ä€\U0001f600" * 1000, "at": NOW, "raw": b"\x00\xff", "id": ObjectId(), "big": 2**40, "x": [0.5]}
    assert encode_result(value, INLINE, tmp_path) == (None, SPOOLED_RESULT)
    text = (tmp_path / SPOOLED_RESULT).read_text("utf-8")
    assert json_util.loads(text, json_options=json_util.JSONOptions(tz_aware=True)) == value


def test_a_large_result_with_a_surrogate_goes_to_a_file_too(tmp_path):
    assert encode_result({"text": "\ud800" * INLINE}, INLINE, tmp_path) == (None, SPOOLED_RESULT)
    assert json_util.loads((tmp_path / SPOOLED_RESULT).read_text("utf-8")) == {"text": "?" * INLINE}


def test_a_refused_result_leaves_no_file(tmp_path):
    with pytest.raises(NotStorableError):
        encode_result({"text": "x" * INLINE, "a": set()}, INLINE, tmp_path)
    assert list(tmp_path.iterdir()) == []


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.binary()
    | st.decimals()
    | st.dates(),
    lambda inside: (
        st.lists(inside, max_size=3) | st.dictionaries(st.text(st.characters(codec=None)), inside, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(st.characters(codec=None)), values, max_size=4))
def test_any_document_is_either_stored_or_refused_by_its_place(value):
    try:
        data, _ = encode_result(value, 1 << 20, Path("/nowhere"))
    except NotStorableError as refusal:
        place = str(refusal)
    else:
        place = "result"
        assert isinstance(bson.decode(data), dict)
    assert place.startswith("result")
