"""What runs inside a worker process.

`initialize` turns a fresh fork into a worker: its own session, a watch on the supervisor, captured output, handlers.
`run_handlers` runs a group of jobs and always returns bytes: no exception of a handler, not even SystemExit or
StopIteration, leaves this module as an exception.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import bson

from supervisor.context import JobContext
from supervisor.core.outcome import ErrorKind, Raised, Returned
from supervisor.errors import JobCancelled, JobInterrupted, JobStopped, JobTimeout
from supervisor.proc import start_ticks
from supervisor.process_tree import become_subreaper
from supervisor.registry import REGISTRY, import_modules
from supervisor.worker import forensics, forks, lifeline, obituaries, preload
from supervisor.worker.link import ChildLink, StopSwitch, job_log, print_line
from supervisor.worker.meter import Meter, cpu_s
from supervisor.worker.outcomes import TRACEBACK_BYTES, decode_payload, explain, outcome_of
from supervisor.worker.results import encode_result
from supervisor.worker.setups import Setups
from supervisor.worker.surroundings import Surroundings, text_stream
from supervisor.worker.tickets import Tickets
from supervisor.worker.wire import Call, Stopped, decode_call, encode_outcome, frame, read_order, split_group

START_FAILED = 70
"""Exit code of a worker that could not be set up; EX_SOFTWARE of sysexits.h."""

# real-time signals: no library and no handler uses these, unlike SIGALRM or SIGUSR1
STOP_SIGNALS: dict[int, type[JobStopped]] = {
    int(signal.SIGRTMIN) + 1: JobTimeout,
    int(signal.SIGRTMIN) + 2: JobCancelled,
    int(signal.SIGRTMIN) + 3: JobInterrupted,
}


@dataclass(frozen=True)
class WorkerPlan:
    """What a new worker is told: its files, the modules to import, its priority."""

    spool: str
    """Folder for files on their way."""
    output: str
    """File for what it and its subprocesses print."""
    stacks: str
    """File for the Python stacks at its end."""
    live_stacks: str
    """File for the Python stacks that somebody asks for."""
    orders: str
    """File that names the job which an order to stop is meant for."""
    modules: tuple[str, ...]
    nice: int = 0
    """By how much its priority is lower than the supervisor's."""


class Worker:
    """The state of this worker process."""

    def __init__(self, plan: WorkerPlan, channel: socket.socket, tickets: Tickets) -> None:
        self.plan = plan
        self.tickets = tickets
        self.serving = 0
        """The number of the job that runs, or ran last."""
        self.spool = Path(plan.spool)
        self.switch = StopSwitch()
        self.link = ChildLink(channel, self.spool, self.switch)
        self.worn = False
        self.surroundings: Surroundings | None = None
        self.setups = Setups(REGISTRY, preload.REPORT)


_worker: Worker | None = None


def initialize(plan: WorkerPlan, channel: socket.socket, tickets: Tickets) -> None:
    """Make this fresh process a worker; one that cannot be set up says why and exits."""
    global _worker  # noqa: PLW0603 - there is one worker in a process, and the executor calls plain functions
    try:
        obituaries.stop_keeping()
        forks.be_refused_again()
        os.setsid()
        become_subreaper()
        _die_with_supervisor()
        forensics.be_killed_first()
        os.nice(plan.nice)
        _redirect_output(plan.output)
        forensics.arm(plan.stacks, plan.live_stacks)
        _worker = Worker(plan, channel, tickets)
        _install_signals(_worker)
        import_modules(plan.modules)
        _worker.setups.run(lambda hook: channel.sendall(frame({"setup": hook})))
        _worker.surroundings = Surroundings()
    except BaseException:  # noqa: BLE001 - the executor would only say that it broke
        channel.sendall(frame({"broken": traceback.format_exc()[-TRACEBACK_BYTES:]}))
        os._exit(START_FAILED)


def hello() -> bytes:
    """Answer the handshake: who this is and what it inherited from the fork server."""
    return bson.encode({"pid": os.getpid(), "started": start_ticks(), **_this_worker().setups.report()})


def run_handlers(data: bytes) -> bytes:
    """Run the jobs of a group, one after another, as long as there are tickets for them. Never raises.

    Each outcome is on its way before the next job begins: whatever that one does, this one has ended. Returns what
    could not be said because a handler has closed the channel, else nothing.
    """
    worker, begun = _this_worker(), False
    for number, call in split_group(data):
        if worker.worn or not worker.tickets.take():
            break
        if not begun:
            _say_started(worker, number)
            begun = True
        ended = _serve(worker, number, call)
        try:
            worker.link.send(ended)
        except OSError:
            worker.worn = True
            return frame(ended)
    return b""


