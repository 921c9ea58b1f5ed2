"""What the ocr handler must not read: bad documents, bombs, and paths that lead elsewhere."""

import importlib.util
import os
import resource
import shutil
import time

import pytest
from PIL import Image

from handlers import ocr as handler_module
from handlers._ocr.payload import OcrPayload
from handlers.ocr import ocr
from supervisor import PermanentError
from tests.support import documents
from tests.support.context import LocalLink, make_context
from tests.support.ocr_run import LINES, code_of, run, run_path


@pytest.fixture
def root(tmp_path):
    directory = tmp_path / "root"
    directory.mkdir()
    return directory


@pytest.fixture
def link(tmp_path):
    return LocalLink(tmp_path)


class TestRefusals:
    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (b"", "corrupt_file"),
            (b"PK\x03\x04 a zip, such as a docx is", "unsupported_type"),
            (b"GIF89a" + bytes(50), "unsupported_type"),
            (b"\x80\x04\x95cos\nsystem\n", "unsupported_type"),
            (b"%PDF-1.3\nThis is not a valid PDF file\n%%EOF", "corrupt_file"),
            (b"\x89PNG\r\n\x1a\n" + bytes(30), "corrupt_file"),
            (b"\xff\xd8\xff\xe0" + bytes(30), "corrupt_file"),
            (b"II*\x00" + b"\xff" * 30, "corrupt_file"),
            (documents.text_pdf([["cut"]])[:60], "corrupt_file"),
            (documents.encoded(documents.picture(LINES), "JPEG")[:9000], "corrupt_file"),
            (documents.encoded(documents.picture(LINES), "PNG")[:3000], "corrupt_file"),
            (documents.png_of_size(60_000, 60_000), "too_many_pixels"),
            (documents.png_of_size(40_000, 10), "too_many_pixels"),
            (documents.png_of_size(30_000, 2_000), "too_many_pixels"),
            (documents.text_pdf([["poster"]], size=(14_400, 14_400)), "too_many_pixels"),
            (documents.text_pdf([[]] * 201), "too_many_pages"),
        ],
        ids=[
            "empty", "zip", "gif", "pickle", "no pdf", "no png", "no jpeg", "no tiff", "cut pdf", "cut jpeg",
            "cut png", "60k x 60k png", "long side", "60 megapixels", "huge pdf page", "201 pages",
        ],
    )  # fmt: skip
    def test_a_bad_document_is_refused_within_seconds_and_little_memory(self, data, code, link):
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        assert code_of(run, link, data) == code
        assert time.monotonic() - started < 5
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB

    def test_a_real_picture_30_000_pixels_wide_is_refused_before_it_is_decoded(self, link):
        wide = documents.encoded(Image.new("1", (30_000, 1_400), 1), "PNG")
        assert len(wide) < 100_000
        assert code_of(run, link, wide) == "too_many_pixels"

    def test_a_picture_bomb_within_a_pdf_page_of_common_size_is_refused(self, link):
        bomb = documents.scan_pdf([Image.new("1", (20_000, 20_000), 1)], dpi=2400)
        assert code_of(run, link, bomb) == "too_many_pixels"

    def test_a_tiff_whose_directories_run_in_a_circle_ends(self, link):
        assert run(link, documents.looping_tiff())["document"]["pages_total"] == 2

    def test_a_large_pdf_is_read_in_parts(self, link):
        result = run(link, documents.text_pdf([[]] * 201), pages="200-")
        assert [page["number"] for page in result["pages"]] == [200, 201]

    def test_pages_past_the_end_are_not_found(self, link):
        assert code_of(run, link, documents.text_pdf([[]]), pages="7") == "not_found"

    def test_a_file_over_the_limit_is_refused_while_it_streams(self, link, root):
        data = documents.encoded(documents.picture(LINES), "BMP")
        assert code_of(run, link, data, settings={"max_file_mb": 0.5}) == "file_too_large"
        (root / "page.bmp").write_bytes(data)
        assert code_of(run_path, link, "page.bmp", [root], max_file_mb=0.5) == "file_too_large"

    def test_a_missing_stored_file_is_not_found(self, link):
        assert code_of(ocr, OcrPayload(source={"file_id": "gone"}), make_context(link, "ocr")) == "not_found"

    def test_wrong_settings_are_refused_before_anything_is_opened(self, link):
        assert code_of(run_path, link, "/etc/passwd", ["/"], max_filemb=1) == "settings"

    def test_a_language_without_data_is_refused_naming_its_package(self, link):
        with pytest.raises(PermanentError, match="apt install tesseract-ocr-xyz") as caught:
            run(link, documents.encoded(documents.picture(LINES), "PNG"), languages=["eng", "xyz"])
        assert caught.value.code == "language_missing"

    @pytest.mark.parametrize("engine", ["auto", "tesserocr", "tesseract", "rapidocr"])
    def test_without_an_engine_the_error_says_what_to_install(self, engine, link, tmp_path, monkeypatch):
        monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))
        monkeypatch.setenv("PATH", str(tmp_path))
        if engine in ("auto", "rapidocr") and importlib.util.find_spec("rapidocr"):
            pytest.skip("rapidocr is installed")
        with pytest.raises(PermanentError) as caught:
            run(link, documents.encoded(documents.picture(LINES), "PNG"), engine=engine)
        assert caught.value.code == "no_ocr_engine"
        assert "pip install 'mongo-job-supervisor[ocr]'" in str(caught.value)
        assert "apt install tesseract-ocr-eng" in str(caught.value)
        assert "apt install tesseract-ocr`" in str(caught.value)

    def test_preloading_without_data_is_no_error(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))
        handler_module.preload()


