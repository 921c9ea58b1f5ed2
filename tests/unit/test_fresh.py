"""Which inserted documents may be claimed by what the change stream tells of them."""

from datetime import UTC, datetime

import bson
import pytest
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from hypothesis import given
from hypothesis import strategies as st

from supervisor.codec import RAW
from supervisor.core.job import CONTROL_FIELDS, FIELDS
from supervisor.store.fresh import fresh_job

PAYLOAD_KB = 2
PLAIN = {"_id": ObjectId(), "handler": "count", "status": "pending", "payload": {"n": 1}}


def told(**fields):
    return RawBSONDocument(bson.encode({**PLAIN, **fields}), RAW)


def test_a_plain_job_is_read_as_a_claim_reads_it():
    fields = {"priority": 3, "created_at": datetime(2026, 11, 26, tzinfo=UTC), "then": [{"handler": "next"}]}
    found = fresh_job(told(**fields, colour="red"), PAYLOAD_KB)
    assert found == {"_id": PLAIN["_id"], "handler": "count", "status": "pending", **fields}
    assert set(found) <= {"_id", *CONTROL_FIELDS}


@pytest.mark.parametrize("job_id", [ObjectId(), "a", 7])
@pytest.mark.parametrize("more", [{}, {"payload": None}, {"run_at": None, "attempts": None}])
def test_what_is_null_is_as_good_as_missing(job_id, more):
    assert fresh_job(told(_id=job_id, **more), PAYLOAD_KB)


@pytest.mark.parametrize(
    "fields",
    [
        {"run_at": datetime(2020, 1, 1, tzinfo=UTC)},
        {"status": "processing"},
        {"cancel_requested": True},
        {"attempt": 1},
        {"claims": 0},
        {"lease": {}},
        {"attempts": []},
        {"payload": []},
        {"payload": "x"},
        {"payload": {"n": "x" * PAYLOAD_KB * 1024}},
        {"handler": 7},
        {"priority": "high"},
        {"timeout_s": -1},
        {"_id": {"a": 1}},
        {"_id": 1.5},
        {"_id": "\N{REPLACEMENT CHARACTER}"},
    ],
    ids=str,
)
def test_whatever_is_unusual_needs_a_closer_look(fields):
    assert fresh_job(told(**fields), PAYLOAD_KB) is None


def test_what_the_stream_does_not_tell_needs_one_too():
    assert fresh_job(None, PAYLOAD_KB) is None


@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), st.none() | st.integers() | st.text() | st.booleans()))
def test_no_document_is_too_odd_to_be_looked_at(fields):
    try:
        document = told(**fields)
    except OverflowError:  # beyond 64 bits: no document
        return
    found = fresh_job(document, PAYLOAD_KB)
    assert found is None or found["status"] == "pending"