def _serve(worker: Worker, number: int, data: bytes) -> dict[str, Any]:
    """Run one job and return what is to be said of its end."""
    started, meter, pid = time.monotonic(), Meter(), os.getpid()
    call = decode_call(data)
    worker.link.forget_progress()
    worker.switch.reset()
    worker.serving = number
    outcome = _run(worker, call, number)
    if os.getpid() != pid:  # the handler forked and its copy came back here; two processes must not serve one queue
        os._exit(0)
    usage = meter.read(time.monotonic() - started)
    try:
        _tidy_up(worker)
        answer = encode_outcome(replace(outcome, usage=usage), worker.spool, number)
    except Exception as error:  # noqa: BLE001 - a full disk, a closed stdout: never the end of the worker
        failed = Raised(kind=ErrorKind.EXCEPTION, error=explain(error), usage=usage)
        answer = encode_outcome(failed, worker.spool, number)
    return {"ended": number, "outcome": answer, "printed": _printed(), "cpu_s": cpu_s()}


def _say_started(worker: Worker, number: int) -> None:
    with contextlib.suppress(OSError):  # an earlier job may have closed the channel
        worker.link.send({"started": number, "cpu_s": cpu_s()})


def _printed() -> int:
    """Return how many bytes of output there are by now; where this job's end, the next one's begin."""
    try:
        return os.fstat(1).st_size
    except OSError:
        return 0


def _tidy_up(worker: Worker) -> None:
    worker.link.flush_progress()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # the handler may have closed it
            stream.flush()
    if worker.surroundings is not None and (worn := worker.surroundings.restore()):
        worker.worn = True  # the jobs behind it need a fresh worker
        worker.link.send({"worn": worn})
    _reap_adopted()


def _run(worker: Worker, call: Call, number: int) -> Returned | Raised | Stopped:
    """Turn whatever the handler does into an outcome."""
    try:
        value = _call_handler(worker, call)
        result, spooled = encode_result(value, call.result_inline_bytes, worker.spool, f"result-{number}.json")
    except BaseException as error:  # noqa: BLE001 - SystemExit and the like are a handler's errors too
        return outcome_of(error)
    return Returned(result=result, spool_file=spooled)


def _call_handler(worker: Worker, call: Call) -> Any:
    spec = REGISTRY.get(call.handler)
    raw = decode_payload(call.payload)
    payload = spec.parse_payload(raw)
    worker.link.parent_job_id = raw.get("parent_job_id")
    worker.setups.run_late(spec.module)
    arguments = (payload, _context(worker, call)) if spec.takes_context else (payload,)
    with worker.switch.armed():
        value = spec.function(*arguments)
        return asyncio.run(value) if inspect.iscoroutine(value) else value


def _context(worker: Worker, call: Call) -> JobContext:
    return JobContext(
        id=call.job_id,
        attempt=call.attempt,
        handler=call.handler,
        token=call.token,
        link=worker.link,
        settings=MappingProxyType(call.settings),
        log=job_log(print_line, worker.link.send),
        ends_at=time.monotonic() + call.timeout_s,
    )


def _die_with_supervisor() -> None:
    """Have the kernel SIGKILL this session the moment the supervisor is gone, whatever this process is doing then.

    The supervisor holds the other end of the sentinel pipe.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("a worker must be started by multiprocessing")
    lifeline.hold(parent.sentinel)


def _redirect_output(path: str) -> None:
    """Send stdout and stderr, of this process and of all it starts, to a file the supervisor can read after a crash."""
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, source in ((0, nothing), (1, target), (2, target)):
        os.dup2(source, descriptor)
    os.close(target)
    os.close(nothing)
    sys.stdout, sys.stderr = text_stream(1), text_stream(2)


def _install_signals(worker: Worker) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for the supervisor to handle
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)

    def order(number: int, _frame: Any) -> None:
        if read_order(worker.plan.orders) in (worker.serving, None):  # by now the next job may be running
            worker.switch.order(STOP_SIGNALS[number])

    for stop in STOP_SIGNALS:
        signal.signal(stop, order)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _reap_adopted() -> None:
    """Collect ended descendants whose own parent is gone; they are our children since we are a subreaper."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None:
            return
        os.waitpid(ended.si_pid, os.WNOHANG)


def _this_worker() -> Worker:
    if _worker is None:
        raise RuntimeError("initialize() has not run in this process")
    return _worker
