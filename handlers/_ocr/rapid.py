"""RapidOCR: the engine for those who can install from pip only, and the more accurate one at four times the cost.

Its unit is the line, not the word, it knows no columns, and nothing but the job's own time limit stops it. Its
models read English and Chinese.
"""

import functools
import importlib
from importlib.metadata import version
from typing import Any

from PIL import Image

from handlers._ocr.engines import Reading, Word
from handlers._ocr.install import no_engine
from supervisor import PermanentError

_LANGUAGES = {"eng", "chi_sim"}
_SETTINGS: dict[str, Any] = {"use_cls": False, "max_side_len": 1200, "intra_op_num_threads": 1}


class RapidEngine:
    """Reads with the models in the rapidocr wheel; see `Engine`."""

    name = "rapidocr"

    def __init__(self, model: Any, languages: list[str]) -> None:
        self._model, self._languages = model, languages

    def describe(self) -> dict[str, Any]:
        """See `Engine`."""
        return {
            "name": self.name,
            "version": version("rapidocr"),
            "library": f"onnxruntime {version('onnxruntime')}",
            "languages": self._languages,
            "settings": dict(_SETTINGS),
            "preloaded": False,
        }

    def read(self, image: Image.Image, dpi: int | None, timeout_s: float) -> Reading:  # noqa: ARG002 - it takes neither
        """See `Engine`; skew stays 0 because slanted lines are read as they are."""
        found = self._model(image.convert("RGB"))
        if found.boxes is None:
            return Reading()
        boxes = [_upright(corners) for corners in found.boxes.tolist()]
        lines = zip(found.txts, boxes, found.scores, strict=True)
        return Reading(_in_rows([(text, box, float(score)) for text, box, score in lines if text.strip()]))

    def quarter_turns(self, image: Image.Image, timeout_s: float) -> int | None:  # noqa: ARG002 - it cannot tell
        """See `Engine`."""
        return None


def open_engine(languages: list[str]) -> RapidEngine:
    """Return the engine; raises PermanentError `no_ocr_engine` or `language_missing`."""
    try:
        module = importlib.import_module("rapidocr")
    except (ImportError, OSError) as error:  # OSError: a shared library of OpenCV's is missing
        raise no_engine(f"rapidocr cannot be imported: {error}") from None
    if missing := [language for language in languages if language not in _LANGUAGES]:
        raise PermanentError(f"rapidocr's models do not read {', '.join(missing)}", code="language_missing")
    return RapidEngine(_model(module), languages)


@functools.lru_cache(maxsize=1)
def _model(module: Any) -> Any:
    """The loaded models, 1 s and several hundred MB: once in a process."""
    return module.RapidOCR(
        params={
            "Global.use_cls": _SETTINGS["use_cls"],
            "Global.max_side_len": _SETTINGS["max_side_len"],
            "Global.log_level": "error",
            "EngineConfig.onnxruntime.intra_op_num_threads": _SETTINGS["intra_op_num_threads"],
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )


def _upright(corners: list[list[float]]) -> tuple[int, int, int, int]:
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    return round(min(xs)), round(min(ys)), round(max(xs)), round(max(ys))


def _in_rows(lines: list[tuple[str, tuple[int, int, int, int], float]]) -> list[Word]:
    """Order top to bottom; pieces side by side, as the cells of a table are, make one row, left to right."""
    rows: list[list[tuple[str, tuple[int, int, int, int], float]]] = []
    for line in sorted(lines, key=lambda item: item[1][1] + item[1][3]):
        middle = (line[1][1] + line[1][3]) / 2
        if rows and rows[-1][0][1][1] < middle < rows[-1][0][1][3]:
            rows[-1].append(line)
        else:
            rows.append([line])
    ordered = [(number, piece) for number, row in enumerate(rows) for piece in sorted(row, key=lambda item: item[1][0])]
    return [Word(text.strip(), box, score, (0, number)) for number, (text, box, score) in ordered]
