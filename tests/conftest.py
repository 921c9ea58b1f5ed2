"""Fixtures that every test may use: a real mongod, a fresh database, and a watch over what tests leave running."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

from supervisor.errors import DatabaseUnreachableError
from tests.support.mongo import RunningMongod, faked_clock, start_mongod, start_replica_set
from tests.support.processes import command_line, related
from tests.support.until import until

# a property holds or it does not; that a busy machine takes long to look is no finding
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

pytest_plugins = ["pytester"]

WATCHED = {"integration", "acceptance"}
LEFTOVERS_S = 5.0


@pytest.fixture(scope="session")
def lasting() -> set[int]:
    """The ids of processes that outlive a test on purpose, with everything below them."""
    return set()


@pytest.fixture(scope="session")
def mongod(tmp_path_factory: pytest.TempPathFactory, lasting: set[int]) -> Iterator[RunningMongod]:
    """One mongod for the session, a replica set of one. A test that harms it starts its own instead."""
    try:
        running = start_mongod(tmp_path_factory.mktemp("mongod"))
    except DatabaseUnreachableError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    lasting.add(running.pid)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def clocked_mongod(
    mongod: RunningMongod, tmp_path_factory: pytest.TempPathFactory, lasting: set[int]
) -> Iterator[RunningMongod]:
    """One more mongod, whose clock each test that uses it puts to where it wants it."""
    directory = tmp_path_factory.mktemp("clocked")
    if not faked_clock(directory):
        pytest.skip("libfaketime is not installed (the Debian package libfaketime)")
    (running,) = start_replica_set(directory, 1, own_clocks=True).members
    lasting.add(running.pid)
    yield running
    running.stop()


@pytest.fixture
def mongo_uri(mongod: RunningMongod) -> str:
    return mongod.uri


@pytest.fixture
def database_name(mongod: RunningMongod) -> Iterator[str]:
    """A database of this test's own, dropped after it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield name
    with mongod.client(timeout_ms=10_000) as client:
        client.drop_database(name)


@pytest.fixture(autouse=True)
def no_leftovers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, lasting: set[int]
) -> Iterator[None]:
    """Fail an integration or acceptance test that leaves a process behind, daemons included; end what it left."""
    if not WATCHED & set(request.path.parts):
        yield
        return
    temp = tmp_path_factory.getbasetemp()
    before = related(temp)
    yield
    with contextlib.suppress(AssertionError):
        until(lambda: not _left(temp, before, lasting), LEFTOVERS_S)
    left = _left(temp, before, lasting)
    lines = [command_line(process) for process in left]
    for process in left:
        process.kill()
    if lines:
        pytest.fail("the test left running:\n" + "\n".join(lines), pytrace=False)


def _left(temp: Path, before: set[psutil.Process], lasting: set[int]) -> set[psutil.Process]:
    return {process for process in related(temp) - before if not lasting & _line(process)}


def _line(process: psutil.Process) -> set[int]:
    """The ids of a process and its ancestors."""
    try:
        return {process.pid, *(parent.pid for parent in process.parents())}
    except psutil.NoSuchProcess:
        return {process.pid}
