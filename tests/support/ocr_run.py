"""Runs the ocr handler as a job would, on an uploaded file or on a path."""

import pytest

from handlers._ocr.payload import OcrPayload
from handlers.ocr import ocr
from supervisor import PermanentError
from tests.support.context import make_context

LINES = ("Minutes of the harbour council", "The meeting was opened at noon", "All members were present")


def run(link, data, *, settings=None, seconds_left=600.0, **fields):
    """Run the handler on `data` as an uploaded file."""
    file_id = link.save_file("upload", data)
    payload = OcrPayload(source={"file_id": file_id}, **fields)
    return ocr(payload, make_context(link, "ocr", settings=settings, seconds_left=seconds_left))


def run_path(link, path, roots, **settings):
    """Run the handler on `source.path`."""
    context = make_context(link, "ocr", settings={"roots": [str(root) for root in roots], **settings})
    return ocr(OcrPayload(source={"path": str(path)}), context)


def code_of(work, *arguments, **fields):
    """Return the code of the PermanentError that `work` must end with."""
    with pytest.raises(PermanentError) as caught:
        work(*arguments, **fields)
    return caught.value.code
