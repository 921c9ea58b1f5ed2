"""What the fork server loads before it forks the first worker.

`multiprocessing` swallows an ImportError of a preloaded module in silence and lets any other exception kill the fork
server, so exactly one module is preloaded: this one, which catches everything and keeps a report that every worker
hands on with its first message. It runs at import, in the fork server only.

A module or a hook that leaves something running which no fork can have is left to the workers, who load it each for
itself: this process begins anew without it, by an exec, since what it has is spoilt. Whatever ends or hangs it is
found in its notes by the supervisor, whose next fork server does the same.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

PLAN_VARIABLE = "MONGO_JOB_SUPERVISOR_PRELOAD"
"""Environment variable with the plan, as JSON: {"modules": [...], "sys_path": [...], "pythonpath": str | null,
"obituaries": folder, "log": {"level": ..., "format_": ...}, "lifeline": descriptor, "notes": file,
"left_out": {module or hook: why}, "deferred": [hook]}."""


@dataclass
class Report:
    """What was loaded in the fork server; `pid` is the fork server's."""

    pid: int
    modules: list[str] = field(default_factory=list)
    hooks: list[str] = field(default_factory=list)
    """Fork-safe hooks that have run here; workers do not run them again."""
    failures: dict[str, str] = field(default_factory=dict)
    """Module or hook → traceback."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Module or hook that every worker loads for itself → why."""
    deferred: list[str] = field(default_factory=list)
    """Hooks among them that ended or hung a fork server: no worker runs them before a job needs them."""
    seconds: float = 0.0
    peak_mb: float = 0.0

    def includes(self, name: str) -> bool:
        """Tell whether this module or hook is to be loaded here."""
        return name not in self.left_out


REPORT: Report | None = None

_Step = Callable[[str], contextlib.AbstractContextManager[None]]


def load(plan: dict[str, Any], start_over: Callable[[str, str], None]) -> Report:
    """Import the planned modules and run their fork-safe hooks; never raises, reports instead.

    `start_over` is called with a module or a hook and what it has left running; it does not return.
    """
    report, started = Report(os.getpid(), left_out=plan["left_out"], deferred=plan["deferred"]), time.monotonic()
    step = functools.partial(_step, plan, start_over)
    _import_modules(plan["modules"], report, step)
    _run_hooks(report, step)
    _prepare_handlers()
    report.modules = plan["modules"]
    report.seconds = time.monotonic() - started
    report.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return report


def _import_modules(modules: list[str], report: Report, step: _Step) -> None:
    from supervisor.registry import import_module, with_submodules  # noqa: PLC0415 - only where it is needed

    for given in filter(report.includes, modules):
        with step(given):
            names = with_submodules(given)
        for name in filter(report.includes, names):
            with step(name):
                if failure := import_module(name):
                    report.failures[name] = failure.traceback


def _run_hooks(report: Report, step: _Step) -> None:
    from supervisor.registry import REGISTRY  # noqa: PLC0415 - as above

    for setup in [setup for setup in REGISTRY.setups if setup.fork_safe]:
        if not report.includes(setup.module) or not report.includes(setup.name):
            continue
        with step(setup.name):
            try:
                setup.function()
            except Exception:  # noqa: BLE001 - a hook of the user's; the worker tries it again and its jobs say why
                report.failures[setup.name] = traceback.format_exc()
            else:
                report.hooks.append(setup.name)


def _prepare_handlers() -> None:
    """Load what the first job of every worker would wait for."""
    from supervisor.registry import REGISTRY  # noqa: PLC0415 - as above

    for spec in REGISTRY.handlers.values():
        with contextlib.suppress(Exception):  # its jobs will say what is wrong
            spec.prepare()


@contextlib.contextmanager
def _step(plan: dict[str, Any], start_over: Callable[[str, str], None], name: str) -> Iterator[None]:
    """Write down what is loaded now, and see afterwards what it has left."""
    from supervisor.worker import load_notes, unforkable  # noqa: PLC0415 - as above

    load_notes.append(plan["notes"], at=name)
    yield
    if left := unforkable.left_running():
        start_over(name, f"it left {left}, which workers forked from there would not have")


def settle(plan: dict[str, Any]) -> None:
    """Take this process out of its terminal's reach, and see to it that nothing below outlives it."""
    from supervisor import logs  # noqa: PLC0415 - as above
    from supervisor.process_tree import become_subreaper, kill_descendants  # noqa: PLC0415
    from supervisor.worker import forks, lifeline, obituaries  # noqa: PLC0415

    logs.configure(**plan["log"], libraries_as_text=True)
    obituaries.keep(plan["obituaries"])
    forks.survive_refusals()

    if os.getsid(0) != os.getpid():  # it is so already after a start over
        os.setsid()  # a Ctrl-C or a closed terminal is for the supervisor to handle
    lifeline.hold(plan["lifeline"])  # a hook may hang, in C code too, when the supervisor is gone
    for number in (signal.SIGHUP, signal.SIGTERM):  # a service manager may send it to all: then jobs could not drain
        signal.signal(number, signal.SIG_IGN)
    become_subreaper()
    # what a dead worker left behind becomes our child; multiprocessing finds that worth a warning
    warnings.filterwarnings("ignore", "forkserver: waitpid returned unexpected pid")
    atexit.register(kill_descendants)  # the fork server exits when its supervisor and all workers are gone
    sys.path[:] = plan["sys_path"]
    if plan["pythonpath"] is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = plan["pythonpath"]


def serve_from_now_on(plan: dict[str, Any]) -> None:
    """Make what was loaded ready to be shared, and say so."""
    from supervisor.worker import load_notes  # noqa: PLC0415 - as above

    gc.collect()
    gc.freeze()  # keeps the collector from touching, and so copying, pages that all workers share
    load_notes.append(plan["notes"], ready=True)
    os.close(plan["lifeline"])  # from here on the fork server sees by itself when the supervisor is gone


def _start_over(environ: Mapping[str, str], plan: dict[str, Any], name: str, why: str) -> NoReturn:
    from supervisor.process_tree import kill_descendants  # noqa: PLC0415 - as above
    from supervisor.worker import load_notes  # noqa: PLC0415

    load_notes.append(plan["notes"], left_out=name, why=why)
    plan["left_out"][name] = why
    kill_descendants()
    again = {**environ, PLAN_VARIABLE: json.dumps(plan)}
    os.execve(sys.executable, sys.orig_argv, again)  # noqa: S606 - the very program that runs already


def _main() -> None:
    global REPORT  # noqa: PLW0603 - the one thing this module is for
    environ = dict(os.environ)
    plan = json.loads(os.environ.pop(PLAN_VARIABLE))
    settle(plan)
    for module in ("supervisor.worker.main", "supervisor.pool.context", "concurrent.futures.process"):
        importlib.import_module(module)  # so that no worker has to
    REPORT = load(plan, functools.partial(_start_over, environ, plan))
    serve_from_now_on(plan)


if PLAN_VARIABLE in os.environ and "multiprocessing.forkserver" in sys.modules:
    _main()
