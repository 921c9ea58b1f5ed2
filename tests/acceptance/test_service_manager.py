"""What a service manager is told, through a datagram socket like systemd's, and when it hears nothing more."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import slow_start
from tests.support.mongo import RunningMongod
from tests.support.notifications import Notifications, notifications
from tests.support.proxy import proxy_to
from tests.support.supervising import Jobs, RunningSupervisor, configuration
from tests.support.until import until

WATCHED = {"WATCHDOG_USEC": "30000000"}
QUIET_S = 4.0
"""The pulse comes every 1.5 seconds at least; silence for so long is no chance."""
StartNotifying = Callable[..., RunningSupervisor]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Notifications]:
    with notifications(tmp_path / "notify") as listening:
        yield listening


@pytest.fixture
def start(mongo_uri: str, database_name: str, tmp_path: Path, manager: Notifications) -> Iterator[StartNotifying]:
    """Start a supervisor under `manager`, or with the environment `environ`; ended with the test."""
    running: list[RunningSupervisor] = []

    def start_one(
        environ: dict[str, str] | None = None, module: str = "supervisor", *, ready: bool = True, **tables: Any
    ) -> RunningSupervisor:
        config = configuration(mongo_uri, database_name, **tables)
        told = {"NOTIFY_SOCKET": manager.address, **WATCHED} if environ is None else environ
        supervisor = RunningSupervisor(tmp_path / "supervisor", config, environ=told, module=module)
        running.append(supervisor)
        return supervisor.start(ready=ready)

    yield start_one
    for supervisor in running:
        supervisor.end()


def pulses(manager: Notifications) -> int:
    return len(manager.of("WATCHDOG"))


def goes_on(manager: Notifications, count: int = 2, timeout_s: float = 30) -> None:
    """Wait for so many more pulses."""
    manager.wait_for("WATCHDOG", more_than=pulses(manager) + count - 1, timeout_s=timeout_s)


def falls_silent(manager: Notifications) -> None:
    """Wait until no pulse has come for a while."""

    def silent() -> bool:
        before = pulses(manager)
        time.sleep(QUIET_S)
        return pulses(manager) == before

    until(silent, 30, "the pulse to stop")


def test_it_is_ready_when_the_first_worker_has_shaken_hands(
    start: StartNotifying, manager: Notifications, tmp_path: Path
) -> None:
    file = tmp_path / "go"
    supervisor = start(
        {"NOTIFY_SOCKET": manager.address, slow_start.VARIABLE: str(file)},
        pool={"modules": [slow_start.__name__]},
        ready=False,
    )
    manager.wait_for_status("starting workers")
    manager.wait_for("EXTEND_TIMEOUT_USEC", more_than=2)
    assert manager.of("STATUS")[0] == "waiting for the database"
    assert manager.of("READY") == []
    file.touch()
    manager.wait_for("READY")
    assert manager.of("WATCHDOG") == [], "nobody has asked for it"
    supervisor.wait_for("supervisor.ready")
    assert supervisor.stop() == 0


def test_without_workers_it_is_ready_at_once(start: StartNotifying, manager: Notifications) -> None:
    start(pool={"workers": 0}, ready=False)
    manager.wait_for("READY")
    manager.wait_for_status("0/0 busy, 0 pending, 0 quarantined")
    goes_on(manager)


def test_it_tells_of_its_work_of_reloads_and_of_its_stop(
    start: StartNotifying, manager: Notifications, jobs: Jobs, tmp_path: Path
) -> None:
    supervisor = start(shutdown={"drain_s": 20}, retry={"max_crashes": 1})
    assert jobs.run("segfault")["error"]["kind"] == "poison"
    go = tmp_path / "go"
    running = [jobs.insert("waits_for_file", {"path": str(go)}) for _ in range(3)]
    manager.wait_for_status("2/2 busy, 1 pending, 1 quarantined")
    goes_on(manager)  # with no slot free

    before = len(manager.all())
    supervisor.process.send_signal(signal.SIGHUP)
    until(lambda: manager.since(before) == ["RELOADING", "MONOTONIC_USEC", "READY"], 10, "the end of a reload")
    assert int(manager.of("MONOTONIC_USEC")[0]) <= time.monotonic_ns() // 1000

    before = len(manager.all())
    supervisor.edit("retry", max_attempts=5)
    until(lambda: manager.since(before) == ["RELOADING", "MONOTONIC_USEC", "READY"], 10, "the end of an edit")

    before = len(manager.all())
    supervisor.config_path.write_text("[pool\n")
    supervisor.wait_for("config.invalid")
    supervisor.process.send_signal(signal.SIGHUP)
    until(
        lambda: manager.since(before) == ["RELOADING", "MONOTONIC_USEC", "READY"], 10, "a reload that changes nothing"
    )

    before = len(manager.all())
    supervisor.process.send_signal(signal.SIGTERM)
    manager.wait_for("STOPPING")
    manager.wait_for_status("draining, 2 still busy")
    asked = len(manager.of("EXTEND_TIMEOUT_USEC"))
    manager.wait_for("EXTEND_TIMEOUT_USEC", more_than=asked + 1)
    goes_on(manager)  # while it drains
    go.touch()
    assert supervisor.process.wait(20) == 0
    assert manager.since(before) == ["STOPPING"]
    assert jobs.get(running[0])["status"] == "completed"


def test_the_pulse_stops_with_the_process(start: StartNotifying, manager: Notifications) -> None:
    supervisor = start()
    goes_on(manager)
    supervisor.process.send_signal(signal.SIGSTOP)
    falls_silent(manager)
    supervisor.process.send_signal(signal.SIGCONT)
    goes_on(manager)


def test_the_pulse_stops_when_the_claim_loop_hangs_though_all_else_goes_on(
    start: StartNotifying, manager: Notifications, jobs: Jobs
) -> None:
    supervisor = start(module="tests.support.deadlock")
    jobs.wait(
        jobs.insert("progress", {"steps": 100, "pause_s": 0.5}), "processing"
    )  # it asks the database all the time
    goes_on(manager)
    supervisor.process.send_signal(signal.SIGUSR2)
    jobs.insert("ok")  # to be claimed, and that claim never begins
    falls_silent(manager)
    heartbeats = jobs.collection.database["supervisors"]
    last = heartbeats.find_one({}, {"heartbeat_at": 1})
    until(lambda: heartbeats.find_one({}, {"heartbeat_at": 1}) != last, 30, "a heartbeat")
    manager.wait_for("STATUS", more_than=len(manager.of("STATUS")))


def test_a_database_that_does_not_answer_starves_no_watchdog(
    start: StartNotifying, manager: Notifications, mongod: RunningMongod
) -> None:
    with proxy_to(mongod.port) as proxy:
        supervisor = start(mongo={"uri": proxy.uri})
        proxy.black_hole = True
        manager.wait_for_status("0/2 busy, the database does not answer")
        goes_on(manager, timeout_s=60)
        assert supervisor.events("database.unavailable"), "turns that ended in an error"
        proxy.black_hole = False
        manager.wait_for_status("0/2 busy, 0 pending, 0 quarantined")
        supervisor.stop()


def test_an_abstract_address_is_understood(start: StartNotifying, tmp_path: Path) -> None:
    with notifications(f"@{tmp_path}/notify") as abstract:
        start({"NOTIFY_SOCKET": abstract.address, **WATCHED, "WATCHDOG_PID": "1"}, pool={"workers": 0})
        abstract.wait_for("READY")
        abstract.wait_for("STATUS", more_than=1)
        assert pulses(abstract) == 0, "the watchdog is somebody else's"


def test_a_socket_that_nobody_listens_to_is_one_warning_and_no_socket_is_none(
    start: StartNotifying, jobs: Jobs, tmp_path: Path
) -> None:
    supervisor = start({"NOTIFY_SOCKET": str(tmp_path / "nowhere"), **WATCHED})
    environment = jobs.run("environment")["result"]["names"]
    assert [name for name in environment if name.startswith(("NOTIFY", "WATCHDOG"))] == [], "workers do not get it"
    supervisor.process.send_signal(signal.SIGHUP)
    assert supervisor.stop() == 0
    (warning,) = supervisor.events("service_manager.unreachable")
    assert warning["socket"] == str(tmp_path / "nowhere")

    quiet = start({})
    assert jobs.run("ok")["status"] == "completed"
    assert quiet.stop() == 0
    assert len(quiet.events("service_manager.unreachable")) == 1, "that of the first"
