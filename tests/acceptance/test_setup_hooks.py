"""Where setup hooks run, and what becomes of one that says it is fork-safe and is not."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.supervising import ROOT, Document, Jobs, RunningSupervisor, configuration, gone
from tests.support.until import until

HEAD = """
import ctypes, multiprocessing, os, socket, subprocess, threading, time
from pathlib import Path
from supervisor import handler

ran = []

def in_the_fork_server():
    return multiprocessing.parent_process() is None

@handler(__name__)
def tell(payload):
    return {"hook": ran, "threads": threading.active_count(), "pid": os.getpid(), "parent": os.getppid()}

@handler.setup(fork_safe=True)
def load():
    ran.append(os.getpid())
"""
"""Every module has one handler of its own name, which tells in which processes its hook has run."""

SOUND = "    threading.Thread(target=time.sleep, args=(0.05,)).start()  # ends soon\n"
THREADS = "    threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
CONNECTED = """    global listener, connection
    listener = socket.create_server(("127.0.0.1", 0))
    connection = socket.create_connection(listener.getsockname())
"""
PARENT = "    Path(os.environ['NOTE_OF_CHILD']).write_text(str(subprocess.Popen(['sleep', '600']).pid))\n"
CRASHES = "    if in_the_fork_server(): ctypes.string_at(0)\n"
HANGS = """    if in_the_fork_server():
        Path(os.environ['NOTE_OF_HANG']).write_text(str(os.getpid()))
        sum(range(10**14))  # in C code, with the interpreter lock held
"""
SLOW_THE_SECOND_TIME = """    note = Path(os.environ['NOTE_OF_HANG'])
    time.sleep(12 if note.exists() else 0)  # longer than a fork server that has loaded may take to answer
    note.touch()
"""
STARTS_AT_IMPORT = "\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"

FIRST_JOB = """
import sys
from supervisor import handler

known = set()

@handler(__name__)
def tell(payload: dict[str, str]):
    return {"new": sorted(set(sys.modules) - known)}

@handler.setup
def note():
    known.update(sys.modules)
"""

MODEL = """
import gc, os, zlib
from pathlib import Path
from supervisor import handler

def private_mb():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024

@handler.setup(fork_safe=True)
def load():
    global weights, words
    weights = os.urandom(60 << 20)
    words = [[number] for number in range(600_000)]  # 60 MB, all of it known to the garbage collector

@handler(__name__)
def use(payload):
    zlib.crc32(weights)
    gc.collect()
    return {"private_mb": private_mb()}
