"""Where tesseract's language data is, and the settings both of its engines share."""

import os
from pathlib import Path

from handlers._ocr.engines import Word
from supervisor import PermanentError

THRESHOLDING = 2
"""Sauvola: tesseract's default takes a shaded scan for an empty page, with confidence 95."""
PAGE_SEGMENTATION = 3
"""Automatic layout without orientation detection, which on a language's data aborts the process."""

_DEBIAN_DATA = Path("/usr/share/tesseract-ocr/5/tessdata")
_WORD_LEVEL = "5"


def data_path() -> Path | None:
    """Return the directory of the language data: TESSDATA_PREFIX if it is set, else Debian's; None if empty."""
    configured = os.environ.get("TESSDATA_PREFIX")
    directory = Path(configured) if configured else _DEBIAN_DATA
    return directory if installed_languages(directory) else None


def installed_languages(directory: Path) -> list[str]:
    """Return the languages whose data lies in `directory`."""
    not_languages = {"osd", "equ"}
    return sorted(file.stem for file in directory.glob("*.traineddata") if file.stem not in not_languages)


def require_languages(wanted: list[str], installed: list[str]) -> None:
    """Raise PermanentError `language_missing` that names what to install."""
    missing = [language for language in wanted if language not in installed]
    if missing:
        packages = " ".join(f"tesseract-ocr-{language.lower().replace('_', '-')}" for language in missing)
        raise PermanentError(
            f"no language data for {', '.join(missing)} (installed: {', '.join(installed)}): `apt install {packages}`",
            code="language_missing",
        )


def settings() -> dict[str, int]:
    """Return what both engines are told, as the result reports it."""
    return {"thresholding_method": THRESHOLDING, "psm": PAGE_SEGMENTATION}


def parse_tsv(tsv: str) -> list[Word]:
    """Return the words of tesseract's tab-separated output, in reading order.

    Columns: level page block paragraph line word left top width height confidence (0-100) text.
    """
    words = []
    for row in tsv.splitlines():
        columns = row.split("\t", 11)
        if len(columns) == 12 and columns[0] == _WORD_LEVEL and columns[11].strip():
            left, top, width, height = map(int, columns[6:10])
            words.append(
                Word(
                    text=columns[11].strip(),
                    box=(left, top, left + width, top + height),
                    confidence=min(1.0, max(0.0, float(columns[10]) / 100)),
                    line=(int(columns[2]), int(columns[3]), int(columns[4])),
                )
            )
    return words
