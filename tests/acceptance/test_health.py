"""`health` beside real supervisors: without a database, cheap, and not taken in by what a killed one has left."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import NOWHERE, CommandLine, Done
from tests.support.supervising import ROOT, Jobs, RunningSupervisor, configuration
from tests.support.until import until

Ask = Callable[..., Done]


@pytest.fixture
def place(tmp_path: Path) -> dict[str, str]:
    """A runtime directory of the test's own, as a service has one; supervisors of other tests write to the usual."""
    (tmp_path / "run").mkdir()
    return {"RUNTIME_DIRECTORY": str(tmp_path / "run")}


@pytest.fixture
def ask(tmp_path: Path, place: dict[str, str]) -> Ask:
    """Ask `health`, beside a configuration whose database nobody serves."""
    command = CommandLine(tmp_path, NOWHERE, "nowhere")
    command.configure()
    return lambda *options: command("health", *options, environ=place)


@pytest.fixture
def start(
    mongo_uri: str, database_name: str, tmp_path: Path, place: dict[str, str]
) -> Iterator[Callable[..., RunningSupervisor]]:
    running: list[RunningSupervisor] = []
    numbers = itertools.count()

    def start_one(**tables: Any) -> RunningSupervisor:
        config = configuration(mongo_uri, database_name, **tables)
        running.append(RunningSupervisor(tmp_path / f"supervisor-{next(numbers)}", config, environ=place))
        return running[-1].start()

    yield start_one
    for supervisor in running:
        supervisor.end()


def test_a_supervisor_is_fine_drains_and_is_gone(
    ask: Ask, start: Callable[..., RunningSupervisor], jobs: Jobs, tmp_path: Path
) -> None:
    nobody = ask()
    assert (nobody.code, nobody.error) == (1, f"no supervisor runs here (nothing in {tmp_path}/run)")
    supervisor = start(shutdown={"drain_s": 30})
    fine = ask()
    assert fine.code == 0, "as soon as it is ready"
    assert fine.out.startswith(f"ok: supervisor {supervisor.pid} is running; its claim loop turned ")
    (told,) = ask("--json").json["supervisors"]
    assert (told["pid"], told["phase"], told["dead"]) == (supervisor.pid, "running", False)

    go = tmp_path / "go"
    jobs.wait(jobs.insert("waits_for_file", {"path": str(go)}), "processing")
    supervisor.process.send_signal(signal.SIGTERM)
    supervisor.wait_for("supervisor.draining")
    assert ask().error == f"supervisor {supervisor.pid} is draining"
    assert ask("--live").code == 0
    go.touch()
    assert supervisor.process.wait(20) == 0
    assert ask("--live").error.startswith("no supervisor runs here")


def test_one_that_was_killed_is_dead_until_it_has_a_successor(
    ask: Ask, start: Callable[..., RunningSupervisor]
) -> None:
    supervisor, other = start(), start()
    assert ask().code == 0
    supervisor.kill()
    dead = ask()
    assert dead.code == 1
    assert f"error: supervisor {supervisor.pid} is dead" in dead.err
    assert f"ok: supervisor {other.pid} " in dead.out
    successor = start()
    assert sorted(each["pid"] for each in ask("--json").json["supervisors"]) == sorted([other.pid, successor.pid])
    until(lambda: ask().code == 0, what="all well again")


def test_the_file_stands_still_with_the_claim_loop_and_comes_back_when_it_was_removed(
    ask: Ask, start: Callable[..., RunningSupervisor], tmp_path: Path
) -> None:
    supervisor = start()
    file = tmp_path / "run" / f"{supervisor.pid}.health"

    def beat() -> float:
        return float(json.loads(file.read_text())["beat_at"])

    first = beat()
    until(lambda: beat() > first, what="another beat")
    file.unlink()
    until(file.exists, what="the file again")
    supervisor.process.send_signal(signal.SIGSTOP)
    stopped = beat()
    time.sleep(4)  # it turns every 1.5 s at least
    assert beat() == stopped
    supervisor.process.send_signal(signal.SIGCONT)
    until(lambda: beat() > stopped, what="a beat after it")


@pytest.mark.parametrize("folder", ["/proc", "/dev/null"])
def test_a_directory_that_cannot_be_written_to_is_one_warning(
    folder: str, mongo_uri: str, database_name: str, tmp_path: Path
) -> None:
    config = configuration(mongo_uri, database_name, pool={"workers": 0})
    supervisor = RunningSupervisor(tmp_path / "supervisor", config, environ={"RUNTIME_DIRECTORY": folder})
    try:
        supervisor.start()
        time.sleep(2)  # for more than one beat
        assert supervisor.stop() == 0
    finally:
        supervisor.end()
    (warning,) = supervisor.events("health.unwritable")
    assert warning["path"].startswith(folder)


def test_it_loads_no_more_than_it_needs() -> None:
    """Its cost is that of starting Python, since a probe may ask every second."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "supervisor", "health"],
        cwd=ROOT,
        env={**os.environ, "RUNTIME_DIRECTORY": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "json" in loaded
    assert loaded & {"pydantic", "pymongo", "bson", "click", "structlog", "psutil", "rich", "asyncio"} == set()


def test_its_help_and_its_mistakes_are_those_of_any_command(ask: Ask) -> None:
    assert "Example" in ask("--help").out
    wrong = ask("--nonsense")
    assert wrong.code == 2
    assert "health --help" in wrong.error
    assert ask("--live", "--json", "--debug").code == 1, "the same answer by the longer way"
