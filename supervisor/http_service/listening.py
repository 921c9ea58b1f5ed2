"""Where HTTP is served: the sockets, made before anything else starts, so that a mistake is known at once.

Quick to load; what serves is loaded when `[http]` is enabled, and then before the database is asked for anything.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import socket

from supervisor.config.settings import HttpSettings
from supervisor.errors import ConfigError

BACKLOG = 128
"""Connections that wait to be taken in; more are tried again by their clients."""


class PortTakenError(ConfigError):
    """Another program listens on the configured port."""


def load_server() -> None:
    """Load what serves; raises ConfigError where the extra is not installed, or not whole."""
    try:
        importlib.import_module("supervisor.http_service.server")
    except ImportError as error:
        missing = f"{error.name} is missing" if isinstance(error, ModuleNotFoundError) else str(error)
        raise ConfigError(
            f"[http] enabled = true: needs the extra `web`: pip install 'mongo-job-supervisor[web]' ({missing})"
        ) from None


def listen(settings: HttpSettings) -> list[socket.socket]:
    """Return a listening socket for each address of `host`; what connects now is answered as soon as it is served.

    Raises ConfigError with the reason: taken (PortTakenError), not allowed, no address of this machine.
    """
    sockets: list[socket.socket] = []
    with contextlib.ExitStack() as unless_all_is_well:
        for family, address in _addresses(settings):
            made = unless_all_is_well.enter_context(socket.socket(family, socket.SOCK_STREAM))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # our own connections of before do not count
            try:
                made.bind(address)
                made.listen(BACKLOG)
            except OSError as error:
                raise _refused(settings, error) from None
            sockets.append(made)
        unless_all_is_well.pop_all()
    return sockets


def shown(made: socket.socket) -> str:
    """Return the address of a socket as it stands in a URL."""
    host, port = made.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _addresses(settings: HttpSettings) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    """Return what `host` means here: `localhost` may be two addresses, of which only one is on a port of its choice."""
    host = settings.host.removeprefix("[").removesuffix("]")
    try:
        found = socket.getaddrinfo(host, settings.port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no host name"
        raise ConfigError(f'[http] host = "{settings.host}": cannot be resolved: {reason}') from None
    addresses: list[tuple[socket.AddressFamily, tuple[str, int]]] = []
    for family, _, _, _, address in found:
        if (family, address) not in addresses:
            addresses.append((family, address))  # type: ignore[arg-type]  # those of IPv6 have two fields more
    return addresses if settings.port else addresses[:1]


def _refused(settings: HttpSettings, error: OSError) -> ConfigError:
    where = f"{settings.host}:{settings.port}"
    match error.errno:
        case errno.EADDRINUSE:
            return PortTakenError(
                f"[http] port = {settings.port}: {where} is taken by another program, or another supervisor: "
                "end it or choose another port"
            )
        case errno.EACCES:
            return ConfigError(f"[http] port = {settings.port}: this user may not listen on {where}")
        case errno.EADDRNOTAVAIL:
            return ConfigError(f'[http] host = "{settings.host}": is no address of this machine')
    return ConfigError(f"[http]: cannot listen on {where}: {error.strerror}")
