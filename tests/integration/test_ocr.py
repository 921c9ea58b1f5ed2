"""The ocr handler on documents made here, with the engines that are installed."""

import hashlib
import json
import multiprocessing
import signal
import tempfile
import time
from pathlib import Path

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
from tests.support.ocr_run import LINES, run
from tests.support.ocr_score import line_error


@pytest.fixture
def link(tmp_path):
    return LocalLink(tmp_path)


@pytest.fixture(scope="session")
def sample_page(tmp_path_factory):
    path = tmp_path_factory.mktemp("sample") / "sample.png"
    return path, sample.make_sample(path)


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
    with tempfile.TemporaryDirectory() as folder:  # its own: the other worker would write to the same names
        pdf = run(LocalLink(Path(folder)), documents.text_pdf([TestPdf.LONG]))
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

    def test_sixteen_bits_are_not_clipped_to_white(self, link):
        deep = documents.picture(LINES).convert("I").point(lambda value: value * 240 + 2000).convert("I;16")
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
