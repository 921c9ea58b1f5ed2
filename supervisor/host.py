"""Which machine and which process this is, so that a successor can tell whether it is dead."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supervisor.proc import boot_id, is_alive, start_ticks


def identity() -> dict[str, Any]:
    """Return what tells this process from every other: host, machine, boot, pid namespace, pid and start."""
    return {
        "host": socket.gethostname(),
        "machine_id": _read("/etc/machine-id"),
        "boot_id": boot_id(),
        "pid_namespace": _link("/proc/self/ns/pid"),
        "pid": os.getpid(),
        "process_start_ticks": start_ticks(),
    }


def is_dead(document: Mapping[str, Any]) -> bool:
    """Tell whether the supervisor that wrote this heartbeat document is certainly dead.

    Certain is: the same machine has been booted since, or the same boot and pid namespace has no such process. Of
    another container or a namesake elsewhere nothing is certain; its leases expire by themselves.
    """
    here = identity()
    if not here["boot_id"] or document.get("host") != here["host"]:
        return False
    if document.get("boot_id") != here["boot_id"]:
        return bool(here["machine_id"]) and document.get("machine_id") == here["machine_id"]
    if document.get("pid_namespace") != here["pid_namespace"]:
        return False
    pid, ticks = document.get("pid"), document.get("process_start_ticks")
    return isinstance(pid, int) and isinstance(ticks, int) and not is_alive(pid, ticks)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""
