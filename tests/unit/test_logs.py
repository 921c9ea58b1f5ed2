"""What libraries log: one entry in the supervisor, their own text in a worker."""

import io
import json
import logging

import pytest
import structlog

from supervisor import logs


@pytest.fixture
def stream():
    handlers = logging.root.handlers[:]
    yield io.StringIO()
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers


def complain():
    try:
        int("two\nlines")
    except ValueError:
        logging.getLogger("some.library").exception("background task: %s", "failed")


def test_what_a_library_logs_is_one_entry_also_with_a_traceback(stream):
    logs.configure("info", "json", stream)
    complain()
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert (entry["event"], entry["library"], entry["message"], entry["error"]) == (
        "library.message",
        "some.library",
        "background task: failed",
        r"ValueError: invalid literal for int() with base 10: 'two\nlines'",
    )


def test_in_a_worker_it_is_text_with_the_traceback_for_the_output_of_the_job(stream):
    logs.configure("info", "json", stream, libraries_as_text=True)
    complain()
    assert stream.getvalue().startswith("ERROR:some.library:background task: failed\nTraceback ")
