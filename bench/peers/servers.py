"""Redis and PostgreSQL for peers: installed with apt if need be, on a port and in a folder of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.measuring import BenchError
from tests.support.until import until

PACKAGES = {"redis-server": "redis-server", "initdb": "postgresql"}


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Run a Redis that appends every write to a file, as a queue's Redis has to; return its URL."""
    port = _free_port()
    command = [_program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--appendonly", "yes"]
    with _running([*command, "--dir", str(folder)], folder / "redis.log", port):
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Run a PostgreSQL with its defaults; return what to connect to. It refuses to run as root."""
    initdb, port = Path(_program("initdb")), _free_port()
    with tempfile.TemporaryDirectory(prefix="bench-postgres-") as data:
        other = []
        if os.geteuid() == 0:
            shutil.chown(data, "postgres", "postgres")
            other = ["runuser", "-u", "postgres", "--"]
        make = [*other, str(initdb), "--pgdata", data, "--auth", "trust", "--username", "bench"]
        made = subprocess.run(make, check=False, capture_output=True, text=True, cwd="/")
        if made.returncode:
            raise BenchError(f"initdb: {made.stderr.strip()[-300:]}")
        command = [*other, str(initdb.with_name("postgres")), "-D", data, "-p", str(port), "-k", ""]
        with _running(command, folder / "postgres.log", port):
            yield f"host=127.0.0.1 port={port} user=bench dbname=postgres"


RUNNING = {"redis": redis, "postgres": postgres}


@contextlib.contextmanager
def _running(command: list[str], log: Path, port: int) -> Iterator[None]:
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd="/", start_new_session=True)
    try:
        until(lambda: process.poll() is not None or _listens(port), 60, f"{command[0]} to listen")
        if process.poll() is not None:
            raise BenchError(f"{command[0]} does not start: {log.read_text()[-300:]}")
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)  # PostgreSQL's fast shutdown; Redis ends as well
        process.wait(30)


def _program(name: str) -> str:
    if found := _find(name):
        return found
    package = PACKAGES[name]
    if os.geteuid() or not shutil.which("apt-get"):
        raise BenchError(f"--peers: {name} is missing; install it, on Debian with: sudo apt-get install {package}")
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
    for command in (["apt-get", "update", "-qq"], install):
        subprocess.run(command, check=True, env=environ, stdout=subprocess.DEVNULL)
    return _find(name) or package


def _find(name: str) -> str | None:
    newest_first = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return shutil.which(name) or next(map(str, newest_first), None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
