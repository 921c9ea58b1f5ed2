"""What the fork server loads before it forks the first worker.

`multiprocessing` swallows an ImportError of a preloaded module in silence and lets any other exception kill the fork
server, so exactly one module is preloaded: this one, which catches everything and keeps a report that every worker
hands on with its first message. It runs at import, in the fork server only.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import sys
import time
import traceback
import warnings
from dataclasses import dataclass, field
from typing import Any

PLAN_VARIABLE = "MONGO_JOB_SUPERVISOR_PRELOAD"
"""Environment variable with the plan, as JSON: {"modules": [...], "sys_path": [...], "pythonpath": str | null,
"obituaries": folder, "log": {"level": ..., "format_": ...}}."""


@dataclass
class Report:
    """What was loaded in the fork server; `pid` is the fork server's."""

    pid: int
    modules: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    """Module or hook → traceback."""
    seconds: float = 0.0


REPORT: Report | None = None
SETUPS_DONE: set[tuple[str, str]] = set()
"""Fork-safe setup hooks that have run here, as (module, qualified name); workers do not run them again."""


def load(plan: dict[str, Any]) -> Report:
    """Import the planned modules and run their fork-safe hooks; never raises, reports instead."""
    from supervisor.registry import REGISTRY, import_modules  # noqa: PLC0415 - only where it is needed

    report, started = Report(os.getpid()), time.monotonic()
    for failure in import_modules(plan["modules"]):
        report.failures[failure.module] = failure.traceback
    for setup in [setup for setup in REGISTRY.setups if setup.fork_safe]:
        name = f"{setup.module}.{setup.function.__qualname__}"
        try:
            setup.function()
        except Exception:  # noqa: BLE001 - a hook of the user's; the worker tries it again and its jobs say why
            report.failures[name] = traceback.format_exc()
        else:
            SETUPS_DONE.add((setup.module, setup.function.__qualname__))
    report.modules = plan["modules"]
    report.seconds = time.monotonic() - started
    return report


def settle(plan: dict[str, Any]) -> None:
    """Take this process out of its terminal's reach, and see to it that nothing below outlives it."""
    from supervisor import logs  # noqa: PLC0415 - as above
    from supervisor.process_tree import become_subreaper, kill_descendants  # noqa: PLC0415
    from supervisor.worker import forks, obituaries  # noqa: PLC0415

    logs.configure(**plan["log"], libraries_as_text=True)
    obituaries.keep(plan["obituaries"])
    forks.survive_refusals()

    os.setsid()  # a Ctrl-C or a closed terminal is for the supervisor to handle
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


def _main() -> None:
    global REPORT  # noqa: PLW0603 - the one thing this module is for
    plan = json.loads(os.environ.pop(PLAN_VARIABLE))
    settle(plan)
    for module in ("supervisor.worker.main", "supervisor.pool.context", "concurrent.futures.process"):
        importlib.import_module(module)  # so that no worker has to
    REPORT = load(plan)
    gc.collect()
    gc.freeze()  # keeps the collector from touching, and so copying, pages that all workers share


if PLAN_VARIABLE in os.environ and "multiprocessing.forkserver" in sys.modules:
    _main()
