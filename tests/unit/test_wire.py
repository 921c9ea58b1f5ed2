"""What crosses the line between the supervisor and a worker, and what the supervisor does not believe of it."""

import os
import struct
from dataclasses import replace
from datetime import UTC, datetime

import bson
import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.outcome import ErrorInfo, ErrorKind, Raised, Returned, Usage
from supervisor.worker.wire import (
    INLINE_BYTES,
    LENGTH_BYTES,
    MAX_MESSAGE_BYTES,
    Call,
    Stopped,
    decode_call,
    decode_outcome,
    encode_call,
    encode_outcome,
    frame,
    frame_length,
    read_order,
    split_group,
    spool_file,
    write_order,
)

USAGE = Usage(run_s=1.5, cpu_s=0.25, peak_rss_mb=80.5)
ERROR = ErrorInfo("boom", "ValueError", "Traceback …", "encrypted_pdf")
OUTCOMES = [
    pytest.param(Returned(usage=USAGE), id="nothing returned"),
    pytest.param(Returned(result=bson.encode({"$a": {"b.c": 1}}), usage=USAGE), id="returned"),
    pytest.param(Raised(kind=ErrorKind.EXCEPTION, error=ERROR, usage=USAGE), id="raised"),
    pytest.param(Raised(kind=ErrorKind.EXCEPTION, error=ERROR, retry_in_s=30.0, usage=USAGE), id="asked for a retry"),
    pytest.param(Raised(kind=ErrorKind.PERMANENT, error=ErrorInfo("no"), usage=Usage()), id="permanent"),
    pytest.param(Stopped(error=ERROR, usage=USAGE), id="stopped"),
]


