"""The ocr handler on documents made here, with the engines that are installed."""

import hashlib
import importlib.util
import json
import multiprocessing
import os
import resource
import shutil
import signal
import time

import bson
import pytest
from PIL import Image, ImageChops

from handlers import ocr as handler_module
from handlers._ocr import sample
from handlers._ocr.engines import Word, lay_out
from handlers._ocr.pages import has_ink
from handlers._ocr.payload import OcrPayload
from handlers.ocr import ocr
from supervisor import JobTimeout, PermanentError
from tests.support import documents
from tests.support.context import LocalLink, make_context
from tests.support.ocr_score import line_error

LINES = ("Minutes of the harbour council", "The meeting was opened at noon", "All members were present")


@pytest.fixture
def root(tmp_path):
    directory = tmp_path / "root"
    directory.mkdir()
    return directory


@pytest.fixture
def link(tmp_path):
    return LocalLink(tmp_path)


@pytest.fixture(scope="session")
def sample_page(tmp_path_factory):
    path = tmp_path_factory.mktemp("sample") / "sample.png"
    return path, sample.make_sample(path)


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


class TestReading:
    @pytest.mark.parametrize("engine", ["tesserocr", "tesseract", "rapidocr"])
    def test_the_sample_page_is_read_with_few_errors(self, engine, sample_page, link):
        if engine == "rapidocr":
            pytest.importorskip("rapidocr", reason="the more accurate engine is not installed")
        path, truth = sample_page
        result = run(link, path.read_bytes(), engine=engine)
        assert line_error(truth, result["text"]) <= 0.015
        assert result["engine"]["name"] == engine
        for exact in ("GB82 WEST 1234 5698 7654 32", "INV-2025-004187", "12.5%", "EUR 2,598.07", "07:45"):
            assert exact in result["text"]

    def test_the_sample_is_the_same_picture_every_time(self, sample_page, tmp_path):
        path, _ = sample_page
        sample.make_sample(tmp_path / "again.png")
        assert (tmp_path / "again.png").read_bytes() == path.read_bytes()

    def test_the_result_has_the_documented_shape_and_bson_takes_it(self, link):
        data = documents.encoded(documents.picture(LINES), "PNG", dpi=(200, 200))
        result = run(link, data)
        assert bson.decode(bson.encode(result)) == result
        assert list(result) == [
            "schema", "document", "engine", "text", "chars", "mean_confidence", "pages", "warnings", "words_file",
            "seconds",
        ]  # fmt: skip
        assert result["schema"] == "ocr/1"
        assert result["document"] == {
            "sha256": hashlib.sha256(data).hexdigest(), "mime": "image/png", "bytes": len(data), "pages_total": 1,
        }  # fmt: skip
        assert set(result["engine"]) == {"name", "version", "library", "languages", "settings", "preloaded"}
        assert set(result["seconds"]) == {"fetch", "raster", "ocr"}
        page = result["pages"][0]
        assert list(page) == [
            "number", "source", "offset", "length", "width", "height", "dpi", "rotation", "deskew", "confidence",
            "seconds", "warnings",
        ]  # fmt: skip
        assert (page["source"], page["dpi"], page["width"], page["height"]) == ("ocr", 200, 1240, 700)
        assert 0.8 < page["confidence"] <= 1
        assert result["mean_confidence"] == pytest.approx(page["confidence"], abs=1e-3)
        assert result["words_file"] is None

    def test_every_word_box_names_its_text_and_holds_its_ink(self, link):
        image = documents.picture(LINES)
        result = run(link, documents.encoded(image, "PNG"), words=True)
        words = json.loads(link.files[result["words_file"]].read_text())
        assert words["columns"] == ["start", "end", "left", "top", "right", "bottom", "confidence"]
        texts = [result["text"][row[0] : row[1]] for row in words["pages"][0]["words"]]
        assert texts == " ".join(LINES).split()
        for _, _, left, top, right, bottom, confidence in words["pages"][0]["words"]:
            assert image.crop((left, top, right, bottom)).getextrema()[0] < 64
            assert 0 <= confidence <= 1

    def test_progress_is_reported_for_every_page(self, link):
        pages = [documents.picture([line]) for line in LINES]
        run(link, documents.scan_pdf(pages))
        assert [(done, total) for done, total, _ in link.progress] == [(0, 3), (1, 3), (2, 3), (3, 3)]

    def test_pages_are_where_their_offsets_say(self, link):
        result = run(link, documents.scan_pdf([documents.picture([line]) for line in LINES]), pages="1,3")
        assert result["text"] == f"{LINES[0]}\f\n{LINES[2]}"
        assert [(page["number"], page["offset"], page["length"]) for page in result["pages"]] == [
            (1, 0, len(LINES[0])),
            (3, len(LINES[0]) + 2, len(LINES[2])),
        ]
        assert result["document"]["pages_total"] == 3

    def test_an_api_opened_beforehand_is_used_in_forked_workers(self, link):
        handler_module.preload()
        file_id = link.save_file("upload", documents.encoded(documents.picture(LINES), "PNG"))
        context = multiprocessing.get_context("fork")
        results = context.SimpleQueue()
        workers = [context.Process(target=_read_in_worker, args=(link, file_id, results)) for _ in range(2)]
        for worker in workers:
            worker.start()
        seen = [results.get() for _ in workers]
        for worker in workers:
            worker.join(30)
        assert seen == [(True, "\n".join(LINES))] * 2


