"""Tesseract as a program: the engine where tesserocr is not installed.

The picture goes in through stdin and the words come out of stdout. No string of a user's is ever an argument:
Debian's build takes an argument that looks like a URL and fetches it. Languages were checked by the payload's model.
"""

import functools
import io
import os
import re
import shutil
import subprocess
from typing import Any

from PIL import Image

from handlers._ocr import tesseract_data
from handlers._ocr.engines import Reading, skew_of
from handlers._ocr.install import no_engine
from handlers._ocr.tesseract_data import parse_tsv, require_languages

_ASKING_S = 10.0  # how long the program may take to say its version or languages
_ENVIRONMENT = {"OMP_THREAD_LIMIT": "1"}  # its threads fight over small pieces of work: 10 s a page instead of 2


class TesseractEngine:
    """Runs the program once per picture; see `Engine`."""

    name = "tesseract"

    def __init__(self, program: str, languages: list[str]) -> None:
        self._program, self._languages = program, languages

    def describe(self) -> dict[str, Any]:
        """See `Engine`."""
        version = re.search(r"tesseract v?(\S+)", _ask(self._program, "--version"))
        return {
            "name": self.name,
            "version": version[1] if version else "unknown",
            "library": self._program,
            "languages": self._languages,
            "settings": tesseract_data.settings(),
            "preloaded": False,
        }

    def read(self, image: Image.Image, dpi: int | None, timeout_s: float) -> Reading:
        """See `Engine`; out of time, nothing of the page is had."""
        options = ["-l", "+".join(self._languages), "--psm", str(tesseract_data.PAGE_SEGMENTATION)]
        options += ["-c", f"thresholding_method={tesseract_data.THRESHOLDING}"]
        options += ["--dpi", str(dpi)] if dpi is not None else []
        try:
            words = parse_tsv(_run(self._program, image, [*options, "tsv"], timeout_s))
        except subprocess.TimeoutExpired:
            return Reading(timed_out=True)
        return Reading(words, skew_of(words))

    def quarter_turns(self, image: Image.Image, timeout_s: float) -> int | None:
        """See `Engine`."""
        if "osd" not in _listed(self._program):
            return None
        try:
            answer = _run(self._program, image, ["-l", "osd", "--psm", "0"], timeout_s)
        except (subprocess.SubprocessError, RuntimeError):  # too few characters is an error of the program's
            return None
        degrees = re.search(r"Orientation in degrees: (\d+)", answer)
        confident = re.search(r"Orientation confidence: ([\d.]+)", answer)
        if not degrees or not confident or float(confident[1]) <= 1:
            return None
        return round(int(degrees[1]) / 90) % 4


def open_engine(languages: list[str]) -> TesseractEngine:
    """Return the engine for `languages`; raises PermanentError `no_ocr_engine` or `language_missing`."""
    program = shutil.which("tesseract")
    if program is None:
        raise no_engine("the program tesseract is not on PATH")
    installed = sorted(_listed(program) - {"osd", "equ"})
    if not installed:
        raise no_engine("no language data for the program tesseract")
    require_languages(languages, installed)
    return TesseractEngine(program, languages)


def _listed(program: str) -> set[str]:
    return set(_ask(program, "--list-langs").splitlines()[1:])


@functools.lru_cache(maxsize=8)
def _ask(program: str, question: str) -> str:
    try:
        answer = subprocess.run([program, question], capture_output=True, timeout=_ASKING_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise no_engine(f"the program tesseract does not start: {error}") from None
    return answer.stdout.decode(errors="replace")


def _run(program: str, image: Image.Image, options: list[str], timeout_s: float) -> str:
    """Return the program's output; raises TimeoutExpired, RuntimeError with its last line of complaint.

    `subprocess.run` kills the program when a signal's exception comes through it.
    """
    picture = io.BytesIO()
    image.save(picture, "PPM")
    done = subprocess.run(
        [program, "stdin", "stdout", *options],
        input=picture.getvalue(),
        capture_output=True,
        timeout=timeout_s,
        env=os.environ | _ENVIRONMENT,
        check=False,
    )
    if done.returncode != 0:
        complaint = done.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError(f"tesseract ended with {done.returncode}: {complaint[-1] if complaint else 'no message'}")
    return done.stdout.decode(errors="replace")