"""

StartWith = Callable[..., RunningSupervisor]


@pytest.fixture
def start_with(tmp_path: Path, mongo_uri: str, database_name: str) -> Iterator[StartWith]:
    """Start a supervisor whose modules of handlers are given as their texts, by name."""
    running: list[RunningSupervisor] = []

    def start(modules: dict[str, str], *, ready: bool = True, program: str = "", **pool: object) -> RunningSupervisor:
        for name, text in modules.items():
            (tmp_path / f"{name}.py").write_text(text)
        environ = {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)]),
            "NOTE_OF_CHILD": str(tmp_path / "child"),
            "NOTE_OF_HANG": str(tmp_path / "hang"),
        }
        config = configuration(mongo_uri, database_name, pool={"modules": list(modules), "workers": 1, **pool})
        supervisor = RunningSupervisor(tmp_path / "supervisor", config, environ=environ)
        running.append(supervisor)
        return supervisor.start(ready=ready)

    yield start
    for supervisor in running:
        supervisor.end()


def left_out(supervisor: RunningSupervisor) -> dict[str, Document]:
    """What the log says was left to the workers; a name that is said twice fails the test."""
    entries = supervisor.events("preload.left_to_workers")
    assert len({entry["name"] for entry in entries}) == len(entries)
    return {entry["name"]: entry for entry in entries}


def test_a_hook_whose_work_does_not_survive_a_fork_is_left_to_the_workers_and_named_once(
    start_with: StartWith, jobs: Jobs, tmp_path: Path
) -> None:
    texts = {"sound": SOUND, "threads": THREADS, "connected": CONNECTED, "parent": PARENT, "crashes": CRASHES}
    modules = {name: HEAD + text for name, text in texts.items()} | {"at_import": HEAD + STARTS_AT_IMPORT}
    supervisor = start_with(modules, workers=2)
    until(lambda: len(supervisor.events("worker.started")) >= 2, what="two workers")
    told = left_out(supervisor)
    assert set(told) == {"threads.load", "connected.load", "parent.load", "crashes.load", "at_import"}
    assert "it left 1 running thread," in told["threads.load"]["reason"]
    assert "it left 1 running thread," in told["at_import"]["reason"]
    assert "it left 1 open TCP connection," in told["connected.load"]["reason"]
    assert "it left 1 running process," in told["parent.load"]["reason"]
    assert "died while it loaded it (SIGSEGV)" in told["crashes.load"]["reason"]
    for name, entry in told.items():
        assert entry["handlers"] == [name.partition(".")[0]]
        assert "without fork_safe=True" in entry["hint"]

    answers = {name: jobs.run(name)["result"] for name in modules}
    shared = answers.pop("sound")
    assert shared["hook"] == [shared["parent"]], "in the fork server, once"
    for name, answer in answers.items():
        assert answer["hook"] == [answer["pid"]], f"{name}: in the worker itself"
    assert answers["threads"]["threads"] >= 2, "which has its thread"
    (done,) = supervisor.events("preload.done")
    assert done["hooks"] == ["sound.load"]
    family = supervisor.family()
    assert supervisor.stop() == 0
    gone(family)
    gone([psutil.Process(pid) for pid in [int((tmp_path / "child").read_text())] if psutil.pid_exists(pid)])


def test_workers_share_a_model_through_its_use_and_a_garbage_collection(start_with: StartWith, jobs: Jobs) -> None:
    start_with({"large": MODEL})
    assert jobs.run("large")["result"]["private_mb"] < 30, "of 120 MB and more"


def test_the_first_job_of_a_worker_finds_everything_loaded(start_with: StartWith, jobs: Jobs) -> None:
    start_with({"first": FIRST_JOB})
    assert jobs.run("first")["result"]["new"] == []


def test_a_hook_that_hangs_the_fork_server_is_left_out_in_time_and_other_handlers_go_on(
    start_with: StartWith, jobs: Jobs
) -> None:
    supervisor = start_with({"sound": HEAD + SOUND, "hangs": HEAD + HANGS}, ready=False, load_timeout_s=8)
    supervisor.wait_for("supervisor.ready", timeout_s=40)
    assert "the fork server was loading hangs.load" in supervisor.events("worker.start_failed")[-1]["reason"]
    told = left_out(supervisor)["hangs.load"]
    assert told["reason"] == "the fork server had not loaded it within 8 s (pool.load_timeout_s)"
    for name in ("sound", "hangs"):
        assert jobs.run(name)["status"] == "completed"
    assert supervisor.stop() == 0


@pytest.mark.slow
def test_a_fork_server_that_is_replaced_has_as_long_to_load_as_the_first(start_with: StartWith, jobs: Jobs) -> None:
    supervisor = start_with({"slow": HEAD + SLOW_THE_SECOND_TIME})
    worker = psutil.Process(jobs.run("slow")["result"]["pid"])
    worker.parents()[0].kill()
    loaded = supervisor.wait_for("preload.done", timeout_s=60, count=2)
    assert (loaded["seconds"] > 12, loaded["hooks"]) == (True, ["slow.load"])
    assert jobs.run("slow")["status"] == "completed"
    assert not left_out(supervisor)


def test_a_fork_server_that_hangs_in_a_hook_dies_with_its_supervisor(start_with: StartWith, tmp_path: Path) -> None:
    supervisor = start_with({"hangs": HEAD + HANGS}, ready=False)
    note = tmp_path / "hang"
    until(note.exists, 20, "the hook to begin")
    hung = psutil.Process(int(until(note.read_text)))
    supervisor.process.send_signal(signal.SIGKILL)
    supervisor.process.wait(10)
    try:
        gone([hung])
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            hung.kill()


def test_a_hook_that_kills_every_worker_is_named(start_with: StartWith) -> None:
    text = HEAD.replace("(fork_safe=True)", "") + "    os._exit(9)\n"
    supervisor = start_with({"deadly": text}, ready=False)
    assert supervisor.process.wait(30) == 4
    assert "(in the setup hook deadly.load)" in supervisor.output().strip().splitlines()[-1]
