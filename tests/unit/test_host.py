"""When a supervisor that left a heartbeat document is certainly dead."""

import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import bson
import psutil
import pytest

from supervisor.host import identity, is_dead
from supervisor.proc import start_ticks


@pytest.fixture
def gone():
    """Return the identity of a process of this machine that has just ended."""
    process = psutil.Popen(["true"])
    created = start_ticks(process.pid)
    process.wait()
    return {**identity(), "pid": process.pid, "process_start_ticks": created}


def test_the_identity_tells_this_process_from_every_other():
    me = identity()
    assert (me["host"], me["pid"]) == (socket.gethostname(), os.getpid())
    assert me["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    assert me["pid_namespace"] == str(Path("/proc/self/ns/pid").readlink())
    assert me["process_start_ticks"] == start_ticks()


def test_a_process_that_has_ended_is_dead(gone):
    assert is_dead(gone)


def test_the_identity_survives_the_database(gone):
    stored = bson.decode(bson.encode({**gone, "heartbeat_at": datetime.now(UTC)}))
    assert is_dead(stored)
    assert not is_dead(bson.decode(bson.encode(identity())))


def test_this_process_and_its_parent_live():
    parent = psutil.Process().parent()
    assert not is_dead(identity())
    assert not is_dead({**identity(), "pid": parent.pid, "process_start_ticks": start_ticks(parent.pid)})


def test_another_process_with_the_same_pid_is_not_the_same_process():
    assert is_dead({**identity(), "process_start_ticks": start_ticks() - 3600})


def test_a_zombie_is_dead():
    process = psutil.Popen(["true"])
    created = start_ticks(process.pid)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert is_dead({**identity(), "pid": process.pid, "process_start_ticks": created})
    finally:
        process.wait()


def test_everything_from_before_this_machine_s_boot_is_dead():
    machine = "0123456789abcdef"
    before = {**identity(), "boot_id": "another", "machine_id": machine}
    if identity()["machine_id"]:
        assert is_dead({**before, "machine_id": identity()["machine_id"]})
    assert not is_dead(before)


@pytest.mark.parametrize(
    "elsewhere",
    [
        pytest.param({"host": "another-host"}, id="another host"),
        pytest.param({"host": None}, id="a host that is not said"),
        pytest.param({"boot_id": "another", "machine_id": "another"}, id="a namesake with another boot"),
        pytest.param({"boot_id": "another", "machine_id": ""}, id="a namesake that does not know its machine"),
        pytest.param({"pid_namespace": "pid:[1]"}, id="another container"),
    ],
)
def test_of_what_may_run_elsewhere_nothing_is_certain(gone, elsewhere):
    assert not is_dead({**gone, **elsewhere})


@pytest.mark.parametrize(
    "strange",
    [
        {"pid": None},
        {"pid": "1"},
        {"process_start_ticks": None},
        {"process_start_ticks": "then"},
        {"pid": None, "process_start_ticks": None},
    ],
)
def test_a_document_that_does_not_say_which_process_proves_nothing(gone, strange):
    assert not is_dead({**gone, **strange})
    assert not is_dead({key: value for key, value in gone.items() if key not in strange})


def test_an_empty_document_proves_nothing():
    assert not is_dead({})
