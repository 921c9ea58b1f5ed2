"""Pages of the documentation that are tried out: their blocks of code, and sessions at a terminal."""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.supervising import ROOT
from tests.support.until import until

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN_S = 30.0
END = "the end of this command"


def blocks(page: str, language: str | None = None) -> list[str]:
    """Return the blocks of code of a page, or those of one language; unnamed ones are output."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [block for found, block in BLOCK.findall(text) if language in (None, found)]


def typed(page: str) -> Iterator[tuple[str, str]]:
    """Return every command of the page with the answer that stands below it."""
    for block in blocks(page, "console"):
        for entry in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, answer = entry.partition("\n")
            yield command, answer


def pattern(answer: str) -> re.Pattern[str]:
    """Return an answer as a pattern: `…` is anything, and so is how many blanks a table has."""
    words = re.escape(" ".join(answer.split())).replace("…", ".*")
    return re.compile(words)


class Shell:
    """One bash for the whole session, so that its variables last."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env={**os.environ, **environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __call__(self, command: str) -> str:
        """Type a command and return what it writes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # many an answer has no last newline, so one is added
        self._process.stdin.write(f"{{ {command}\n}} </dev/null\necho; echo '{END}'\n")
        self._process.stdin.flush()
        lines = iter(self._process.stdout.readline, f"{END}\n")
        return "".join(lines)[:-1]

    def close(self) -> None:
        """End it, with what it has left running."""
        for process in psutil.Process(self._process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.communicate("exit\n", timeout=10)


def answered(command: str, answer: str, give: Callable[[str], str], *, again: bool) -> None:
    """Give a command until it answers as the page says; once, unless it changes nothing and may be given `again`.

    Prints when it was given for the last time, and when it had answered: by then, the change before it could be seen.
    """
    started, wanted, given, asked_s = time.monotonic(), pattern(answer), "", 0.0

    def as_on_the_page() -> bool:
        nonlocal given, asked_s
        asked_s = time.monotonic() - started
        given = give(command)
        return wanted.fullmatch(" ".join(given.split())) is not None

    try:
        until(as_on_the_page, SHOWN_S if again else 0)
    except AssertionError:
        pytest.fail(f"$ {command}\n{given}instead of\n{answer}", pytrace=False)
    if again:
        print(f"asked after {asked_s:.1f} s, answered after {time.monotonic() - started:.1f} s: {command}")
