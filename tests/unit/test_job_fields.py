"""What is wrong with a job document: every field against every kind of value it must not have."""

import math
from datetime import UTC, datetime

import pytest
from bson import Decimal128, Int64, ObjectId
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.job import CONTROL_FIELDS, FIELDS, Status, allowed, find_problem
from tests.support.jobs import pending

NOW = datetime(2024, 5, 1, tzinfo=UTC)
STATUSES = "one of pending, processing, completed, failed, cancelled"
WORDS = {
    "handler": "a string",
    "payload": "a document",
    "status": STATUSES,
    "priority": "an integer from -2147483648 to 2147483647",
    "run_at": "a date",
    "created_at": "a date",
    "timeout_s": "a number from 0.001 to 1000000000.0",
    "max_attempts": "an integer from 1 to 2147483647",
    "unique_key": "a string",
    "group_key": "a string",
    "then": "an array of {handler, payload?, …}",
    "children": "an array",
    "attempt": "an integer from 0 to 2147483647",
    "crashes": "an integer from 0 to 2147483647",
    "claims": "an integer from 0 to 9007199254740992",
    "lease": "a document",
    "started_at": "a date",
    "finished_at": "a date",
    "progress": "a document",
    "result": "a document",
    "error": "a document",
    "attempts": "an array",
    "usage": "a document",
    "cancel_requested": "true or false",
    "trace": "a string",
}
GOOD = {
    "string": ["", "x", "$where"],
    "status": [status.value for status in Status],
    "document": [{}, {"a": 1}],
    "array": [[], [1]],
    "followers": [[], [{"handler": "ner"}], [{"handler": "ner", "payload": None, "priority": 2.0}]],
    "boolean": [True, False],
    "date": [NOW],
    "integer": [1, 1.0, Int64(1)],
    "number": [1, 0.5, Int64(1)],
    "any": ["x", 1, NOW, ObjectId("65f0a1b2c3d4e5f601234567"), [], {}, math.nan],
}
VALUES = {
    "a string": "soon",
    "an empty string": "",
    "a number in a string": "7",
    "bytes": b"x",
    "one": 1,
    "one and a half": 1.5,
    "minus one": -1,
    "zero": 0,
    "2**63": 2**63,
    "2**63-1": 2**63 - 1,
    "NaN": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
    "true": True,
    "false": False,
    "a decimal": Decimal128("1"),
    "an id": ObjectId("0123456789abcdef01234567"),
    "a document": {"$gt": 1},
    "an array": [1],
    "a date": NOW,
    "a date of the year 275760": DatetimeMS(8_640_000_000_000_000),
}
FITTING = {
    "string": {"a string", "an empty string", "a number in a string"},
    "status": set(),
    "document": {"a document"},
    "array": {"an array"},
    "followers": set(),
    "boolean": {"true", "false"},
    "date": {"a date"},
    "integer": {"one", "zero", "minus one"},
    "number": {"one", "one and a half", "zero", "minus one"},
}
SMALLEST = {"timeout_s": 0.001, "max_attempts": 1, "attempt": 0, "crashes": 0, "claims": 0}


def fits(name: str, label: str) -> bool:
    if label not in FITTING[FIELDS[name].kind]:
        return False
    value = VALUES[label]
    return name not in SMALLEST or value >= SMALLEST[name]


WRONG = [
    pytest.param(name, label, id=f"{name} is {label}") for name in WORDS for label in VALUES if not fits(name, label)
]
RIGHT = [
    *(
        pytest.param(name, VALUES[label], id=f"{name} is {label}")
        for name in WORDS
        for label in VALUES
        if fits(name, label)
    ),
    *(
        pytest.param(name, value, id=f"{name} is {value!r}")
        for name, field in FIELDS.items()
        for value in GOOD[field.kind]
    ),
]


def test_the_words_cover_every_field_that_has_a_type():
    assert {name for name, field in FIELDS.items() if field.kind != "any"} == set(WORDS)
    assert set(CONTROL_FIELDS) <= set(FIELDS)


