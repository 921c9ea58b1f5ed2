"""A supervisor that serves HTTP, seen by its clients."""

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx

from tests.support.supervising import RunningSupervisor

TOKEN = "a-token-of-the-tests"
BOUNDARY = "between"


def http(**keys: Any) -> dict[str, Any]:
    """Return the table `[http]`: enabled, on a port that is free, with a token."""
    return {"enabled": True, "port": 0, "token": TOKEN, **keys}


def address_of(supervisor: RunningSupervisor) -> str:
    """Return where it serves."""
    return str(supervisor.wait_for("http.serving", timeout_s=60)["address"])


def client_of(supervisor: RunningSupervisor, token: str | None = TOKEN) -> httpx.Client:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=address_of(supervisor), headers=headers, timeout=30, trust_env=False)


@contextlib.contextmanager
def half_an_upload(supervisor: RunningSupervisor) -> Iterator[socket.socket]:
    """Send a form with a file, but not its end, and yield the connection."""
    host, _, port = address_of(supervisor).removeprefix("http://").rpartition(":")
    form = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="handler"\r\n\r\nok\r\n'
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    ).encode()
    head = (
        f"POST /jobs/upload HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: 2000000\r\n\r\n"
    ).encode()
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head + form + bytes(1_000_000))
        yield connection


def rest_of(connection: socket.socket) -> str:
    """Read until the other side closes."""
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces).decode()


def body_of(answer: str) -> Any:
    return json.loads(answer.partition("\r\n\r\n")[2])
