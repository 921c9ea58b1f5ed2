"""Read one page: its text layer where that is good, else its picture, turned and straightened as it needs.

The first reading tells what a second one could gain: the lines' slope, whether blocks lie sideways, and how sure the
engine is. Whichever reading is surer is kept, so a wrong guess costs time and no text.
"""

import time
from dataclasses import dataclass, field, replace
from typing import Protocol

from PIL import Image, ImageChops, ImageFilter

from handlers._ocr.engines import Engine, Reading, Word
from handlers._ocr.images import PageImage
from handlers._ocr.pdf import TextLayer

_DESKEW_FROM_DEGREES = 0.75
_DESKEW_TO_DEGREES = 20.0
_DOUBTFUL_CONFIDENCE = 0.60
_DOUBTFUL_CHARS = 10
_TURNING_MAY_COST = 0.05  # of confidence: boxes and reading order are right only on an upright page
_REREAD_NEEDS_S = 0.2
_INK_WIDTH_PX = 600
_INK_CONTRAST = 24  # of 255, against the paper around it
_INK_PART = 2e-5  # of the page: some specks more than a blank scan has

_TURN_BACK = {
    1: Image.Transpose.ROTATE_90,  # Pillow turns counter-clockwise
    2: Image.Transpose.ROTATE_180,
    3: Image.Transpose.ROTATE_270,
}


class Pages(Protocol):
    """An opened document."""

    pages_total: int

    def text_layer(self, number: int, /) -> TextLayer | None:
        """Return the page's own text, None if such files have none."""

    def render(self, number: int, dpi: int, /) -> PageImage:
        """Return the page's picture."""

    def close(self) -> None:
        """Free what the document holds."""


@dataclass(frozen=True)
class Upright:
    """A reading and how its picture was turned: quarters clockwise, then degrees counter-clockwise."""

    reading: Reading
    image: Image.Image = field(repr=False)
    quarters: int = 0
    deskew: float = 0.0


@dataclass(frozen=True)
class PageText:
    """What the result says of a page; `width` and `height` are pixels of the picture as read (points of a text layer).

    `rotation` is in degrees clockwise and `deskew` in degrees counter-clockwise, as the page was turned before it
    was read. Word boxes refer to that turned picture.
    """

    source: str
    text: str = ""
    words: list[Word] = field(default_factory=list, repr=False)
    width: int = 0
    height: int = 0
    dpi: int | None = None
    rotation: int = 0
    deskew: float = 0.0
    confidence: float | None = None
    warnings: tuple[str, ...] = ()


def from_text_layer(layer: TextLayer) -> PageText:
    """A page whose own text is taken."""
    warnings = () if layer.text else ("no_text_layer: the page holds no text of its own and was not read",)
    source = "text_layer" if layer.text else "empty"
    return PageText(source, layer.text, [], round(layer.width), round(layer.height), 72, warnings=warnings)


def read_picture(page: PageImage, engine: Engine, timeout_s: float) -> PageText:
    """Read a page's picture within `timeout_s` seconds; a page without ink is not read at all."""
    ends_at = time.monotonic() + timeout_s
    width, height = page.image.size
    if not has_ink(page.image):
        return PageText("empty", width=width, height=height, dpi=page.dpi, warnings=page.warnings)
    first = Upright(engine.read(page.image, page.dpi, timeout_s), page.image)
    turned, unsure = _turn(first, page, engine, ends_at)
    kept = _straighten(turned, page, engine, ends_at)
    return PageText(
        source="ocr",
        words=kept.reading.words,
        width=kept.image.width,
        height=kept.image.height,
        dpi=page.dpi,
        rotation=kept.quarters * 90,
        deskew=round(kept.deskew, 2),
        confidence=round(kept.reading.confidence, 4) if kept.reading.words else None,
        warnings=(*page.warnings, *unsure, *_doubts(kept.reading, timeout_s)),
    )


def has_ink(image: Image.Image) -> bool:
    """Whether something is darker or lighter than the paper around it; a shaded but blank scan has none."""
    small = image.resize((_INK_WIDTH_PX, max(1, _INK_WIDTH_PX * image.height // image.width)), Image.Resampling.BOX)
    paper = small.filter(ImageFilter.MedianFilter(9))
    contrast = ImageChops.difference(small, paper).histogram()
    return sum(contrast[_INK_CONTRAST:]) > _INK_PART * small.width * small.height


def _turn(first: Upright, page: PageImage, engine: Engine, ends_at: float) -> tuple[Upright, tuple[str, ...]]:
    """Return the reading of the page the right way up, and warnings.

    Orientation detection is asked only when the reading gives cause: it errs on pages that read well.
    """
    doubtful = _doubtful(first.reading)
    if first.reading.timed_out or not (doubtful or first.reading.sideways):
        return first, ()
    turns = engine.quarter_turns(page.image, _left(ends_at))
    if turns is None and doubtful:
        return first, ("orientation_unknown: which way up the page is could not be told",)
    if not turns:
        return first, ()
    turned = replace(first, image=page.image.transpose(_TURN_BACK[turns]), quarters=-turns % 4)
    return _surer(first, turned, page, engine, ends_at, may_cost=_TURNING_MAY_COST), ()


def _straighten(upright: Upright, page: PageImage, engine: Engine, ends_at: float) -> Upright:
    skew = upright.reading.skew
    if not _DESKEW_FROM_DEGREES <= abs(skew) <= _DESKEW_TO_DEGREES or _doubtful(upright.reading):
        return upright
    level = upright.image.rotate(skew, Image.Resampling.BICUBIC, expand=True, fillcolor=255)
    return _surer(upright, replace(upright, image=level, deskew=skew), page, engine, ends_at)


def _surer(
    kept: Upright, other: Upright, page: PageImage, engine: Engine, ends_at: float, *, may_cost: float = 0.0
) -> Upright:
    """Read `other`'s picture and return it if it is as confident, less `may_cost`; without time for it, `kept`."""
    if _left(ends_at) < _REREAD_NEEDS_S or kept.reading.timed_out:
        return kept
    other = replace(other, reading=engine.read(other.image, page.dpi, _left(ends_at)))
    enough = other.reading.chars >= min(_DOUBTFUL_CHARS, kept.reading.chars)
    sure = other.reading.confidence >= kept.reading.confidence - may_cost
    return other if enough and sure and not other.reading.timed_out else kept


def _doubtful(reading: Reading) -> bool:
    return reading.confidence < _DOUBTFUL_CONFIDENCE or reading.chars < _DOUBTFUL_CHARS


def _doubts(reading: Reading, timeout_s: float) -> tuple[str, ...]:
    warnings = []
    if reading.timed_out:
        warnings.append(f"page_timeout: not read to its end within {timeout_s:g} s; the text is partial")
    elif not reading.words:
        warnings.append("unread_ink: there is something on the page, but no text could be read")
    elif reading.confidence < _DOUBTFUL_CONFIDENCE:
        warnings.append(f"low_confidence: {reading.confidence:.2f} of 1; expect errors")
    return tuple(warnings)


def _left(ends_at: float) -> float:
    return max(0.0, ends_at - time.monotonic())