class TestPaths:
    @pytest.fixture
    def secret(self, tmp_path):
        path = tmp_path / "secret.png"
        path.write_bytes(documents.encoded(documents.picture(["canary"]), "PNG"))
        return path

    def test_a_file_under_a_root_is_read_by_absolute_and_by_relative_path(self, link, root):
        (root / "in").mkdir()
        (root / "in" / "page.png").write_bytes(documents.encoded(documents.picture(LINES[:1]), "PNG"))
        for path in (root / "in" / "page.png", "in/page.png", "in/../in/page.png"):
            assert run_path(link, path, ["/nonexistent", root])["text"] == LINES[0]

    def test_no_root_means_no_path(self, link, secret):
        assert code_of(run_path, link, secret, []) == "path_not_allowed"

    @pytest.mark.parametrize(
        "path",
        [
            "../secret.png", "{root}/../secret.png", "{secret}", "../../../../../../etc/passwd", "/etc/passwd",
            "/dev/zero", "/proc/self/environ", "/nonexistent", "file:///etc/passwd", "file://{secret}",
            "http://169.254.169.254/latest/meta-data/", "link.png", "linked/secret.png", "loop", "fifo", ".", "folder",
            "page.png\x00.txt", "{root}", "{root}sibling/secret.png", "x/" * 2000,
        ],
    )  # fmt: skip
    def test_a_path_that_leads_elsewhere_is_refused_and_not_opened(self, path, link, root, secret):
        (root / "folder").mkdir()
        (root / "link.png").symlink_to(secret)
        (root / "linked").symlink_to(secret.parent)
        (root / "loop").symlink_to(root / "loop")
        os.mkfifo(root / "fifo")
        sibling = root.parent / "rootsibling"
        sibling.mkdir()
        shutil.copy(secret, sibling)
        os.utime(secret, (1, 1))
        with pytest.raises(PermanentError) as caught:
            run_path(link, path.format(root=root, secret=secret), [root])
        assert caught.value.code in {"path_not_allowed"} | ({"not_found"} if path.startswith("x/") else set())
        assert secret.stat().st_atime == 1
        assert "secret" not in str(caught.value)

    def test_a_missing_file_inside_is_not_found(self, link, root):
        assert code_of(run_path, link, "gone.png", [root]) == "not_found"

    def test_a_link_that_stays_inside_is_followed(self, link, root):
        (root / "page.png").write_bytes(documents.encoded(documents.picture(LINES[:1]), "PNG"))
        (root / "alias.png").symlink_to(root / "page.png")
        assert run_path(link, "alias.png", [root])["text"] == LINES[0]