def _read_in_worker(link, file_id, results):
    picture = ocr(OcrPayload(source={"file_id": file_id}, engine="tesserocr"), make_context(link, "ocr"))
    pdf = run(LocalLink(link.directory), documents.text_pdf([TestPdf.LONG]))
    assert pdf["text"].splitlines() == list(TestPdf.LONG)
    results.put((picture["engine"]["preloaded"], picture["text"].replace("\n\n", "\n")))


class TestPdf:
    LONG = tuple(f"Line {number} of a text that was never a picture" for number in range(12))

    def test_a_text_layer_is_taken_as_it_is(self, link):
        result = run(link, documents.text_pdf([self.LONG]))
        assert result["text"].splitlines() == list(self.LONG)
        assert result["pages"][0]["source"] == "text_layer"
        assert result["pages"][0]["confidence"] is None
        assert result["engine"]["name"] == "text_layer"

    def test_force_reads_the_picture_of_a_text_layer(self, link):
        result = run(link, documents.text_pdf([self.LONG]), mode="force")
        assert result["pages"][0]["source"] == "ocr"
        assert line_error("\n".join(self.LONG), result["text"]) <= 0.015

    def test_text_layer_only_reads_no_picture(self, link):
        result = run(link, documents.scan_pdf([documents.picture(LINES)]), mode="text_layer_only")
        assert (result["text"], result["pages"][0]["source"]) == ("", "empty")
        assert result["warnings"][0].startswith("page 1: no_text_layer: ")

    def test_a_short_text_layer_is_checked_against_the_picture(self, link):
        result = run(link, documents.text_pdf([["Annex 7"]]))
        assert (result["text"], result["pages"][0]["source"]) == ("Annex 7", "ocr")

    def test_a_blank_page_is_empty_without_a_warning(self, link):
        result = run(link, documents.text_pdf([[]]))
        assert (result["text"], result["pages"][0]["source"], result["warnings"]) == ("", "empty", [])
        assert result["mean_confidence"] is None

    def test_a_password_opens_an_encrypted_pdf_and_stays_out_of_the_result(self, link):
        data = documents.text_pdf([self.LONG], password="s3cret-word")
        result = run(link, data, password="s3cret-word")
        assert result["text"].splitlines() == list(self.LONG)
        assert "s3cret-word" not in repr(result)

    @pytest.mark.parametrize("password", [None, "wr0ng-word"])
    def test_without_its_password_an_encrypted_pdf_is_refused(self, password, link):
        with pytest.raises(PermanentError) as caught:
            run(link, documents.text_pdf([self.LONG], password="s3cret-word"), password=password)
        assert caught.value.code == "encrypted_pdf"
        assert "word" not in str(caught.value).replace("password", "")

    def test_a_large_page_is_read_at_a_lower_resolution(self, link):
        data = documents.text_pdf([["Annex 7"]], size=(2000, 1000))
        page = run(link, data, settings={"max_megapixels": 4}, mode="force")["pages"][0]
        assert page["width"] * page["height"] <= 4_100_000
        assert 70 <= page["dpi"] < 300
        assert page["warnings"][0].startswith("dpi_lowered: ")