@pytest.fixture
def spool(tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir()
    (tmp_path / "secret").write_text("not for workers")
    return folder


@pytest.mark.parametrize(
    "job_id", [ObjectId("0123456789abcdef01234567"), "a", 5, {"a": 1}, datetime(2024, 5, 1, tzinfo=UTC), None]
)
def test_a_call_comes_back_as_it_went(job_id):
    call = Call("ocr", job_id, 2, 7, 1.5, {"roots": ["/data"], "n": {"a": None}}, b"\x05\0\0\0\0", 1024, "00-abc-01")
    group = encode_call(call, 7) + encode_call(replace(call, attempt=3), 2**40)
    assert [(number, decode_call(data)) for number, data in split_group(group)] == [
        (7, call),
        (2**40, replace(call, attempt=3)),
    ]


def test_a_payload_that_cannot_be_decoded_crosses_untouched():
    payload = bson.encode({"a": "XY"}).replace(b"XY", b"\xff\xfe")
    ((_, data),) = split_group(encode_call(Call("ocr", 1, 1, 1, 1.0, {}, payload, 1), 1))
    assert decode_call(data).payload == payload


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_an_outcome_comes_back_as_it_went(spool, outcome):
    data = encode_outcome(outcome, spool, 7)
    assert decode_outcome(data, spool) == outcome
    assert list(spool.iterdir()) == []


@pytest.mark.parametrize(
    "outcome",
    [
        Returned(result=bson.encode({"text": "x" * INLINE_BYTES})),
        Raised(kind=ErrorKind.EXCEPTION, error=ErrorInfo("x" * INLINE_BYTES)),
        Stopped(error=ErrorInfo("x" * INLINE_BYTES), usage=USAGE),
    ],
    ids=["returned", "raised", "stopped"],
)
def test_a_large_outcome_takes_the_way_through_a_file(spool, outcome):
    data = encode_outcome(outcome, spool, 7)
    assert len(data) < 100
    assert decode_outcome(data, spool) == outcome


@pytest.mark.parametrize("more", [0, 1])
def test_what_goes_through_the_pipe_is_never_larger_than_one_write(spool, more):
    overhead = len(encode_outcome(Returned(result=b""), spool, 7))
    data = encode_outcome(Returned(result=b"x" * (INLINE_BYTES - overhead + more)), spool, 7)
    assert len(data) <= INLINE_BYTES
    assert len(list(spool.iterdir())) == more


def test_a_large_result_is_named_by_its_path(spool):
    (spool / "result.json").write_text("{}")
    outcome = decode_outcome(encode_outcome(Returned(spool_file="result.json"), spool, 7), spool)
    assert outcome == Returned(spool_file=str(spool / "result.json"))


def test_an_order_names_its_job_and_a_file_without_one_none(tmp_path):
    path = tmp_path / "order"
    assert read_order(str(path)) is None
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    assert read_order(str(path)) is None
    write_order(descriptor, 7)
    write_order(descriptor, 2**40)
    os.close(descriptor)
    assert read_order(str(path)) == 2**40


# what a worker may name


def test_a_file_in_the_spool_folder_is_found(spool):
    (spool / "fetched-1").write_text("x")
    assert spool_file(spool, "fetched-1") == spool / "fetched-1"


def link_out(spool):
    (spool / "link").symlink_to(spool.parent / "secret")
    return "link"


def link_inside(spool):
    (spool / "real").write_text("x")
    (spool / "link").symlink_to(spool / "real")
    return "link"


def dangling(spool):
    (spool / "link").symlink_to(spool / "nowhere")
    return "link"


def fifo(spool):
    os.mkfifo(spool / "fifo")
    return "fifo"


def in_a_folder(spool):
    (spool / "folder").mkdir()
    (spool / "folder" / "x").write_text("x")
    return "folder/x"


def folder(spool):
    (spool / "folder").mkdir()
    return "folder"


BAD_NAMES = [
    pytest.param("../secret", id="one up"),
    pytest.param("../spool/../secret", id="up by a detour"),
    pytest.param(lambda spool: str(spool.parent / "secret"), id="absolute"),
    pytest.param("/etc/passwd", id="far away"),
    pytest.param(link_out, id="a symlink out"),
    pytest.param(link_inside, id="a symlink inside"),
    pytest.param(dangling, id="a dangling symlink"),
    pytest.param(fifo, id="a fifo"),
    pytest.param(in_a_folder, id="in a folder"),
    pytest.param(folder, id="a folder"),
    pytest.param("..", id="the folder above"),
    pytest.param(".", id="the spool folder"),
    pytest.param("", id="no name"),
    pytest.param("nothing", id="no such file"),
    pytest.param("a\0b", id="a NUL character"),
    pytest.param(None, id="null"),
    pytest.param(5, id="a number"),
    pytest.param(["result.json"], id="an array"),
    pytest.param("a" * 10_000, id="a name no file can have"),
]


def named(name, spool):
    """What a worker names: as it stands above, or made in this spool folder first."""
    return name(spool) if callable(name) else name


@pytest.mark.parametrize("name", BAD_NAMES[:-1])
def test_anything_else_is_no_file_of_the_worker_s(spool, name):
    given = named(name, spool)
    with pytest.raises(ValueError) as refusal:
        spool_file(spool, given)
    assert str(refusal.value) == f"a worker named {given!r}, which is no file in its spool folder"


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize(
    "outcome",
    [
        lambda name: {"outcome": "Spooled", "file": name},
        lambda name: {"outcome": "Returned", "result": None, "spool_file": name or "", "usage": {}},
    ],
    ids=["as its outcome", "as its result"],
)
def test_an_outcome_in_such_a_file_is_not_read(spool, name, outcome):
    with pytest.raises(ValueError):
        decode_outcome(bson.encode(outcome(named(name, spool))), spool)


# what a worker may send

SENT_USAGE = {"run_s": 1.0, "cpu_s": None, "peak_rss_mb": None}
SENT_RETURNED = {"outcome": "Returned", "result": None, "spool_file": None, "usage": SENT_USAGE}
SENT_ERROR = {"message": "m", "type": None, "traceback": None, "code": None}
SENT_RAISED = {
    "outcome": "Raised",
    "kind": "exception",
    "error": SENT_ERROR,
    "retry_in_s": None,
    "usage": SENT_USAGE,
}


def test_the_samples_below_are_sound_but_for_what_is_wrong_with_them(spool):
    for sample in (SENT_RETURNED, SENT_RAISED):
        decode_outcome(bson.encode(sample), spool)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"nonsense of some length",
        b"\x05\x00\x00\x00\x00",
        b"\xff\xff\xff\x7f\x00",
        bson.encode(SENT_RETURNED)[:-3],
        bson.encode(SENT_RETURNED) + b"\x00",
        bson.encode({"outcome": "Exploded", "usage": SENT_USAGE}),
        bson.encode({"outcome": None, "usage": SENT_USAGE}),
        bson.encode({"outcome": "Returned"}),
        bson.encode({**SENT_RETURNED, "usage": "none"}),
        bson.encode({**SENT_RETURNED, "usage": {"gpu_s": 1}}),
        bson.encode({**SENT_RAISED, "kind": "shrug"}),
        bson.encode({**SENT_RAISED, "error": None}),
        bson.encode({**SENT_RAISED, "error": {"message": "m", "because": "x"}}),
        bson.encode({**SENT_RAISED, "error": {}}),
        bson.encode({"outcome": "Stopped", "error": "x", "usage": SENT_USAGE}),
    ],
)
def test_bytes_that_are_no_outcome_are_a_value_error(spool, data):
    with pytest.raises(ValueError):
        decode_outcome(data, spool)


