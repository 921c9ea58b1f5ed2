"""The terminal: single keys from it, whole screens to it, and everything put back at the end, however that comes."""

from __future__ import annotations

import contextlib
import io
import os
import re
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from typing import Any, Self

from rich.console import Console
from rich.text import Text

from supervisor.cli.top.state import DOWN, ENTER, ESCAPE, PAGE_DOWN, PAGE_UP, TAB, UP

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""Another screen without a cursor, and back to what was there before."""
_SEQUENCE = re.compile(r"\x1b(?:[\[O][0-9;]*[A-Za-z~])?|.", re.DOTALL)
_NAMES = {
    "\x1b[A": UP, "\x1bOA": UP, "\x1b[B": DOWN, "\x1bOB": DOWN, "\x1b[5~": PAGE_UP, "\x1b[6~": PAGE_DOWN,
    "\t": TAB, "\x1b": ESCAPE, "\r": ENTER, "\n": ENTER, " ": PAGE_DOWN,
}  # fmt: skip
_MOST_BYTES = 1024
_QUIT = "q"


class Terminal:
    """A context in which the terminal is ours; Ctrl-C is still an interrupt."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._colours: Any = Console().color_system

    def __enter__(self) -> Self:
        keyboard = sys.stdin.fileno()
        before = termios.tcgetattr(keyboard)
        self._stack.callback(termios.tcsetattr, keyboard, termios.TCSADRAIN, before)
        for number, handler in ((signal.SIGTERM, _end), (signal.SIGHUP, _end), (signal.SIGTSTP, signal.SIG_IGN)):
            self._stack.callback(signal.signal, number, signal.signal(number, handler))
        tty.setcbreak(keyboard)
        self._stack.callback(_write, _LEAVE)
        _write(_ENTER)
        return self

    def __exit__(self, *_raised: object) -> None:
        with contextlib.suppress(OSError):  # it may be gone
            self._stack.close()

    def size(self) -> tuple[int, int]:
        """Return width and height as they are now; whatever COLUMNS says is about another time."""
        return os.get_terminal_size(sys.stdout.fileno())

    def keys(self, wait_s: float) -> list[str]:
        """Return the keys that are pressed within `wait_s` seconds, by names; a terminal that is gone says q."""
        ready, _, _ = select.select([sys.stdin], [], [], wait_s)
        return list(keys_in(os.read(sys.stdin.fileno(), _MOST_BYTES))) if ready else []

    def draw(self, lines: Sequence[Text]) -> None:
        """Put lines on the screen, in one write so that it does not flicker."""
        width, _ = self.size()
        page = io.StringIO()
        console = Console(file=page, width=width, force_terminal=True, color_system=self._colours, legacy_windows=False)
        for number, line in enumerate(lines):
            # erased first: behind a full line, that would take its last character
            page.write("\r\n\x1b[K" if number else "\x1b[H\x1b[K")
            console.print(line, end="", no_wrap=True, crop=True, highlight=False)
        _write(f"{page.getvalue()}\x1b[J")


def keys_in(data: bytes) -> Iterator[str]:
    """Yield the names of the keys that a terminal has sent; no bytes are its end."""
    if not data:
        yield _QUIT
    for sequence in _SEQUENCE.findall(data.decode("utf-8", "replace")):
        yield _NAMES.get(sequence, sequence)


def _end(number: int, _frame: Any) -> None:
    sys.exit(128 + number)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