class TestPictures:
    def test_transparency_is_white(self, link):
        ink = documents.picture(LINES).point(lambda value: 255 - value)
        image = Image.new("RGBA", ink.size, (0, 0, 0, 0))
        image.putalpha(ink)
        assert line_error("\n".join(LINES), run(link, documents.encoded(image, "PNG"))["text"]) == 0

    def test_exif_orientation_is_applied(self, link):
        exif = Image.Exif()
        exif[0x0112] = 6  # shown after a quarter turn clockwise
        turned = documents.picture(LINES).transpose(Image.Transpose.ROTATE_90)
        result = run(link, documents.encoded(turned, "JPEG", exif=exif, quality=90))
        assert line_error("\n".join(LINES), result["text"]) == 0
        assert (result["pages"][0]["width"], result["pages"][0]["rotation"]) == (1240, 0)

    def test_every_page_of_a_tiff_is_read(self, link):
        first, *rest = (documents.picture([line]) for line in LINES[:2])
        result = run(link, documents.encoded(first, "TIFF", save_all=True, append_images=rest))
        assert result["text"] == "\f\n".join(LINES[:2])
        assert result["document"]["mime"] == "image/tiff"

    def test_a_scanner_of_twelve_bits_in_sixteen_is_not_read_as_black(self, link):
        deep = documents.picture(LINES).convert("I").point(lambda value: value * 16).convert("I;16")
        assert line_error("\n".join(LINES), run(link, documents.encoded(deep, "PNG"))["text"]) == 0

    @pytest.mark.parametrize("engine", ["tesserocr", "tesseract"])
    @pytest.mark.parametrize("clockwise", [90, 180, 270])
    def test_a_page_on_its_side_is_turned(self, clockwise, engine, link):
        lines = sample.LINES[13:24]
        turned = documents.picture(lines, size=(1500, 800)).rotate(-clockwise, expand=True)
        result = run(link, documents.encoded(turned, "PNG", dpi=(200, 200)), engine=engine)
        assert line_error("\n".join(lines), result["text"]) <= 0.015
        assert result["pages"][0]["rotation"] == 360 - clockwise

    @pytest.mark.parametrize("engine", ["tesserocr", "tesseract"])
    def test_a_page_in_deep_shade_is_read_to_its_dark_edge(self, engine, link):
        """One threshold for the whole page loses its dark part, six characters of ten, with confidence 0.95."""
        lines = sample.LINES[13:24]
        ink = documents.picture(lines, size=(1500, 800)).point(lambda value: 90 + value * 165 // 255)
        shade = Image.linear_gradient("L").resize((1500, 800)).transpose(Image.Transpose.ROTATE_90).resize(ink.size)
        scan = ImageChops.multiply(ink, shade.point(lambda value: 100 + value * 155 // 255))
        result = run(link, documents.encoded(scan, "PNG", dpi=(200, 200)), engine=engine)
        assert line_error("\n".join(lines), result["text"]) <= 0.15

    def test_a_slanted_page_is_levelled(self, link):
        slanted = documents.picture(LINES * 3, size=(1240, 1000)).rotate(4, Image.Resampling.BICUBIC, fillcolor=255)
        result = run(link, documents.encoded(slanted, "PNG", dpi=(200, 200)))
        assert line_error("\n".join(LINES), result["text"]) == 0
        assert result["pages"][0]["deskew"] == pytest.approx(-4, abs=0.5)

    def test_ink_without_text_is_a_warning_and_not_a_success(self, link):
        drawing = Image.new("L", (1000, 700), 255)
        drawing.paste(0, (480, 340, 520, 350))
        result = run(link, documents.encoded(drawing, "PNG"))
        page = result["pages"][0]
        assert (page["source"], page["confidence"]) == ("ocr", None) or page["confidence"] < 0.6
        assert any("unread_ink" in warning or "low_confidence" in warning for warning in result["warnings"])

    def test_a_shaded_blank_page_has_no_ink_and_a_shaded_page_has(self):
        shade = Image.linear_gradient("L").resize((1240, 700))
        assert not has_ink(shade)
        text = documents.picture(["note"])
        assert has_ink(Image.composite(shade, Image.new("L", shade.size, 0), text.point(lambda value: value)))


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


class TestTime:
    @pytest.mark.parametrize("engine", ["tesserocr", "tesseract"])
    def test_a_page_out_of_time_is_a_warning_and_the_rest_is_read(self, engine, sample_page, link):
        path, _ = sample_page
        result = run(link, path.read_bytes(), engine=engine, settings={"page_timeout_s": 0.05})
        assert result["warnings"][0].startswith("page 1: page_timeout: not read to its end within 0.05 s")

    @pytest.mark.parametrize("engine", ["tesserocr", "tesseract"])
    def test_the_time_limit_interrupts_the_engine_at_once(self, engine, sample_page, link):
        path, _ = sample_page

        def stop(number, frame):
            raise JobTimeout

        before = signal.signal(signal.SIGALRM, stop)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.7)
            started = time.monotonic()
            with pytest.raises(JobTimeout):
                run(link, path.read_bytes(), engine=engine, pages="1", mode="force")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert time.monotonic() - started < 3
        after = run(link, documents.encoded(documents.picture(LINES[:1]), "PNG"), engine=engine)
        assert after["text"] == LINES[0]


def test_words_are_laid_out_in_lines_and_paragraphs_with_their_spans():
    words = [Word(text, (0, 0, 1, 1), 1.0, line) for text, line in [
        ("a", (1, 1, 1)), ("b\u00e9", (1, 1, 1)), ("c", (1, 1, 2)), ("d\ud800", (1, 2, 1)),
    ]]  # fmt: skip
    text, spans = lay_out(words)
    assert text == "a b\u00e9\nc\n\nd\ufffd"
    assert [text[start:end] for start, end in spans] == ["a", "b\u00e9", "c", "d\ufffd"]


def test_pillows_own_limit_is_put_back(link):
    before = Image.MAX_IMAGE_PIXELS
    run(link, documents.encoded(documents.picture(LINES[:1]), "PNG"))
    assert before == Image.MAX_IMAGE_PIXELS
