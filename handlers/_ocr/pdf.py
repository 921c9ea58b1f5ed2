"""Pages of PDF files: their text layer, and their picture at a resolution that fits the limits."""

import contextlib
import ctypes
import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium
from pydantic import SecretStr

from handlers._ocr.images import MAX_SIDE_PX, PageImage, check_pixels
from handlers._ocr.settings import OcrSettings
from supervisor import PermanentError

_POINTS_PER_INCH = 72
_MAX_OBJECTS = 5_000  # forms within forms multiply; looking at their pictures must end
_ENCRYPTED = (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY)
_HYPHEN_AT_LINE_END = re.compile("[\x02\ufffe]")  # what pdfium puts for a hyphen that it joined a word over
_NOT_TEXT = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffd\ufffe\uffff]")


@dataclass(frozen=True)
class TextLayer:
    """A page's own text; `image_coverage` is the part of the page, 0 to 1, that pictures cover, sizes in points."""

    text: str
    image_coverage: float
    width: float
    height: float

    @property
    def needs_ocr(self) -> bool:
        """Whether reading the picture promises more: a scan may carry a stamp of some hundred characters."""
        chars = sum(not char.isspace() for char in self.text)
        garbled = self.text.count("\ufffd") > 0.2 * chars
        return chars < 20 or garbled or (self.image_coverage > 0.5 and chars < 400)


class PdfPages:
    """The pages of a PDF.

    Raises PermanentError `encrypted_pdf`, `corrupt_file` or `too_many_pixels`, at construction or from the methods.
    """

    def __init__(self, data: bytes, password: SecretStr | None, settings: OcrSettings) -> None:
        self._settings = settings
        self._pdf = _open(data, password)
        self._pdf.init_forms()  # what was typed into a form is part of the page
        self.pages_total = len(self._pdf)

    def close(self) -> None:
        """Free pdfium's memory now, not when the garbage collector comes by."""
        self._pdf.close()

    def text_layer(self, number: int) -> TextLayer:
        """Return the text of page `number` (from 1) and what covers it."""
        with self._page(number) as page:
            width, height = page.get_size()
            textpage = page.get_textpage()
            try:
                text = clean(textpage.get_text_bounded())
            finally:
                textpage.close()
            return TextLayer(text, _image_coverage(page), width, height)

    def render(self, number: int, dpi: int) -> PageImage:
        """Draw page `number` in grey at `dpi`, or as near below it as the limits allow."""
        with self._page(number) as page:
            fitting = self._fitting_dpi(number, page.get_size(), dpi)
            for image in _images(page):
                image_width, image_height = image.get_px_size()
                check_pixels(image_width, image_height, self._settings, f"a picture on page {number}")
            bitmap = page.render(scale=fitting / _POINTS_PER_INCH, grayscale=True)
            try:
                drawn = bitmap.to_pil().convert("L").copy()
            finally:
                bitmap.close()
        lowered = (f"dpi_lowered: read at {fitting} dpi instead of {dpi} to fit the limit",) if fitting < dpi else ()
        return PageImage(drawn, fitting, lowered)

    def _fitting_dpi(self, number: int, size: tuple[float, float], dpi: int) -> int:
        """Return the highest resolution up to `dpi` at which the page has no more pixels than allowed."""
        width, height = (max(side, 1.0) / _POINTS_PER_INCH for side in size)
        fitting = min(
            dpi,
            math.floor(math.sqrt(self._settings.max_pixels / (width * height))),
            math.floor(MAX_SIDE_PX / max(width, height)),
        )
        if fitting < min(dpi, self._settings.min_dpi):
            raise PermanentError(
                f"page {number} measures {width:.0f} x {height:.0f} inches: within "
                f"{self._settings.max_megapixels:g} megapixels that is {fitting} dpi, and under "
                f"{self._settings.min_dpi} dpi nothing can be read ([handlers.ocr.settings] max_megapixels, min_dpi)",
                code="too_many_pixels",
            )
        return fitting

    @contextlib.contextmanager
    def _page(self, number: int) -> Iterator[Any]:
        try:
            page = self._pdf[number - 1]
        except pypdfium2.PdfiumError:
            raise PermanentError(f"page {number} of the PDF is damaged", code="corrupt_file") from None
        try:
            yield page
        except (pypdfium2.PdfiumError, ctypes.ArgumentError, ValueError) as error:
            raise PermanentError(f"page {number} of the PDF is damaged: {error}", code="corrupt_file") from None
        finally:
            page.close()


def clean(text: str) -> str:
    """Return `text` with plain line ends, without form feeds (they part pages) and what BSON or UTF-8 refuse."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n").replace("\v", "\n")
    return _NOT_TEXT.sub("\ufffd", _HYPHEN_AT_LINE_END.sub("-", text)).strip()


def _open(data: bytes, password: SecretStr | None) -> Any:
    try:
        return pypdfium2.PdfDocument(data, password=password.get_secret_value() if password else None)
    except pypdfium2.PdfiumError as error:
        if error.err_code not in _ENCRYPTED:
            raise PermanentError("the PDF is damaged: it cannot be opened", code="corrupt_file") from None
    tried = "the password given does not open it" if password else "give its password in the payload"
    raise PermanentError(f"the PDF is encrypted: {tried}", code="encrypted_pdf")


def _images(page: Any) -> Iterator[Any]:
    """The pictures on the page, those within forms too, up to a bound on all objects looked at."""
    objects = itertools.islice(page.get_objects(), _MAX_OBJECTS)
    return (item for item in objects if item.type == pdfium.FPDF_PAGEOBJ_IMAGE)


def _image_coverage(page: Any) -> float:
    """Return the part of the page covered by pictures, 0 to 1; overlaps count twice, up to the whole."""
    left, bottom, right, top = page.get_bbox()
    area: float = max((right - left) * (top - bottom), 1.0)
    covered = 0.0
    for image in _images(page):
        x0, y0, x1, y1 = image.get_bounds()
        covered += max(0.0, min(x1, right) - max(x0, left)) * max(0.0, min(y1, top) - max(y0, bottom))
    return min(1.0, covered / area)
