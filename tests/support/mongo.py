"""Real mongods for tests: a replica set of one, or of several, on loopback ports, with test commands and fail points.

Their data is disposable: they are stopped by SIGKILL and their directories removed. They die with the process (and,
a rule of the kernel, with the thread) that started them.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from supervisor.embedded.mongo import find_mongod
from tests.support.until import until

REPLICA_SET = "test"
START_S = 30.0
ELECTION_MS = 2000  # the default of 10 s makes failover tests long
HEARTBEAT_TIMEOUT_S = 4  # a member that hangs is noticed by this; the default of 10 s makes such tests long
PORT_TRIES = 5
CLOCK = "clock"
CLOCK_WITHIN_S = 10

# Between fork and exec of mongod; a preexec_fn is unsafe in a process with threads.
DIE_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
if os.getppid() != int(sys.argv[1]):
    sys.exit("the test process is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass
class RunningMongod:
    """One mongod; `kill` and `restart` keep its data and its port, `stop` ends both."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes]
    options: Sequence[str] = ()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def uri(self) -> str:
        """Direct, so that a proxy in front of it is not walked around."""
        return f"mongodb://{self.address}/?directConnection=true"

    def client(self, timeout_ms: int = 2000) -> MongoClient[dict[str, Any]]:
        """Open a client for the test's own questions; the caller closes it."""
        return MongoClient(self.uri, timeoutMS=timeout_ms, serverSelectionTimeoutMS=timeout_ms)

    def hello(self) -> dict[str, Any]:
        """What the node says of itself; empty if it does not answer."""
        try:
            with self.client() as client:
                return dict(client.admin.command("hello"))
        except PyMongoError:
            return {}

    def alive(self) -> bool:
        return self.process.poll() is None

    def answers_or_ended(self) -> bool:
        return not self.alive() or bool(self.hello())

    def kill(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal; after SIGKILL, wait for the end."""
        self.process.send_signal(sig)
        if sig == signal.SIGKILL:
            self.process.wait()

    def set_clock(self, ahead_s: float) -> None:
        """Move its clock, which must be its own; durations stay what they are."""
        (self.directory / CLOCK).write_text(f"{ahead_s:+.3f}")

    def put_clock(self, moment: datetime) -> None:
        """Have its clock, which must be its own, show `moment` now; returns when it does."""
        self.set_clock((moment - datetime.now(UTC)).total_seconds())

        def shows() -> bool:
            return abs((self.hello()["localTime"].replace(tzinfo=UTC) - moment).total_seconds()) < CLOCK_WITHIN_S

        until(shows, CLOCK_WITHIN_S, f"its clock to show {moment}")

    def restart(self) -> None:
        """Start it again after its end, on the same data and port; returns when it is primary or secondary."""
        if self.alive():
            self.kill()
        self.process = _spawn(self.directory, self.port, self.options)
        until(self._serves, START_S, f"the mongod on port {self.port} to serve again")

    def stop(self) -> None:
        """End it at once and remove its data."""
        if self.alive():
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _serves(self) -> bool:
        hello = self.hello()
        return bool(hello.get("isWritablePrimary") or hello.get("secondary"))


@dataclass
class RunningReplicaSet:
    """Several mongods with elections of some 2 s."""

    members: list[RunningMongod] = field(default_factory=list)

    @property
    def uri(self) -> str:
        addresses = ",".join(member.address for member in self.members)
        return f"mongodb://{addresses}/?replicaSet={REPLICA_SET}"

    def primary(self, timeout_s: float = START_S) -> RunningMongod:
        """Wait for a primary."""
        return until(self._primary, timeout_s, "a primary of the replica set")

    def stop(self) -> None:
        for member in self.members:
            member.stop()

    def _primary(self) -> RunningMongod | None:
        alive = [member for member in self.members if member.alive()]
        return next((member for member in alive if member.hello().get("isWritablePrimary")), None)


def start_mongod(tmp_dir: Path, options: Sequence[str] = ()) -> RunningMongod:
    """Start a replica set of one; returns when it is primary. `options` are further ones for mongod.

    Raises DatabaseUnreachableError if this machine has no mongod.
    """
    return start_replica_set(tmp_dir, 1, options).members[0]


def start_replica_set(
    tmp_dir: Path, members: int = 3, options: Sequence[str] = (), *, own_clocks: bool = False
) -> RunningReplicaSet:
    """Start a replica set; returns when it has a primary and every other member is a secondary.

    `own_clocks` gives each member a clock of its own (`set_clock`), where libfaketime is installed.
    """
    replica_set = RunningReplicaSet()
    try:
        for _ in range(members):
            node = _start_node(tmp_dir, ("--replSet", REPLICA_SET, *options), own_clock=own_clocks)
            replica_set.members.append(node)
        _initiate(replica_set)
    except BaseException:
        replica_set.stop()
        raise
    return replica_set


def start_standalone(tmp_dir: Path) -> RunningMongod:
    """Start a mongod that is no replica set: one that a supervisor must refuse."""
    return _start_node(tmp_dir, ())


def _initiate(replica_set: RunningReplicaSet) -> None:
    config = {
        "_id": REPLICA_SET,
        "members": [{"_id": n, "host": member.address} for n, member in enumerate(replica_set.members)],
        "settings": {"electionTimeoutMillis": ELECTION_MS, "heartbeatTimeoutSecs": HEARTBEAT_TIMEOUT_S},
    }
    with replica_set.members[0].client(timeout_ms=20_000) as client:
        client.admin.command("replSetInitiate", config)
    replica_set.primary()
    for member in replica_set.members:
        until(member._serves, START_S, f"the member on port {member.port} to serve")


def faked_clock(offset_file: Path) -> dict[str, str]:
    """Return the environment of a process whose wall clock differs by the seconds in `offset_file`.

    Empty where libfaketime (the Debian package) is missing.
    """
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        return {}
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(offset_file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # else waits of threads end late: a write of a replica set took a second
    }


def _start_node(tmp_dir: Path, options: Sequence[str], *, own_clock: bool = False) -> RunningMongod:
    """Start one mongod that answers; on another port when somebody took the free one first."""
    for _ in range(PORT_TRIES):
        directory = Path(tempfile.mkdtemp(prefix="mongod-", dir=tmp_dir))
        if own_clock:
            (directory / CLOCK).write_text("+0")
        port = _free_port()
        node = RunningMongod(directory, port, _spawn(directory, port, options), options)
        until(node.answers_or_ended, START_S, f"a mongod on port {port} to answer")
        if node.alive():
            return node
        log = (directory / "mongod.log").read_text("utf-8", "replace") if (directory / "mongod.log").exists() else ""
        node.stop()
        if "in use" not in log:
            break
    message = f"mongod ended with {node.process.returncode} at its start: {log[-2000:]}"
    raise RuntimeError(message)


def _spawn(directory: Path, port: int, options: Sequence[str]) -> subprocess.Popen[bytes]:
    command = [
        *(sys.executable, "-I", "-S", "-c", DIE_WITH_PARENT, str(os.getpid()), str(find_mongod())),
        *("--dbpath", str(directory), "--logpath", str(directory / "mongod.log"), "--logappend", "--quiet"),
        *("--bind_ip", "127.0.0.1", "--port", str(port), "--nounixsocket"),
        *("--wiredTigerCacheSizeGB", "0.5", "--oplogSize", "256"),
        *("--setParameter", "enableTestCommands=1", "--setParameter", "diagnosticDataCollectionEnabled=false"),
        *options,
    ]
    clock = directory / CLOCK
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **(faked_clock(clock) if clock.exists() else {})},
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
