"""The page docs/how-to/an-operators-session.md, typed line by line, while jobs come in all the time."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.notifications import Notifications, notifications
from tests.support.supervising import ROOT, Jobs, RunningSupervisor
from tests.support.until import until

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "how-to" / "an-operators-session.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LOOKS = re.compile(r"python -m supervisor (status|why|job)\b|systemctl show|journalctl")
"""Commands that change nothing, and are given again until they show what the page says."""
RESIZES = re.compile(r"workers = (\d+)/' config.toml")
SHOWN_S = 30.0
END = "the end of this command"


def blocks(language: str) -> list[str]:
    return [text for found, text in BLOCK.findall(PAGE.read_text()) if found == language]


def typed() -> Iterator[tuple[str, str]]:
    """Return every command of the page with the answer that stands below it."""
    for block in blocks("console"):
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
        self("journalctl() { cat log; }")

    def __call__(self, command: str) -> str:
        """Type a command and return what it writes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{{ {command}\n}} </dev/null\necho '{END}'\n")
        self._process.stdin.flush()
        lines = iter(self._process.stdout.readline, f"{END}\n")
        return "".join(lines)

    def close(self) -> None:
        self._process.communicate("exit\n", timeout=10)


class ServiceManager:
    """What `systemctl` is in the session: it starts and stops the supervisor, and hears what it says of itself."""

    def __init__(self, supervisor: RunningSupervisor, manager: Notifications) -> None:
        self._supervisor = supervisor
        self._manager = manager
        self.commands: dict[str, Callable[[], str]] = {
            "sudo systemctl start mongo-job-supervisor": self._start,
            "sudo systemctl stop mongo-job-supervisor": self._stop,
            "systemctl show --property StatusText --value mongo-job-supervisor": self._status,
        }

    def __call__(self, command: str) -> str:
        return self.commands[command]()

    def _start(self) -> str:
        self._supervisor.start(ready=False)
        self._manager.wait_for("READY")
        return ""

    def _stop(self) -> str:
        assert self._supervisor.stop() == 0
        assert "STOPPING=1" in self._manager.all()
        return ""

    def _status(self) -> str:
        return self._manager.of("STATUS")[-1]


@contextmanager
def producer(jobs: Jobs) -> Iterator[None]:
    """Insert jobs until the end of the block, fewer than two workers can do."""
    ended = threading.Event()

    def produce() -> None:
        while not ended.wait(0.2):
            jobs.insert("ocr")

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.fixture
def supervisor(mongo_uri: str, database_name: str, tmp_path: Path) -> Iterator[RunningSupervisor]:
    """The files of the page, and a supervisor that is not yet started."""
    environ = {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "SUPERVISOR_MONGO__URI": mongo_uri,
        "SUPERVISOR_MONGO__DATABASE": database_name,
        "PYTHONPATH": str(ROOT),
    }
    made = RunningSupervisor(tmp_path / "service", {}, environ=environ)
    (handlers,), (config,) = blocks("python"), blocks("toml")
    (made.folder / "shop.py").write_text(handlers)
    made.config_path.write_text(config)
    yield made
    if hasattr(made, "process"):
        made.end()


def answered(command: str, answer: str, give: Callable[[str], str]) -> None:
    """Give a command until it answers as the page says, once if it changes something.

    Prints when it was given for the last time, and when it had answered: by then, the change before it could be seen.
    """
    started, wanted, given, asked_s = time.monotonic(), pattern(answer), "", 0.0

    def as_on_the_page() -> bool:
        nonlocal given, asked_s
        asked_s = time.monotonic() - started
        given = give(command)
        return wanted.fullmatch(" ".join(given.split())) is not None

    try:
        until(as_on_the_page, SHOWN_S if LOOKS.search(command) else 0)
    except AssertionError:
        pytest.fail(f"$ {command}\n{given}instead of\n{answer}", pytrace=False)
    if LOOKS.search(command):
        print(f"asked after {asked_s:.1f} s, answered after {time.monotonic() - started:.1f} s: {command}")


def resized(workers: int, jobs: Jobs) -> None:
    """Wait for the heartbeat that `status` will show, and print how long it took."""
    edited = time.monotonic()
    supervisors = jobs.collection.database["supervisors"]
    until(lambda: supervisors.find_one({"workers": workers}), SHOWN_S, f"{workers} workers")
    print(f"{workers} workers in the heartbeat after {time.monotonic() - edited:.1f} s")


@pytest.mark.timeout(300)
def test_an_operator_s_session_goes_as_the_page_says(supervisor: RunningSupervisor, jobs: Jobs, tmp_path: Path) -> None:
    shell = Shell(supervisor.folder, supervisor.environ)
    shell("python -m supervisor init")  # as for every database of one's own
    with closing(shell), notifications(tmp_path / "notify") as manager, producer(jobs):
        systemctl = ServiceManager(supervisor, manager)
        for command, answer in typed():
            answered(command, answer, systemctl if command in systemctl.commands else shell)
            if edit := RESIZES.search(command):
                resized(int(edit[1]), jobs)
    (report,) = jobs.collection.find({"handler": "report"})
    assert report["status"] == "cancelled"
    for job in jobs.collection.find({"handler": "ocr", "status": {"$ne": "completed"}}):
        assert (job["status"], job.get("attempt", 0)) == ("pending", 0), job
    supervisor.environ.pop("NOTIFY_SOCKET")
    supervisor.start(ready=False)
    jobs.wait_for_all()
    assert supervisor.stop() == 0
    assert jobs.collection.count_documents({"handler": "ocr"}) > 50
    assert jobs.collection.count_documents({"handler": "ocr", "status": {"$ne": "completed"}}) == 0
    assert jobs.collection.count_documents({"handler": "ocr", "attempt": {"$ne": 1}}) == 0
