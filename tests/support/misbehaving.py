"""Handlers that do every wrong thing a handler can do, and a few right ones. Registered in workers by name."""

import contextlib
import ctypes
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

from pydantic import BaseModel

from supervisor import JobContext, JobTimeout, PermanentError, Retry, handler


class Number(BaseModel):
    n: int


@handler("ok")
def ok(payload: dict) -> dict:
    return {"echo": payload}


@handler("double")
def double(payload: Number, job: JobContext) -> dict:
    return {"n": payload.n * 2, "attempt": job.attempt, "token": job.token}


@handler("ledger")
def ledger(payload: dict, job: JobContext) -> dict:
    """Append one line per start and per end to a file outside of everybody's control."""
    line = f"{job.id} {job.token} {os.getpid()}"
    with Path(payload["ledger"]).open("a") as file:
        file.write(f"start {line}\n")
    _busy(payload.get("seconds", 0))
    with Path(payload["ledger"]).open("a") as file:
        file.write(f"end {line}\n")
    return {"pid": os.getpid()}


@handler("pulse")
def pulse(payload: dict, job: JobContext) -> dict:
    """Leave a line every 20 ms with the attempt that is alive then; only the first attempt takes long."""
    until_s = time.monotonic() + (payload["seconds"] if job.token == 1 else 0.2)
    with Path(payload["ledger"]).open("a", buffering=1) as file:
        while time.monotonic() < until_s:
            file.write(f"{job.token} {time.monotonic()}\n")
            time.sleep(0.02)
    return {"token": job.token}


@handler("nothing")
def nothing(payload: dict) -> None:
    return None


@handler("model")
def model(payload: Number) -> Number:
    return Number(n=payload.n + 1)


@handler("noop")
def noop(payload: dict) -> dict:
    return {}


@handler("raises")
def raises(payload: dict) -> dict:
    raise ValueError(payload.get("message", "as ordered"))


@handler("permanent")
def permanent(payload: dict) -> dict:
    raise PermanentError("never mind", code="no_use")


@handler("retry")
def retry(payload: dict, job: JobContext) -> dict:
    if job.attempt < payload.get("until", 2):
        raise Retry(in_s=payload.get("in_s", 0))
    return {"attempt": job.attempt}


@handler("sleeps")
def sleeps(payload: dict, job: JobContext) -> dict:
    """Sleep like a lamb: stops at once when told to."""
    time.sleep(payload.get("seconds", 60))
    return {"slept": True, "attempt": job.attempt}


@handler("waits_for_file")
def waits_for_file(payload: dict) -> dict:
    """Go on until somebody makes the file."""
    while not Path(payload["path"]).exists():
        time.sleep(0.02)
    return {}


@handler("catches_timeout")
def catches_timeout(payload: dict) -> dict:
    try:
        time.sleep(60)
    except JobTimeout:
        return {"partial": True}
    return {"partial": False}


@handler("ignores_everything")
def ignores_everything(payload: dict) -> dict:
    """Start a grandchild in a session of its own, one in ours, and refuse to stop."""
    _leave_children(payload)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            continue


@handler("regex")
def regex(payload: dict) -> dict:
    """Catastrophic backtracking: C code that holds the interpreter lock, and looks at signals now and then."""
    _leave_children(payload)
    return {"match": bool(re.match(r"(a+)+$", "a" * 40 + "b"))}


@handler("c_loop")
def c_loop(payload: dict) -> dict:
    """Stay in C code for hours, with the interpreter lock held and without a look at signals."""
    _leave_children(payload)
    return {"sum": sum(range(10**14))}


@handler("segfault")
def segfault(payload: dict) -> dict:
    ctypes.string_at(0)
    return {}


@handler("aborts")
def aborts(payload: dict) -> dict:
    os.abort()


@handler("exits")
def exits(payload: dict) -> dict:
    os._exit(payload.get("code", 3))


@handler("kills_itself")
def kills_itself(payload: dict) -> dict:
    _leave_children(payload)
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


@handler("crashes_once")
def crashes_once(payload: dict, job: JobContext) -> dict:
    if job.attempt == 1:
        os._exit(9)
    return {"attempt": job.attempt}


