"""`Supervisor` in a program: one after the other in one process, and nothing of that process is changed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog

from supervisor import Supervisor, handler
from supervisor.errors import (
    ConfigError,
    DatabaseRefusedError,
    DatabaseUnreachableError,
    HandlerImportError,
    UsageError,
)
from supervisor.registry import REGISTRY
from tests.support.mongo import start_standalone
from tests.support.supervising import ROOT
from tests.support.until import until_async

PROGRAM = """
import asyncio, gc, json, logging, multiprocessing, os, signal, sys, threading
import elsewhere, psutil, structlog
from multiprocessing import forkserver, process
from pymongo import AsyncMongoClient
from supervisor import Supervisor

AN_APPLICATION = True
URI, DATABASE = sys.argv[1:]
TABLES = {
    "mongo": {"uri": URI, "database": DATABASE},
    "pool": {"workers": 1, "modules": ["tests.support.coroutines", "tests.support.worker_facts"]},
}
HANDLERS = "c_whoami", "worker_facts", "elsewhere"


def surroundings():
    names = [getattr(signal, f"SIG{name}") for name in ("TERM", "INT", "HUP", "TTIN", "TTOU", "USR1", "CHLD")]
    return {
        "environ": dict(os.environ),
        "signals": [str(signal.getsignal(name)) for name in names],
        "wakeup_fd": str(signal.set_wakeup_fd(signal.set_wakeup_fd(-1)) >= 0),
        "logging": [str(handler) for handler in logging.getLogger().handlers] + [logging.getLogger().level],
        "structlog": structlog.is_configured(),
        "wait_for": asyncio.wait_for.__module__,
        "sys_path": list(sys.path),
        "folder": os.getcwd(),
        "temporary": process.current_process()._config.get("tempdir"),
        "start_method": str(multiprocessing.get_start_method(allow_none=True)),
        "fork_server": forkserver._forkserver._forkserver_pid,
        "preload": list(forkserver._forkserver._preload_modules),
        "task_factory": str(asyncio.get_running_loop().get_task_factory()),
        "exception_handler": str(asyncio.get_running_loop().get_exception_handler()),
    }


async def run_jobs(jobs):
    made = await jobs.insert_many([{"handler": name, "status": "pending"} for name in HANDLERS])
    ids = {"_id": {"$in": made.inserted_ids}}
    while await jobs.count_documents({**ids, "status": "completed"}) < len(HANDLERS):
        await asyncio.sleep(0.02)
    return {job["handler"]: job["result"] async for job in jobs.find(ids)}


async def one_life(jobs, report):
    before = surroundings()
    async with Supervisor(**TABLES) as supervisor:
        results = await run_jobs(jobs)
        inside = surroundings()
        inside["structlog"] = before["structlog"]  # its entries go to `logging` meanwhile
        report["changed_inside"] += [name for name in before if inside[name] != before[name]]
    after = surroundings()
    report["changed_after"] += [name for name in before if after[name] != before[name]]
    report["in_this_process"].append(results["c_whoami"]["pid"] == os.getpid())
    report["setups"].append(results["c_whoami"]["setups"])
    report["workers"].append(results["worker_facts"])
    report["elsewhere"].append(results["elsewhere"]["pid"] == results["worker_facts"]["pid"])


def left():
    gc.collect()
    this = psutil.Process()
    children = [each for each in this.children(recursive=True) if "resource_tracker" not in " ".join(each.cmdline())]
    threads = [each.name for each in threading.enumerate() if not each.name.startswith("asyncio_")]
    return {"threads": threads, "files": this.num_fds(), "children": len(children)}


async def main():
    names = "changed_inside", "changed_after", "in_this_process", "setups", "workers", "elsewhere", "left"
    report = {name: [] for name in names}
    async with AsyncMongoClient(URI) as client:
        for _ in range(3):
            await one_life(client[DATABASE]["jobs"], report)
            report["left"].append(left())
    print(json.dumps(report))


if __name__ == "__main__":
    asyncio.run(main())
"""

ELSEWHERE = """
import os
from supervisor import handler

@handler("elsewhere")
def elsewhere(payload: dict) -> dict:
    return {"pid": os.getpid()}
