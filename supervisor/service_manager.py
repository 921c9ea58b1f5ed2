"""Telling the service manager how things stand: sd_notify(3), for systemd and whoever speaks its protocol.

One datagram per message, to the socket that the manager has named in NOTIFY_SOCKET. Without one nothing is sent; what
cannot be sent is said once, and stops nobody.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, MutableMapping

import structlog

log = structlog.get_logger("supervisor.service_manager")

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
EXTENSION_S = 30
"""For what comes between two beats of the claim loop, and behind the last one of a stop."""
SEND_TIMEOUT_S = 1.0
US = 1_000_000


class ServiceManager:
    """The line to the service manager. What is said is about this process alone: workers do not get the variables."""

    def __init__(self, address: str = "", *, watchdog: bool = False) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._watchdog = watchdog
        self._settled = False
        """Whether it is up and not stopping: before and after, the manager waits for us with a time limit."""
        self._reloading = False
        self._failed = False
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    @property
    def listens(self) -> bool:
        """Whether there is a service manager to tell anything."""
        return self._socket is not None

    def beat(self) -> None:
        """Say that the claim loop gets on: that feeds the watchdog, and lasts a start and a stop."""
        lines = ["WATCHDOG=1"] if self._watchdog else []
        if not self._settled:
            lines.append(f"EXTEND_TIMEOUT_USEC={EXTENSION_S * US}")
        self._tell(*lines)

    def ready(self) -> None:
        """Say that jobs are being claimed."""
        self._settled = True
        self._tell("READY=1", important=True)

    def status(self, text: str) -> None:
        """Say in one line what is going on."""
        self._tell(f"STATUS={' '.join(text.split())}")

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """Say that the configuration is being read, and after the block that it was."""
        if not self._settled or self._reloading:  # READY would end a start, or has to wait for the outer block
            yield
            return
        self._reloading = True
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", important=True)
        try:
            yield
        finally:
            self._reloading = False
            self._tell("READY=1", important=True)

    def stopping(self) -> None:
        """Say that the drain has begun."""
        self._settled = False
        self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={EXTENSION_S * US}", important=True)

    def _tell(self, *lines: str, important: bool = False) -> None:
        """Send a message; only what must not get lost may wait for a moment in which the manager reads."""
        if self._socket is None or not lines:
            return
        self._socket.settimeout(SEND_TIMEOUT_S if important else 0)
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._failed:
                log.warning("service_manager.unreachable", socket=self._address.replace("\0", "@"), reason=str(error))
            self._failed = True


def take(environ: MutableMapping[str, str]) -> ServiceManager:
    """Return the line that `environ` names, and take it out of there: a worker could speak in our name."""
    found = {name: environ.pop(name, "") for name in VARIABLES}
    for_us = found["WATCHDOG_PID"] in ("", str(os.getpid()))
    return ServiceManager(found["NOTIFY_SOCKET"], watchdog=for_us and found["WATCHDOG_USEC"].isdecimal())
