"""Pages of PNG, JPEG and TIFF files, as grey pictures, decoded only after their size was checked.

Pillow reads an image's header when it opens it and its pixels when they are first needed; every check here happens
in between.
"""

import contextlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from PIL import Image, ImageOps, UnidentifiedImageError

from handlers._ocr.settings import OcrSettings
from supervisor import PermanentError

MAX_SIDE_PX = 32_767
"""Coordinates are 16-bit in tesseract: a longer side reads as nothing."""

_MAX_FRAMES = 10_000  # walking a TIFF's directories costs time for each, and a 50 MB file may hold millions
_FORMATS = ("PNG", "JPEG", "TIFF")
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, KeyError, TypeError, IndexError, struct.error, zlib.error)
"""What Pillow's decoders raise for damaged files."""


@dataclass(frozen=True)
class PageImage:
    """A page to be read: 8-bit grey, upright as its file says, with its dots per inch if that is known."""

    image: Image.Image = field(repr=False)
    dpi: int | None
    warnings: tuple[str, ...] = ()


def check_pixels(width: float, height: float, settings: OcrSettings, what: str) -> None:
    """Raise PermanentError `too_many_pixels` if `what`, of that size in pixels, is over the limit."""
    if width * height > settings.max_pixels or max(width, height) > MAX_SIDE_PX:
        raise PermanentError(
            f"{what} is {width:.0f} x {height:.0f} pixels; at most {settings.max_megapixels:g} megapixels "
            f"and {MAX_SIDE_PX} a side are read ([handlers.ocr.settings] max_megapixels)",
            code="too_many_pixels",
        )


class ImagePages:
    """The pages of an image file: one, or the frames of a TIFF.

    Raises PermanentError `corrupt_file`, `too_many_pixels` or `too_many_pages`, at construction or from `render`.
    """

    def __init__(self, data: bytes, settings: OcrSettings) -> None:
        self._settings = settings
        with _guarded(settings):
            self._image = Image.open(io.BytesIO(data), formats=_FORMATS)
            check_pixels(*self._image.size, settings, "the image")
            self.pages_total = self._count_frames()

    def close(self) -> None:
        """Let go of the file."""
        self._image.close()

    def text_layer(self, _number: int) -> None:
        """Pictures have none."""

    def render(self, number: int, _raster_dpi: int) -> PageImage:
        """Decode page `number` (from 1) as it is: transparency on white, EXIF orientation applied, 8-bit grey."""
        with _guarded(self._settings):
            self._image.seek(number - 1)
            check_pixels(*self._image.size, self._settings, f"page {number}")
            dpi = _believable_dpi(self._image)
            self._image.load()
            upright = ImageOps.exif_transpose(self._image)
            return PageImage(_grey(upright), dpi)

    def _count_frames(self) -> int:
        """Count by seeking: Pillow's `n_frames` has no bound."""
        if self._image.format != "TIFF":
            return 1
        for number in range(1, _MAX_FRAMES + 1):
            try:
                self._image.seek(number)
            except EOFError:
                self._image.seek(0)
                return number
        raise PermanentError(f"the TIFF holds more than {_MAX_FRAMES} pages", code="too_many_pages")


def _grey(image: Image.Image) -> Image.Image:
    """Return `image` as 8-bit grey, transparent parts white: on black, dark text would vanish."""
    if image.mode.startswith(("I", "F")):
        return _scaled_to_8_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("L")


def _scaled_to_8_bits(image: Image.Image) -> Image.Image:
    """16- and 32-bit pictures by their own range: a plain conversion would clip everything above 255 to white."""
    wide = image.convert("F")
    low, high = wide.getextrema()
    if not isinstance(low, float) or not isinstance(high, float) or high <= low:
        return Image.new("L", image.size, 255)
    scale = 255.0 / (high - low)
    return wide.point(lambda value: value * scale + (-low * scale)).convert("L")


def _believable_dpi(image: Image.Image) -> int | None:
    """The file's own resolution if it can be believed; cameras and screens write 72 or 96 whatever the paper."""
    try:
        dpi = round(float(image.info["dpi"][1]))
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, ZeroDivisionError):
        return None
    return dpi if 96 < dpi <= 1200 else None


@contextlib.contextmanager
def _guarded(settings: OcrSettings) -> Iterator[None]:
    """Decode under Pillow's own guard too, with its warning made an error; name what damaged files raise."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = settings.max_pixels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata is no reason to refuse a readable picture
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PermanentError(
            f"the image has more than {settings.max_megapixels:g} megapixels ([handlers.ocr.settings] max_megapixels)",
            code="too_many_pixels",
        ) from None
    except UnidentifiedImageError:
        raise PermanentError("the image file is damaged: its header cannot be read", code="corrupt_file") from None
    except _BROKEN as error:
        raise PermanentError(f"the image file is damaged: {error}", code="corrupt_file") from None
    finally:
        Image.MAX_IMAGE_PIXELS = before
