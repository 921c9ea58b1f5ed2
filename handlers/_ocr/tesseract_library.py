"""Tesseract in this process, through tesserocr: the default engine.

An opened API holds its language's model, about 40 MB and 0.1 s, so it is kept; the one for English is opened in the
fork server and its pages are shared by all workers. An API object is used by one thread at a time, a handler's.
"""

import importlib
import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from handlers._ocr import tesseract_data
from handlers._ocr.engines import Reading
from handlers._ocr.install import no_engine
from handlers._ocr.tesseract_data import data_path, parse_tsv, require_languages

_KEPT = 3  # of the opened APIs; a worker that sees many languages must not keep them all


@dataclass(frozen=True)
class _Open:
    api: Any
    preloaded: bool = False


_opened: dict[str, _Open] = {}
"""The APIs of this process by language; only `_open` and `preload` write."""


class TesserocrEngine:
    """Reads with an opened API; see `Engine`."""

    name = "tesserocr"

    def __init__(self, module: Any, directory: Path, languages: list[str], opened: _Open) -> None:
        self._module, self._directory, self._languages, self._opened = module, directory, languages, opened

    def describe(self) -> dict[str, Any]:
        """See `Engine`."""
        return {
            "name": self.name,
            "version": self._module.tesseract_version().split()[1],
            "library": f"tesserocr {self._module.__version__}",
            "languages": self._languages,
            "settings": tesseract_data.settings(),
            "preloaded": self._opened.preloaded,
        }

    def read(self, image: Image.Image, dpi: int | None, timeout_s: float) -> Reading:
        """See `Engine`. A signal's exception ends the recognition and is raised from it."""
        api = self._opened.api
        try:
            api.SetImage(image)
            if dpi is not None:
                api.SetSourceResolution(dpi)
            finished = api.Recognize(max(1, int(timeout_s * 1000)))
            return Reading(parse_tsv(api.GetTSVText(0)), self._skew(api), timed_out=not finished)
        finally:
            api.Clear()  # a page's picture is not to be kept until the next job

    def quarter_turns(self, image: Image.Image, timeout_s: float) -> int | None:  # noqa: ARG002 - takes a fraction of a second
        """See `Engine`. On data of its own: asked of a language's API this question aborts the process."""
        if not (self._directory / "osd.traineddata").is_file():
            return None
        api = _open(self._module, self._directory, "osd", self._module.PSM.OSD_ONLY).api
        try:
            api.SetImage(image)
            found = api.DetectOrientationScript()
        finally:
            api.Clear()
        return round(found["orient_deg"] / 90) % 4 if found and found["orient_conf"] > 1 else None

    def _skew(self, api: Any) -> float:
        """Return the skew in degrees that the layout analysis found for most blocks."""
        blocks, block = api.GetIterator(), self._module.RIL.BLOCK
        seen: Counter[float] = Counter()
        while blocks is not None and not blocks.Empty(block):
            seen[round(math.degrees(blocks.Orientation()[3]), 2)] += 1
            if not blocks.Next(block):
                break
        return seen.most_common(1)[0][0] if seen else 0.0


def open_engine(languages: list[str]) -> TesserocrEngine:
    """Return the engine for `languages`; raises PermanentError `no_ocr_engine` or `language_missing`."""
    module = _module()
    directory = data_path()
    if directory is None:
        raise no_engine("no language data for tesserocr")
    require_languages(languages, tesseract_data.installed_languages(directory))
    opened = _open(module, directory, "+".join(languages), module.PSM.AUTO)
    return TesserocrEngine(module, directory, languages, opened)


def preload() -> None:
    """Open the API for English before the workers are forked; raises PermanentError if that cannot be."""
    module = _module()
    directory = data_path()
    if directory is None:
        raise no_engine("no language data for tesserocr")
    require_languages(["eng"], tesseract_data.installed_languages(directory))
    _opened["eng"] = replace(_open(module, directory, "eng", module.PSM.AUTO), preloaded=True)


def _module() -> Any:
    try:
        return importlib.import_module("tesserocr")
    except (ImportError, OSError) as error:  # OSError: a wheel for another libc
        raise no_engine(f"tesserocr cannot be imported: {error}") from None


def _open(module: Any, directory: Path, languages: str, mode: int) -> _Open:
    """Return the kept API for `languages`, or open it; raises PermanentError if the data is not readable."""
    if languages not in _opened:
        while len(_opened) >= _KEPT:
            _opened.pop(next(iter(_opened))).api.End()
        try:
            api = module.PyTessBaseAPI(path=f"{directory}/", lang=languages, psm=mode)
        except RuntimeError:
            raise no_engine(f"tesseract cannot read its data for {languages} in {directory}") from None
        api.SetVariable("thresholding_method", str(tesseract_data.THRESHOLDING))
        _opened[languages] = _Open(api)
    return _opened[languages]
