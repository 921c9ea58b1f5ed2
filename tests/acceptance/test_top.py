"""`top` in a real terminal: what it shows of a supervisor at work, what its keys do, and what it leaves behind."""

import signal

import pytest

from tests.support.command_line import CommandLine
from tests.support.failpoints import failing
from tests.support.supervising import Jobs
from tests.support.terminal import in_a_terminal
from tests.support.until import until

TAB, ESCAPE = "\t", "\x1b"


def test_a_supervisor_at_work_is_watched_and_steered_with_keys(command: CommandLine, jobs: Jobs, start, mongod) -> None:
    start(pool={"workers": 2}).wait_for("worker.started", count=2)  # else the job may land on slot 1
    busy = jobs.insert("sleeps", {"seconds": 600})
    jobs.run("ok")
    controls = jobs.collection.database["controls"]
    with in_a_terminal(command.folder, "top") as terminal:
        before = terminal.modes()
        terminal.until(str(busy))
        screen = [" ".join(line.split()) for line in terminal.until("ok")]
        assert screen[0].startswith(f"{jobs.collection.full_name}: 1 supervisor, 1 of 2 slots busy, 0 pending")
        assert any(line.startswith("sleeps 0 1 0 0/0") for line in screen), screen
        assert any(line.startswith(f"slot 0 sleeps {busy} 1 ") for line in screen), screen

        terminal.press(TAB + TAB + "s")
        terminal.until("Stack of sleeps")
        assert any(line.endswith(" in sleeps") for line in terminal.until("misbehaving.py"))
        terminal.press(ESCAPE)
        terminal.until("SLOTS")
        terminal.press("p")
        terminal.until("sleeps (paused)")
        assert controls.find_one({"_id": "pause:sleeps"})["reason"] == "in top"
        terminal.press("p")
        terminal.until("sleeps is resumed")
        terminal.press("+")
        terminal.until("is to keep 3 workers")
        until(lambda: "slot 2" in terminal.text(), 30, "the third slot")

        # of what only `top` asks: each broken connection would hold up the supervisor's renewals too
        asked = f"{jobs.collection.database.name}.supervisors"
        with failing(mongod, ["aggregate"], closeConnection=True, namespace=asked):
            terminal.until("the database does not answer: ")
        terminal.until("1 of 3 slots busy")

        terminal.press("c")
        terminal.until(f"cancel sleeps {busy}? y/n")
        terminal.press("n")
        terminal.until("nothing was cancelled")
        terminal.press("cy")
        terminal.until("its supervisor has been asked to stop it")
        jobs.wait(busy, "cancelled")
        terminal.press("q")
        assert terminal.end() == 0
        assert terminal.modes() == before


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_the_terminal_is_put_back_whatever_ends_it(command: CommandLine, how: signal.Signals) -> None:
    with in_a_terminal(command.folder, "top", columns=80, lines=24) as terminal:
        before = terminal.modes()
        terminal.until("none is running; to start one: python -m supervisor")
        assert terminal.modes() != before
        terminal.process.send_signal(how)
        assert terminal.end() == (0 if how is signal.SIGINT else 128 + how)
        assert terminal.modes() == before


def test_a_window_may_change_its_size(command: CommandLine) -> None:
    with in_a_terminal(command.folder, "top") as terminal:
        terminal.until("SLOTS")
        terminal.resize(50, 10)
        terminal.until("top needs 60 x 14 characters")
        terminal.resize(80, 24)
        lines = terminal.until("SLOTS")
        assert lines[23].endswith("q quit")
        terminal.press("q")
        assert terminal.end() == 0


SCRIPTS = "; for scripts and small windows: python -m supervisor status"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"term": "dumb"}, "top needs a terminal that can place its cursor, not TERM=dumb"),
        ({"columns": 100, "lines": 12}, "top needs 60 x 14 characters, this terminal has 100 x 12"),
    ],
)
def test_a_terminal_that_cannot_show_it_is_told_what_to_do(command: CommandLine, options, reason) -> None:
    with in_a_terminal(command.folder, "top", **options) as terminal:
        assert terminal.end() == 2
        said = "".join(line.ljust(100) for line in terminal.lines())
        assert said.strip() == f"error: {reason}{SCRIPTS}"


def test_a_pipe_is_told_what_to_do(command: CommandLine) -> None:
    done = command("top")
    assert (done.code, done.out, done.error) == (2, "", f"top needs a terminal{SCRIPTS}")
