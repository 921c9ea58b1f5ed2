"""The handlers of the chaos run. Each attempt tells the ledger that it starts, does its kind of harm or work, sets its
effect in the outside store under its token, tells the ledger that it ends, and returns its token.
"""

import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path

from supervisor import JobContext, Retry, handler
from tests.chaos.ledger import RUN, Effects, Ledger

STEPS = 5
CRASHES = {
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "exit": lambda: os._exit(3),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
}


@handler("short", timeout_s=5)
def short(payload: dict, job: JobContext) -> dict:
    """Return at once, or crash as told. One handler does both: one that only ever crashed would be paused."""
    begin(job)
    if "crash" in payload:
        CRASHES[payload["crash"]]()
    return finish(job)


@handler("busy", timeout_s=5)
def busy(payload: dict, job: JobContext) -> dict:
    """Compute for `cpu_s` seconds."""
    begin(job)
    end = time.process_time() + payload["cpu_s"]
    while time.process_time() < end:
        pass
    return finish(job)


@handler("slow", timeout_s=10)
def slow(payload: dict, job: JobContext) -> dict:
    """Take long enough to be still running when a supervisor wakes up that had the job before."""
    begin(job)
    time.sleep(payload["seconds"])
    return finish(job)


@handler("raises", timeout_s=5)
def raises(payload: dict, job: JobContext) -> dict:
    begin(job)
    raise ValueError("as ordered")


@handler("retries", timeout_s=5)
def retries(payload: dict, job: JobContext) -> dict:
    """Ask for another try, until one is the third."""
    begin(job)
    if job.attempt < 3:
        raise Retry(in_s=0.1)
    return finish(job)


@handler("overruns", timeout_s=0.3)
def overruns(payload: dict, job: JobContext) -> dict:
    """Sleep past the time limit, with one child in the worker's session and one in a session of its own."""
    begin(job)
    subprocess.Popen(["sleep", "600"])
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    time.sleep(60)
    return finish(job)


@handler("large", timeout_s=5)
def large(payload: dict, job: JobContext) -> dict:
    """Return more than a document of the collection may hold inline."""
    begin(job)
    return {**finish(job), "text": "x" * payload["bytes"]}


@handler("progress", timeout_s=5)
def progress(payload: dict, job: JobContext) -> dict:
    begin(job)
    for done in range(1, STEPS + 1):
        job.progress(done, STEPS)
        time.sleep(0.02)
    return finish(job)


def begin(job: JobContext) -> None:
    """Tell the ledger that this attempt has started."""
    Ledger(_folder()).write("start", str(job.id), job.token)


def finish(job: JobContext) -> dict:
    """Set the effect, tell the ledger that this attempt has ended, and return its result."""
    applied = Effects(_folder()).apply(str(job.id), job.token)
    Ledger(_folder()).write("end" if applied else "refused", str(job.id), job.token)
    return {"job": str(job.id), "token": job.token}


def _folder() -> Path:
    return Path(os.environ[RUN])