@pytest.mark.parametrize(("name", "label"), WRONG)
def test_a_wrong_value_is_named_with_its_field_and_what_is_allowed(name, label):
    if FIELDS[name].kind == "followers" and label == "an array":
        assert find_problem(pending(then=[1])) == "then: is [1], entry 0 must be a document with `handler`"
    else:
        assert find_problem(pending(**{name: VALUES[label]})) == f"{name}: is {VALUES[label]!r}, must be {WORDS[name]}"


@pytest.mark.parametrize(("name", "value"), RIGHT)
def test_a_right_value_is_no_problem(name, value):
    assert find_problem(pending(**{name: value})) is None


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if not field.required])
def test_null_counts_as_missing(name):
    assert find_problem(pending(**{name: None})) is None


@pytest.mark.parametrize(
    ("name", "problem"),
    [("handler", "handler: missing, must be a string"), ("status", f"status: missing, must be {STATUSES}")],
)
def test_what_every_job_needs_is_missed(name, problem):
    without = {key: value for key, value in pending().items() if key != name}
    assert find_problem(without) == find_problem({**without, name: None}) == problem


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("priority", -(2**31), 2**31 - 1),
        ("timeout_s", 0.001, 1e9),
        ("max_attempts", 1, 2**31 - 1),
        ("attempt", 0, 2**31 - 1),
        ("crashes", 0, 2**31 - 1),
        ("claims", 0, 2**53),
    ],
)
def test_the_ends_of_a_range_belong_to_it_and_what_is_beyond_does_not(name, least, most):
    assert find_problem(pending(**{name: least})) is None
    assert find_problem(pending(**{name: most})) is None
    assert find_problem(pending(**{name: least - 1})) is not None
    assert find_problem(pending(**{name: most * 2})) is not None


@pytest.mark.parametrize("status", ["foo", "PENDING", "Pending", ""])
def test_an_unknown_status_is_refused(status):
    assert find_problem(pending(status=status)) == f"status: is {status!r}, must be {STATUSES}"


@pytest.mark.parametrize(
    ("follower", "problem"),
    [
        ("ner", "entry 1 must be a document with `handler`"),
        (None, "entry 1 must be a document with `handler`"),
        ({}, "entry 1 is no job: handler: missing, must be a string"),
        ({"handler": 5}, "entry 1 is no job: handler: is 5, must be a string"),
        ({"handler": "ner", "payload": "x"}, "entry 1 is no job: payload: is 'x', must be a document"),
        ({"handler": "ner", "status": "foo"}, f"entry 1 is no job: status: is 'foo', must be {STATUSES}"),
        (
            {"handler": "ner", "then": [{"handler": 1}]},
            "entry 1 is no job: then: is [{'handler': 1}], entry 0 is no job: handler: is 1, must be a string",
        ),
    ],
)
def test_a_follower_must_be_a_job_itself(follower, problem):
    then = [{"handler": "ner"}, follower]
    assert find_problem(pending(then=then)) == f"then: is {shortened(repr(then))}, {problem}"


def shortened(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def test_a_long_value_is_shortened():
    problem = find_problem(pending(run_at="x" * 100_000))
    assert problem == f"run_at: is '{'x' * 76}..., must be a date"


def test_the_first_wrong_field_of_several_is_named():
    assert find_problem(pending(trace=1, run_at=1)) == "run_at: is 1, must be a date"


def test_fields_of_the_producer_s_own_are_left_alone():
    assert find_problem(pending(customer=math.nan, error_count=2**70)) is None


def test_a_batch_may_have_any_id():
    assert allowed(FIELDS["batch_id"]) == "any value"


any_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.just(NOW),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), any_value))
def test_no_document_makes_the_check_itself_fail(document):
    problem = find_problem(document)
    assert problem is None or (len(problem.splitlines()) == 1 and problem.split(":")[0] in FIELDS)
