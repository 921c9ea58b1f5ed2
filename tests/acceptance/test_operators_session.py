"""The page docs/how-to/an-operators-session.md, typed line by line, while jobs come in all the time."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.notifications import Notifications, notifications
from tests.support.pages import SHOWN_S, Shell, answered, blocks, typed
from tests.support.supervising import ROOT, Jobs, RunningSupervisor
from tests.support.until import until

pytestmark = pytest.mark.slow

PAGE = "docs/how-to/an-operators-session.md"
LOOKS = re.compile(r"python -m supervisor (status|why|job)\b|systemctl show|journalctl")
"""Commands that change nothing, and are given again until they show what the page says."""
RESIZES = re.compile(r"workers = (\d+)/' config.toml")


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
    (handlers,), (config,) = blocks(PAGE, "python"), blocks(PAGE, "toml")
    (made.folder / "shop.py").write_text(handlers)
    made.config_path.write_text(config)
    yield made
    if hasattr(made, "process"):
        made.end()


def resized(workers: int, jobs: Jobs) -> None:
    """Wait for the heartbeat that `status` will show, and print how long it took."""
    edited = time.monotonic()
    supervisors = jobs.collection.database["supervisors"]
    until(lambda: supervisors.find_one({"workers": workers}), SHOWN_S, f"{workers} workers")
    print(f"{workers} workers in the heartbeat after {time.monotonic() - edited:.1f} s")


@pytest.mark.timeout(300)
def test_an_operator_s_session_goes_as_the_page_says(supervisor: RunningSupervisor, jobs: Jobs, tmp_path: Path) -> None:
    shell = Shell(supervisor.folder, supervisor.environ)
    shell("journalctl() { cat log; }")
    shell("python -m supervisor init")  # as for every database of one's own
    with closing(shell), notifications(tmp_path / "notify") as manager, producer(jobs):
        systemctl = ServiceManager(supervisor, manager)
        for command, answer in typed(PAGE):
            give = systemctl if command in systemctl.commands else shell
            answered(command, answer, give, again=bool(LOOKS.search(command)))
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
