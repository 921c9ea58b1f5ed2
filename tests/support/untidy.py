"""Handlers that spoil their process for the next job, or die in the middle of talking to the supervisor."""

import ctypes
import os
import resource
import signal
import struct
import sys
import threading
import time
from pathlib import Path

from supervisor import JobContext, handler

LEFT_OPEN: list[int] = []
LEFT_RUNNING = threading.Event()


@handler("leaves_a_mess")
def leaves_a_mess(payload: dict) -> dict:
    """Change all of the process that a handler can change."""
    os.environ["LEFT_BEHIND"] = "1"
    os.environ.pop("HOME", None)
    os.chdir("/")
    os.umask(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    signal.alarm(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    sys.stdout.close()
    os.close(0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    return {"pid": os.getpid()}


@handler("looks_around")
def looks_around(payload: dict) -> dict:
    """Tell what this process is like."""
    print("to stdout")
    os.write(2, b"to stderr\n")
    mask = os.umask(0o22)
    os.umask(mask)
    return {
        "pid": os.getpid(),
        "environ": {name: os.environ.get(name) for name in ("LEFT_BEHIND", "HOME")},
        "cwd": str(Path.cwd()),
        "umask": mask,
        "term": str(signal.getsignal(signal.SIGTERM)),
        "int": str(signal.getsignal(signal.SIGINT)),
        "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "alarm": signal.getitimer(signal.ITIMER_REAL)[0],
        "core": list(resource.getrlimit(resource.RLIMIT_CORE)),
        "stdin": os.fstat(0).st_rdev,
    }


@handler("lowers_a_limit")
def lowers_a_limit(payload: dict) -> dict:
    """Take something away that no process without privileges can get back."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    _renounce(CAP_SYS_RESOURCE)
    return {"pid": os.getpid()}


CAP_SYS_RESOURCE = 24


def _renounce(capability: int) -> None:
    """As root, become as others are in one respect (capset(2), version 3 of its interface)."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; low and high half
    libc = ctypes.CDLL(None)
    libc.capget(header, sets)
    for kind in range(3):
        sets[kind] &= ~(1 << capability)
    libc.capset(header, sets)


@handler("leaves_open")
def leaves_open(payload: dict) -> dict:
    """Leave files open and threads running."""
    LEFT_OPEN.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(payload.get("files", 0)))
    for _ in range(payload.get("threads", 0)):
        threading.Thread(target=LEFT_RUNNING.wait, daemon=True).start()
    return {"pid": os.getpid()}


def _result_queue() -> object:
    """The executor's own, from its frame below ours."""
    frame = sys._getframe()
    while "result_queue" not in frame.f_locals:
        frame = frame.f_back
    return frame.f_locals["result_queue"]


@handler("half_a_message")
def half_a_message(payload: dict) -> dict:
    """Announce a result of 1,000 bytes, send three, and die."""
    os.write(_result_queue()._writer.fileno(), struct.pack("!i", 1000) + b"abc")
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


@handler("dies_with_the_lock")
def dies_with_the_lock(payload: dict) -> dict:
    """Die while holding the lock that guards the result pipe."""
    _result_queue()._wlock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


@handler("closes_everything")
def closes_everything(payload: dict) -> dict:
    """Close every descriptor, as a clumsy daemon does."""
    os.closerange(0, 4096)
    return {}


@handler("large_and_slow")
def large_and_slow(payload: dict) -> dict:
    """Return much, so that a kill has time to fall in the middle."""
    time.sleep(payload.get("seconds", 0))
    return {"text": "x" * payload["bytes"]}


@handler("floods")
def floods(payload: dict) -> dict:
    """Print much, with everything in it that breaks a log."""
    line = '\x1b[31m{"event": "forged"}\n\0\r' + "x" * 1000
    for _ in range(payload["mb"]):
        print(line * 1024)
    print("the end")
    time.sleep(payload.get("seconds", 0))
    return {}


@handler("is_heard_late")
def is_heard_late(payload: dict, job: JobContext) -> dict:
    """Report progress that arrives when its group has ended, as it may where the machine is busy."""
    from supervisor.worker import main  # noqa: PLC0415 - the worker it runs in

    link = main._worker.link

    def send_later(message: dict) -> None:
        send = type(link).send
        delay_s = 0.3 if "ended" in message else 0.15
        if "ended" in message:
            del link.send
        threading.Timer(delay_s, send, [link, message]).start()

    link.send = send_later
    job.progress(payload["done"])
    return {}