"""


def test_supervisors_come_and_go_in_one_process_and_leave_it_as_it_was(
    mongo_uri: str, database_name: str, tmp_path: Path
) -> None:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    (tmp_path / "elsewhere.py").write_text(ELSEWHERE)
    done = subprocess.run(
        [sys.executable, path, mongo_uri, database_name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SUPERVISOR_LOG__LEVEL": "debug"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["changed_inside"], report["changed_after"]) == ([], [])
    assert report["in_this_process"] == [True] * 3
    assert report["setups"] == [1, 2, 3], "for each event loop, and so for each of them, once"
    assert [facts["main_imported"] for facts in report["workers"]] == [False] * 3, "workers do not import the program"
    assert [facts["ours"] for facts in report["workers"]] == [[]] * 3
    assert len({facts["pid"] for facts in report["workers"]}) == 3
    assert report["elsewhere"] == [True] * 3, "of a module that the program has imported, and `modules` does not name"
    assert report["left"][1:] == report["left"][:1] * 2, "nothing gathers"
    assert report["left"][0]["children"] == 0


@pytest.mark.parametrize(
    ("tables", "error", "words"),
    [
        ({"pool": {"workers": "many"}}, ConfigError, r"Supervisor\(pool=…\): \[pool\] workers"),
        ({"lease": {"seconds": 1}}, ConfigError, r"Supervisor\(lease=…\): \[lease\] seconds"),
        ({"mongo": {"uri": "mongodb://127.0.0.1:1", "wait_s": 0.2}}, DatabaseUnreachableError, "did not answer"),
        ({"mongo": {"uri": "mongodb://127.0.0.1:1/?w=1"}}, DatabaseRefusedError, "w=1 is not safe"),
    ],
)
async def test_errors_at_the_start_are_those_of_the_command_line(
    tables: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        async with Supervisor(**tables):
            pytest.fail("it has started")


async def test_a_handler_that_workers_cannot_import_is_refused(
    mongo_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_the_program(payload: dict[str, Any]) -> None: ...

    of_the_program.__module__ = "__main__"
    monkeypatch.setattr(REGISTRY, "handlers", {})
    handler("of_the_program")(of_the_program)
    supervisor = Supervisor(mongo={"uri": mongo_uri, "database": database_name}, pool={"workers": 0, "modules": []})
    with pytest.raises(HandlerImportError, match="handler 'of_the_program' is in the program that was started"):
        async with supervisor:
            pytest.fail("it has started")


async def test_logging_that_the_application_sets_up_later_is_left_alone(mongo_uri: str, database_name: str) -> None:
    async with Supervisor(mongo={"uri": mongo_uri, "database": database_name}, pool={"workers": 0, "modules": []}):
        assert structlog.is_configured()
        structlog.configure(processors=[structlog.processors.JSONRenderer()])
    try:
        assert [type(each) for each in structlog.get_config()["processors"]] == [structlog.processors.JSONRenderer]
    finally:
        structlog.reset_defaults()


async def test_a_standalone_is_refused_and_nothing_is_left_behind(tmp_path: Path) -> None:
    node = start_standalone(tmp_path)
    try:
        with pytest.raises(DatabaseRefusedError, match="standalone"):
            async with Supervisor(mongo={"uri": f"mongodb://{node.address}", "wait_s": 5}, pool={"workers": 0}):
                pytest.fail("it has started")
    finally:
        node.stop()


async def test_one_supervisor_is_entered_once_at_a_time(mongo_uri: str, database_name: str) -> None:
    supervisor = Supervisor(mongo={"uri": mongo_uri, "database": database_name}, pool={"workers": 0, "modules": []})
    assert not supervisor.is_running
    with pytest.raises(UsageError, match="mongo_uri: this Supervisor has not been entered"):
        _ = supervisor.mongo_uri
    async with supervisor:
        assert supervisor.is_running
        assert supervisor.mongo_uri == mongo_uri
        with pytest.raises(UsageError, match="running already"):
            await supervisor.__aenter__()
        assert supervisor.is_running
    assert (supervisor.is_running, supervisor.failure) == (False, None)
    async with supervisor:
        assert supervisor.is_running, "but again after its end"


async def test_the_configuration_may_be_a_file_which_is_watched(
    mongo_uri: str, database_name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path, text = tmp_path / "config.toml", f'[mongo]\nuri = "{mongo_uri}"\ndatabase = "{database_name}"\n'
    path.write_text(f"{text}[pool]\nworkers = 7\n")
    async with Supervisor(path, pool={"workers": 0, "modules": []}):
        assert "supervisor.ready workers=0" in caplog.text, "what the code says wins"
        path.write_text(f"{text}[pool]\nworkers = 9\n[shutdown]\ndrain_s = 1\n[log]\nlevel = 'error'\n")
        await until_async(lambda: "config.changed key='shutdown.drain_s'" in caplog.text, what="the edit to be applied")
    assert "pool.resized" not in caplog.text
    assert "supervisor.stopped" in caplog.text, "[log] is not for an application"