@handler("sys_exit")
def sys_exit(payload: dict) -> dict:
    sys.exit(payload.get("code", 3))


@handler("stop_iteration")
def stop_iteration(payload: dict) -> dict:
    return next(iter([]))


@handler("keyboard_interrupt")
def keyboard_interrupt(payload: dict) -> dict:
    raise KeyboardInterrupt


class AwkwardError(Exception):
    """Cannot be unpickled, nor shown."""

    def __init__(self, a, _b):
        super().__init__(a)
        self.lock = threading.Lock()

    def __str__(self):
        raise RuntimeError("no words")


@handler("awkward")
def awkward(payload: dict) -> dict:
    raise AwkwardError(1, 2)


@handler("unstorable")
def unstorable(payload: dict) -> dict:
    kinds = {
        "lock": lambda: {"a": {"b": [threading.Lock()]}},
        "list": lambda: [1, 2],
        "set": lambda: {"tags": {1}},
        "huge_int": lambda: {"n": 2**63},
        "key": lambda: {1: 2},
        "deep": _deep,
    }
    return kinds[payload["kind"]]()


@handler("surrogate")
def surrogate(payload: dict) -> dict:
    return {"text": "caf\udce9"}


@handler("large")
def large(payload: dict) -> dict:
    return {"text": "x" * payload["bytes"]}


@handler("prints")
def prints(payload: dict, job: JobContext) -> dict:
    print("to stdout")
    os.write(2, b"to stderr\n")
    subprocess.run(["echo", "from a child"], check=True)
    job.log.info("counted", pages=3)
    return {}


@handler("talks")
def talks(payload: dict, job: JobContext) -> dict:
    """Say one line after the other; die after the last one, in as many attempts as ordered."""
    for n in range(payload["lines"]):
        print(f"{job.attempt}: line {n} \u00e4", flush=True)
        time.sleep(payload.get("pause_s", 0.1))
    if job.attempt <= payload.get("crashes", 0):
        os._exit(3)
    return {}


@handler("progress")
def progress(payload: dict, job: JobContext) -> dict:
    steps = payload.get("steps", 5)
    for done in range(1, steps + 1):
        job.progress(done, steps, f"step {done}")
        if payload.get("pause_s"):
            time.sleep(payload["pause_s"])
    return {}


@handler("forks")
def forks(payload: dict) -> dict:
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return {"pid": os.getpid()}


@handler("files")
def files(payload: dict, job: JobContext) -> dict:
    with job.open_file(payload["file_id"]) as file:
        data = file.read()
    return {"bytes": len(data), "copy": job.save_file("copy.bin", data[::-1])}


@handler("follows")
def follows(payload: dict, job: JobContext) -> dict:
    return {"parent": job.parent_result(), "parent_job_id": payload["parent_job_id"]}


@handler("environment")
def environment(payload: dict) -> dict:
    return {"names": sorted(os.environ), "threads": os.environ.get("OMP_NUM_THREADS")}


@handler("busy")
def busy(payload: dict) -> dict:
    _busy(payload.get("seconds", 0.02))
    return {}


@handler("whoami")
def whoami(payload: dict, job: JobContext) -> dict:
    return {"pid": os.getpid(), "settings": dict(job.settings), "deadline": job.deadline}


@handler("tells_its_place")
def tells_its_place(payload: dict) -> dict:
    """Tell which cores it may run on, with its threads and children, and its priority; hold the worker for a while."""
    time.sleep(payload.get("seconds", 0))
    program = "import os; print(*sorted(os.sched_getaffinity(0)))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    return {
        "cores": sorted(os.sched_getaffinity(0)),
        "of_child": [int(core) for core in said.split()],
        "of_threads": [sorted(os.sched_getaffinity(int(task.name))) for task in Path("/proc/self/task").iterdir()],
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
    }


@handler("coroutine")
async def coroutine(payload: dict) -> dict:
    return {"ran": True}


def _deep() -> dict:
    root: dict = {}
    node = root
    for _ in range(5000):
        node["n"] = node = {}
    return root