@pytest.mark.parametrize(
    "sent",
    [
        {**SENT_RETURNED, "result": "text"},
        {**SENT_RETURNED, "result": 5},
        {**SENT_RETURNED, "result": b"no document"},
        {**SENT_RETURNED, "usage": {**SENT_USAGE, "run_s": "long"}},
        {**SENT_RETURNED, "usage": {**SENT_USAGE, "cpu_s": {}}},
        {**SENT_RAISED, "retry_in_s": "soon"},
        {**SENT_RAISED, "kind": "lost"},
        {**SENT_RAISED, "error": {**SENT_ERROR, "message": 5}},
    ],
)
def test_an_outcome_with_a_field_of_a_wrong_type_is_a_value_error(spool, sent):
    with pytest.raises(ValueError):
        decode_outcome(bson.encode(sent), spool)


def test_an_outcome_file_that_names_itself_is_refused(spool):
    (spool / "outcome.bson").write_bytes(bson.encode({"outcome": "Spooled", "file": "outcome.bson"}))
    with pytest.raises(ValueError):
        decode_outcome(bson.encode({"outcome": "Spooled", "file": "outcome.bson"}), spool)


@given(st.binary(max_size=200))
def test_random_bytes_never_raise_anything_but_a_value_error(tmp_path_factory, data):
    with pytest.raises(ValueError):
        decode_outcome(data, tmp_path_factory.getbasetemp())


# messages


@pytest.mark.parametrize("message", [{}, {"started": True}, {"log": {"event": "ä" * 100}}, {"request": 1, "x": b"\0"}])
def test_a_message_is_its_length_and_a_document(message):
    framed = frame(message)
    assert frame_length(framed[:LENGTH_BYTES]) == len(framed) - LENGTH_BYTES
    assert bson.decode(framed[LENGTH_BYTES:]) == message


def test_a_message_too_large_for_the_channel_is_refused_at_both_ends():
    overhead = len(bson.encode({"x": b""}))
    assert len(frame({"x": b"x" * (MAX_MESSAGE_BYTES - overhead)})) == MAX_MESSAGE_BYTES + LENGTH_BYTES
    with pytest.raises(ValueError, match=f"a message of {MAX_MESSAGE_BYTES + 1} bytes is too large"):
        frame({"x": b"x" * (MAX_MESSAGE_BYTES - overhead + 1)})
    assert frame_length(struct.pack("<I", MAX_MESSAGE_BYTES)) == MAX_MESSAGE_BYTES
    for length in (MAX_MESSAGE_BYTES + 1, 2**32 - 1):
        with pytest.raises(ValueError, match=f"a worker announced a message of {length} bytes"):
            frame_length(struct.pack("<I", length))
