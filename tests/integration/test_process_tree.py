"""Ending a process with everything that it started, on real processes."""

import contextlib
import subprocess
import sys
from pathlib import Path

import psutil

from supervisor.proc import start_ticks
from supervisor.process_tree import children, kill_tree, measure, proportional_mb
from tests.support.until import until

SPREADS = """
import os, subprocess, sys, time
# one in our session, one in its own, one whose own parent has gone, one that starts another whenever it can
subprocess.Popen(["sleep", "600"])
subprocess.Popen(["sleep", "600"], start_new_session=True)
subprocess.Popen(["sh", "-c", "setsid sleep 600 & setsid sh -c 'while :; do sleep 0.01; done' & wait"])
print("ready", flush=True)
time.sleep(600)
"""
STARTS_MANY = """
import subprocess, time
for _ in range(900):
    subprocess.Popen(["sleep", "600"])
print("ready", flush=True)
time.sleep(600)
"""


def test_the_tree_is_killed_wherever_its_members_have_gone(tmp_path: Path) -> None:
    root = subprocess.Popen([sys.executable, "-c", SPREADS, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    members: list[psutil.Process] = []
    try:
        assert root.stdout is not None
        assert root.stdout.readline() == "ready\n"
        process = psutil.Process(root.pid)
        until(lambda: len(process.children(recursive=True)) >= 5, 10, "the whole tree")
        members = process.children(recursive=True)
        kill_tree(root.pid)
        root.wait(10)
        until(lambda: not _alive(members), 5, "the end of all of them")
    finally:
        for process in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        root.kill()
        root.communicate()


def _alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def test_what_a_tree_uses_counts_its_subprocesses() -> None:
    program = (
        "import subprocess, sys\n"
        "child = 'hoard = b\"x\" * (60 << 20); sum(range(3 * 10**6)); print(1, flush=True); input()'\n"
        "subprocess.run([sys.executable, '-c', child])\n"
    )
    root = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    try:
        assert root.stdout is not None
        root.stdout.readline()
        used, proportional = measure(root.pid), proportional_mb(root.pid)
        assert used is not None
        assert proportional is not None
        assert used.rss_mb > 65
        assert used.cpu_s > 0.03
        assert 60 < proportional <= used.rss_mb
    finally:
        kill_tree(root.pid)
        root.communicate()


def test_nobody_at_all_is_killed_for_a_process_that_is_gone() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    kill_tree(gone.pid)
    kill_tree(0)
    assert measure(gone.pid) is None


def test_a_process_that_was_started_at_another_time_is_a_stranger() -> None:
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        started = start_ticks(stranger.pid)
        assert started is not None
        kill_tree(stranger.pid, started - 1)
        assert psutil.Process(stranger.pid).status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
        kill_tree(stranger.pid, started)
        assert stranger.wait(10) == -9
    finally:
        stranger.kill()
        stranger.wait()


def test_all_children_are_found_where_the_kernel_tells_them_in_several_parts() -> None:
    with subprocess.Popen([sys.executable, "-c", STARTS_MANY], stdout=subprocess.PIPE, text=True) as root:
        assert root.stdout is not None
        assert root.stdout.readline() == "ready\n"
        found = children(root.pid)
        kill_tree(root.pid)
    assert len(found) == 900
