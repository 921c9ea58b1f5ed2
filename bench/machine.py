"""The machine that was measured on, as far as it says something about the figures: no names, no paths."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pymongo
from pymongo import MongoClient

ROOT = Path(__file__).parent.parent
MEASURED = ["supervisor", "handlers"]


def describe(uri: str) -> dict[str, Any]:
    """Return what belongs beside every figure."""
    with MongoClient[Any](uri) as client:
        mongodb = client.admin.command("buildInfo")["version"]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu_model(),
        "memory_gb": round(psutil.virtual_memory().total / (1 << 30), 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "mongodb": mongodb,
        "pymongo": pymongo.version,
    }


def today() -> str:
    """Return the date, of the day and the minute."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def revision() -> str:
    """Return the last commit that changed what is measured; `+` where the working tree differs from it."""
    commit = _git("log", "-1", "--format=%h", "--", *MEASURED)
    return f"{commit}+" if _git("status", "--porcelain", "--", *MEASURED) else commit or "unknown"


def load_average() -> float:
    """Return how many processes wanted a CPU in the last minute."""
    return round(os.getloadavg()[0], 2)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found.group(1) if found else platform.machine()
