"""What an ocr payload and the handler's settings refuse, and in which words."""

import subprocess
import sys

import pytest

import handlers.ocr
from handlers._ocr.payload import OcrPayload
from handlers._ocr.settings import read_settings
from supervisor import PermanentError
from supervisor.errors import PayloadError
from supervisor.registry import REGISTRY

SOURCE = {"file_id": "f1"}


def refusal(payload):
    with pytest.raises(PayloadError) as caught:
        REGISTRY.get("ocr").parse_payload(payload)
    return str(caught.value)


def test_the_handler_is_registered_with_its_limits():
    spec = REGISTRY.get("ocr")
    assert spec.function is handlers.ocr.ocr
    assert (spec.timeout_s, spec.memory_limit_mb, spec.takes_context) == (600, 1500, True)


def test_a_source_alone_is_enough():
    payload = REGISTRY.get("ocr").parse_payload({"source": SOURCE})
    assert payload.model_dump() == {
        "source": {"file_id": "f1", "path": None},
        "engine": "auto",
        "languages": ["eng"],
        "pages": None,
        "mode": "auto",
        "dpi": 300,
        "password": None,
        "words": False,
    }


@pytest.mark.parametrize(
    ("payload", "field", "said"),
    [
        ({}, "source", "Field required"),
        ({"source": {}}, "source", "exactly one of file_id and path"),
        ({"source": {"file_id": "f1", "path": "/a"}}, "source", "exactly one of file_id and path"),
        ({"source": {"url": "http://169.254.169.254/"}}, "source.url", "Extra inputs are not permitted"),
        ({"source": {"file_id": {"$ne": None}}}, "source.file_id", "a stored file's id is one value, not a dict"),
        ({"source": {"path": ""}}, "source.path", "at least 1 character"),
        ({"source": SOURCE, "engine": "os.system"}, "engine", "'auto', 'tesserocr', 'tesseract' or 'rapidocr'"),
        ({"source": SOURCE, "mode": "both"}, "mode", "'auto', 'force' or 'text_layer_only'"),
        ({"source": SOURCE, "languages": []}, "languages", "at least 1 item"),
        ({"source": SOURCE, "languages": ["../eng"]}, "languages.0", "is not a language"),
        ({"source": SOURCE, "languages": ["eng+deu"]}, "languages.0", "is not a language"),
        ({"source": SOURCE, "languages": ["osd"]}, "languages.0", "is not a language"),
        ({"source": SOURCE, "languages": ["-psm"]}, "languages.0", "is not a language"),
        ({"source": SOURCE, "pages": "0"}, "pages", "'0' is not a page or a range"),
        ({"source": SOURCE, "pages": "1,,2"}, "pages", "'' is not a page or a range"),
        ({"source": SOURCE, "pages": "5-2"}, "pages", "runs backwards"),
        ({"source": SOURCE, "dpi": 5000}, "dpi", "less than or equal to 600"),
        ({"source": SOURCE, "dpi": 1}, "dpi", "greater than or equal to 70"),
        ({"source": SOURCE, "langauges": ["eng"]}, "langauges", "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_payload_is_refused_naming_the_field(payload, field, said):
    message = refusal(payload)
    assert message.startswith(f"{field}: ")
    assert said in message


@pytest.mark.parametrize(
    "wrong", [{"password": ["s3cret"]}, {"password": 73137}, {"pasword": "s3cret"}, {"password": "s3cret", "dpi": 1}]
)
def test_no_refusal_shows_a_password(wrong):
    message = refusal({"source": SOURCE, **wrong})
    assert "s3cret" not in message
    assert "73137" not in message


def test_a_password_is_not_shown_by_the_payload():
    assert "s3cret" not in repr(OcrPayload(source=SOURCE, password="s3cret"))


@pytest.mark.parametrize(
    ("pages", "selected"),
    [
        (None, [1, 2, 3, 4, 5]),
        ("1-10", [1, 2, 3, 4, 5]),
        ("4-", [4, 5]),
        ("5, 1-2,2", [1, 2, 5]),
        ("3", [3]),
        ("7-9", []),
        ("1-999999999", [1, 2, 3, 4, 5]),
    ],
)
def test_pages_selects_what_the_document_has(pages, selected):
    assert OcrPayload(source=SOURCE, pages=pages).select(5) == selected


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"max_file_mb": 0}, "max_file_mb: Input should be greater than 0"),
        ({"max_pages": "many"}, "max_pages: Input should be a valid integer"),
        ({"root": ["/srv"]}, "root: Extra inputs are not permitted"),
        ({"roots": ["scans"]}, "roots.0: a root must be an absolute path"),
    ],
)
def test_wrong_settings_are_named(table, said):
    with pytest.raises(PermanentError) as caught:
        read_settings(table)
    assert caught.value.code == "settings"
    assert said in str(caught.value)


def test_the_limits_have_the_documented_defaults():
    assert read_settings({}).model_dump() == {
        "roots": [],
        "max_file_mb": 50,
        "max_pages": 200,
        "max_megapixels": 40,
        "page_timeout_s": 60,
        "min_dpi": 70,
    }


def test_importing_the_handler_loads_nothing_heavy():
    code = (
        "import sys, handlers.ocr; "
        "print(sorted({'PIL', 'pypdfium2', 'tesserocr', 'rapidocr', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
