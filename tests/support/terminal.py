"""A real terminal for a command: a pty with a process in it, and an emulator that knows what stands on the screen."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyte

from tests.support.supervising import ROOT

QUIET_S = 0.05


class Terminal:
    """The screen of a running command, `columns` wide and `lines` high."""

    def __init__(self, process: subprocess.Popen[bytes], master: int, columns: int, lines: int) -> None:
        self.process = process
        self._master = master
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)

    def lines(self) -> list[str]:
        """Read what has been written meanwhile, and return the lines of the screen."""
        while select.select([self._master], [], [], QUIET_S)[0]:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # how Linux says that nobody has the other end open
                break
            if not data:
                break
            self._stream.feed(data)
        return [line.rstrip() for line in self._screen.display]

    def text(self) -> str:
        return "\n".join(self.lines())

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def until(self, text: str, timeout_s: float = 30.0) -> list[str]:
        """Wait until `text` stands on the screen, and return its lines."""
        give_up_at = time.monotonic() + timeout_s
        while text not in (seen := self.text()):
            assert time.monotonic() < give_up_at, f"{text!r} did not come; there was:\n{seen}"
        return seen.splitlines()

    def resize(self, columns: int, lines: int) -> None:
        """Change the size, as a window does."""
        self._screen.resize(lines, columns)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def modes(self) -> list[object]:
        """Return the terminal's settings."""
        return termios.tcgetattr(self._master)

    def end(self, timeout_s: float = 30.0) -> int:
        """Wait for the end of the command, and return its exit code."""
        give_up_at = time.monotonic() + timeout_s
        while self.process.poll() is None:
            self.lines()  # else it might wait for room to write
            assert time.monotonic() < give_up_at, f"it goes on:\n{self.text()}"
        return self.process.returncode


@contextmanager
def in_a_terminal(
    folder: Path, *arguments: str, columns: int = 100, lines: int = 30, term: str = "xterm-256color"
) -> Iterator[Terminal]:
    """Run `python -m supervisor` with `arguments` in a terminal of that size."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": term}
    command = [sys.executable, "-m", "supervisor", *arguments]
    process = subprocess.Popen(
        command, cwd=folder, env=environ, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    try:
        yield Terminal(process, master, columns, lines)
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
        os.close(master)
        os.close(slave)
