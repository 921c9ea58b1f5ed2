"""Real scans, beside the repository and not in it: how well the default engine reads them."""

from pathlib import Path

import pytest

from handlers._ocr.payload import OcrPayload
from handlers.ocr import ocr
from supervisor import PermanentError
from tests.support.context import LocalLink, make_context
from tests.support.ocr_score import line_error

SAMPLES = Path(__file__).resolve().parents[2].parent / "shared" / "samples"
MOST_ERRORS = 0.015

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"the sample scans are not at {SAMPLES}")


def read(name, tmp_path, **fields):
    payload = OcrPayload(source={"path": str(SAMPLES / name)}, **fields)
    return ocr(payload, make_context(LocalLink(tmp_path), "ocr", settings={"roots": [str(SAMPLES)]}))


def test_the_mean_error_over_the_lines_of_all_scans_is_at_most_1_5_percent(tmp_path):
    documents = {truth.name.rsplit(".p", 1)[0] for truth in (SAMPLES / "gt").glob("*.p*.txt")}
    errors = {}
    for file in sorted(file for file in SAMPLES.iterdir() if file.stem in documents):
        result = read(file.name, tmp_path, mode="force")
        for page in result["pages"]:
            truth = (SAMPLES / "gt" / f"{file.stem}.p{page['number']}.txt").read_text(encoding="utf-8")
            text = result["text"][page["offset"] : page["offset"] + page["length"]]
            errors[f"{file.stem} page {page['number']}"] = line_error(truth, text)
    assert len(errors) >= 9
    assert sum(errors.values()) / len(errors) <= MOST_ERRORS, errors


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("neg_encrypted.pdf", "encrypted_pdf"),
        ("neg_invalid.pdf", "corrupt_file"),
        ("neg_hugemono.pdf", "too_many_pixels"),
    ],
)
def test_a_document_that_cannot_be_read_fails_with_its_code(name, code, tmp_path):
    with pytest.raises(PermanentError) as caught:
        read(name, tmp_path)
    assert caught.value.code == code


def test_a_password_opens_an_encrypted_document(tmp_path):
    result = read("neg_encrypted.pdf", tmp_path, password="openpassword")
    assert result["chars"] > 0
    assert "openpassword" not in str(result)


def test_a_stamp_over_a_scan_does_not_pass_for_its_text(tmp_path):
    result = read("court_scan_2p.pdf", tmp_path, pages="1")
    assert result["pages"][0]["source"] == "ocr"
    assert "DONALD W. CARLSON" in result["text"]
