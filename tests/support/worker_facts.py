"""Handlers that tell in what kind of process they run; workers can be kept from starting."""

import multiprocessing
import os
import sys
from pathlib import Path

from supervisor import handler


@handler.setup
def refuse_to_start() -> None:
    flag = os.environ.get("NO_WORKERS_IF")
    if flag and Path(flag).exists() and multiprocessing.parent_process() is not None:
        os._exit(3)


@handler("worker_facts")
def worker_facts(payload: dict) -> dict:
    return {
        "pid": os.getpid(),
        "main_imported": hasattr(sys.modules["__mp_main__"], "AN_APPLICATION"),
        "ours": [name for name in os.environ if name.startswith("SUPERVISOR_")],
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "inherited": os.environ.get("INHERITED"),
    }