def _busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def _leave_children(payload: dict) -> None:
    if payload.get("pids"):
        near = subprocess.Popen(["sleep", "600"])
        far = subprocess.Popen(["sleep", "600"], start_new_session=True)
        Path(payload["pids"]).write_text(f"{near.pid} {far.pid}")


@handler("unlinks_output")
def unlinks_output(payload: dict) -> dict:
    """Remove the file that takes our output, as a cleaner of temporary files would."""
    Path("/proc/self/fd/1").readlink().unlink(missing_ok=True)
    print("into nowhere")
    return {}


@handler("closes_stdout")
def closes_stdout(payload: dict) -> dict:
    sys.stdout.close()
    return {}


@handler("broken_text")
def broken_text(payload: dict, job: JobContext) -> dict:
    """Report and log what no UTF-8 can hold."""
    job.progress(1)
    job.progress(2, message="caf\udce9")
    job.log.info("read", path="caf\udce9", size=2**70)
    return {}


@handler("talks_nonsense")
def talks_nonsense(payload: dict) -> dict:
    """Send the supervisor what our own code never would."""
    from supervisor.worker import main  # noqa: PLC0415 - the worker it runs in

    main._worker.link.send(payload["message"])
    time.sleep(30)
    return {}


@handler("sends_bytes")
def sends_bytes(payload: dict) -> dict:
    """Announce a message of 4 GB on the control channel."""
    from supervisor.worker import main  # noqa: PLC0415 - as above

    main._worker.link._channel.sendall(b"\xff\xff\xff\xff")
    time.sleep(30)
    return {}


@handler("prints_much")
def prints_much(payload: dict) -> dict:
    print("x" * payload["bytes"])
    return {}


class Forged:
    """A pickle that runs a command where it is opened."""

    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@handler("forges_pickle")
def forges_pickle(payload: dict) -> dict:
    """Put a hostile pickle on the pipe that the executor unpickles results from, in the supervisor."""
    frame = sys._getframe()
    while "result_queue" not in frame.f_locals:
        frame = frame.f_back
    frame.f_locals["result_queue"]._writer.send(Forged(payload["canary"]))
    time.sleep(30)
    return {}


@handler("burns_and_segfaults")
def burns_and_segfaults(payload: dict) -> dict:
    """Use CPU and memory, say something, and die deep in a call."""
    print("the last words")
    hoard = bytearray(payload["mb"] << 20)
    hoard[::4096] = b"x" * len(hoard[::4096])
    _busy(payload["seconds"])
    _deep_in_a_call()
    return {"bytes": len(hoard)}


def _deep_in_a_call() -> None:
    ctypes.string_at(0)


@handler("hoards")
def hoards(payload: dict) -> dict:
    """Take `mb_per_s` megabytes a second, for ever, in this process or in a subprocess."""
    program = (
        "import time\nhoard = []\n"
        f"while True:\n    hoard.append(b'x' * ({payload['mb_per_s']} << 20 >> 4))\n    time.sleep(1 / 16)\n"
    )
    if payload.get("in_a_child"):
        subprocess.run([sys.executable, "-c", program], check=True)
    exec(program)
    return {}


@handler("holds")
def holds(payload: dict) -> dict:
    """Hold some megabytes for a while, and return."""
    hoard = b"x" * (payload["mb"] << 20)
    time.sleep(payload["seconds"])
    return {"bytes": len(hoard)}


LEAK: list[bytes] = []


@handler("leaks")
def leaks(payload: dict) -> dict:
    """Keep some megabytes for ever, as a handler with a bug does."""
    LEAK.append(b"x" * (payload["mb"] << 20))
    return {"pid": os.getpid()}


@handler("brief")
def brief(payload: dict, job: JobContext) -> dict:
    """Mostly a short job, and sometimes what nobody expected of it."""
    match payload.get("does"):
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raises":
            raise ValueError("for once")
        case "prints":
            print(f"printed by {payload['n']}")
        case "lowers a limit":
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        case "closes its channel":
            for descriptor in range(3, 256):
                with contextlib.suppress(OSError):
                    if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                        os.close(descriptor)
    time.sleep(payload.get("seconds", 0.002))
    return {"at": time.monotonic()}
