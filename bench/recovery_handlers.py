"""Handlers that tell, on the clock that all processes share, when they start and when they die."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import psutil

from supervisor import handler


@handler("dies")
def dies(_payload: dict) -> dict:
    """Print the time, and die."""
    print(time.monotonic(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


@handler("tells_its_start")
def tells_its_start(_payload: dict) -> dict:
    """Return the time of its first line."""
    return {"at": time.monotonic()}


@handler("waits")
def waits(payload: dict) -> dict:
    """Return the time of its first line, after a while."""
    at = time.monotonic()
    time.sleep(payload["seconds"])
    return {"at": at}


@handler("loops_in_c")
def loops_in_c(_payload: dict) -> dict:
    """Start a grandchild, and stay in C code that looks at no signal."""
    sleeper = subprocess.Popen(["sleep", "600"])
    print(time.monotonic(), sleeper.pid, flush=True)
    return {"sum": sum(range(10**14))}


@handler("hoards")
def hoards(payload: dict) -> dict:
    """Take memory at a steady rate, and print how much it is."""
    process, hoard = psutil.Process(), []
    while True:
        hoard.append(b"x" * ((payload["mb_per_s"] << 20) // 50))
        print(time.monotonic(), process.memory_info().rss / (1 << 20), flush=True)
        time.sleep(1 / 50)
