"""The demonstration, as a newcomer sees it: read a page, find what is in it, leave nothing running."""

import os
import pty
import re
import signal
import subprocess
import sys

import psutil
import pytest

from tests.support.command_line import CommandLine, Done
from tests.support.documents import text_pdf
from tests.support.processes import named
from tests.support.supervising import ROOT
from tests.support.until import until

LINES = ["Payment of EUR 1,284.00 is due on 12 October 2025.", "Write to billing@harbour.example or call nobody."]


@pytest.fixture
def command(tmp_path) -> CommandLine:
    """Commands whose temporary files, and so their processes' command lines, are below this test's directory."""
    tmp_path.joinpath("tmp").mkdir()
    return CommandLine(tmp_path, "embedded", "unused")


def demo(command: CommandLine, *arguments: str) -> Done:
    done = command("demo", *arguments, environ=environ(command))
    assert_nothing_is_left(command)
    return done


def assert_nothing_is_left(command: CommandLine) -> None:
    assert not named(command.folder)
    assert not list(command.folder.joinpath("tmp").glob("*demo*"))


def environ(command: CommandLine) -> dict[str, str]:
    # a user's own configuration is not what the demonstration is about
    return {"TMPDIR": str(command.folder / "tmp"), "SUPERVISOR_MONGO__URI": "mongodb://127.0.0.1:1"}


def test_the_sample_page_is_read_and_understood(command):
    done = demo(command)
    assert (done.code, done.err) == (0, "")
    accuracy = re.search(r"Of the sample's known words, ([\d.]+)% were read right", done.out)
    assert accuracy is not None
    assert float(accuracy[1]) > 95
    for line in ("ocr: completed", "ner: completed", "    Northgate Marine Supplies Ltd"):
        assert line in done.out.splitlines()
    assert re.search(r"^read by \w.*, 1 page, 1,\d\d\d characters, mean confidence 9\d%, .*s$", done.out, re.MULTILINE)
    assert re.search(r"^DATE +12 September 2025 +2025-09-12 +1$", done.out, re.MULTILINE)
    assert re.search(r"^IBAN +GB82 WEST 1234 5698 7654 32 +GB82WEST12345698765432, GB +1$", done.out, re.MULTILINE)


def test_a_file_of_the_users_is_read(command):
    command.folder.joinpath("letter.pdf").write_bytes(text_pdf([LINES]))
    done = demo(command, "letter.pdf")
    assert (done.code, done.err) == (0, "")
    assert f"    {LINES[0]}" in done.out.splitlines()
    assert re.search(r"^MONEY +EUR 1,284.00 +1284.00, EUR +1$", done.out, re.MULTILINE)
    assert "known words" not in done.out


@pytest.mark.parametrize(
    ("content", "code"),
    [(text_pdf([LINES], password="secret"), "encrypted_pdf"), (b"no document at all", "unsupported_type")],
)
def test_a_file_that_cannot_be_read_is_one_line_and_code_1(command, content, code):
    command.folder.joinpath("file.pdf").write_bytes(content)
    done = demo(command, "file.pdf")
    assert done.code == 1
    assert re.match(rf"job \w+ failed: permanent: {code}: ", done.error)


def test_a_terminal_gets_bars_and_a_panel(command):
    command.folder.joinpath("letter.pdf").write_bytes(text_pdf([LINES]))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor", "demo", "letter.pdf"],
        cwd=command.folder,
        env={**os.environ, **environ(command), "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = _read_all(ours)
    assert process.wait(30) == 0
    assert "╭─ read by" in shown
    assert "━━━━" in shown
    assert LINES[1] in shown


def _read_all(terminal: int) -> str:
    pieces = []
    while True:
        try:
            pieces.append(os.read(terminal, 65536))
        except OSError:  # the other side is closed
            break
    os.close(terminal)
    return b"".join(pieces).decode()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demonstration_stops_what_it_started(command, sent):
    process = command.start("demo", environ=environ(command))
    until(lambda: "ocr: " in process.stdout.readline(), 60, "the page to be read")
    process.send_signal(sent)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "interrupted\n")
    assert_nothing_is_left(command)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_killed_demonstration_takes_everything_along(command):
    process = command.start("demo", environ=environ(command))
    until(lambda: "ocr: " in process.stdout.readline(), 60, "the page to be read")
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate(timeout=10)
    assert family
    until(lambda: not [each for each in family if each.is_running()] and not named(command.folder), 30)


def test_a_supervisor_that_cannot_start_is_one_line(command):
    process = command("demo", "--mongo", "mongodb://127.0.0.1:1/?directConnection=true", environ=environ(command))
    assert process.code == 3
    assert "did not answer within" in process.error
