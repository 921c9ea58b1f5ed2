"""The pytest plug-in: fixtures `inline_jobs`, `job_queue`, `job_supervisor`, `crash_worker` and `kill_supervisor`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from supervisor.testing.inline import InlineJobs
    from supervisor.testing.running import JobQueue, RunningSupervisor

_LOG = pytest.StashKey[Any]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options to pytest's configuration."""
    parser.addini("job_modules", "modules to import for handlers", type="args", default=["handlers"])
    parser.addini("job_workers", "worker processes of the supervisor in tests", default="1")
    parser.addini("job_queue_scope", "function: a queue for every test; session: one for all", default="function")
    parser.addini("job_mongo", "replica set for tests; empty: a private one is started", default="")


def _scope(fixture_name: str, config: pytest.Config) -> Any:  # noqa: ARG001 - pytest passes both by name
    scope = config.getini("job_queue_scope")
    if scope not in ("function", "module", "session"):
        raise pytest.UsageError(f"job_queue_scope: is {scope!r}, must be function, module or session")
    return scope


@pytest.fixture(scope="session")
def job_mongo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The connection string of a replica set for this session: your own, or a private one that ends with it."""
    from supervisor.embedded.mongo import EmbeddedMongo  # noqa: PLC0415 - most sessions need none of this

    if uri := request.config.getini("job_mongo"):
        yield uri
        return
    with EmbeddedMongo(tmp_path_factory.mktemp("jobs"), 30) as mongo:
        yield mongo.uri


@pytest.fixture(scope=_scope)
def job_queue(
    request: pytest.FixtureRequest, job_mongo: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[JobQueue]:
    """A `Queue` on a database of its own, with a real supervisor: `run_until_idle()` starts it and waits."""
    from supervisor.registry import REGISTRY, import_modules  # noqa: PLC0415 - as above
    from supervisor.testing import running  # noqa: PLC0415 - as above

    config = request.config
    for failure in import_modules(modules := config.getini("job_modules")):
        raise pytest.UsageError(f"job_modules: {failure.module} cannot be imported: {failure.reason}")
    database = f"test_{uuid.uuid4().hex[:12]}"
    folder = tmp_path_factory.mktemp("supervisor")
    supervisor = running.RunningSupervisor(folder, job_mongo, database, modules, int(config.getini("job_workers")))
    request.session.stash[_LOG] = supervisor
    with running.job_queue(job_mongo, database, supervisor, REGISTRY) as queue:
        yield queue


@pytest.fixture(scope=_scope)
def job_supervisor(job_queue: JobQueue) -> RunningSupervisor:
    """The supervisor of `job_queue`, to `start`, `stop` or `kill`."""
    return job_queue.supervisor


@pytest.fixture(scope=_scope)
def crash_worker(job_queue: JobQueue) -> Callable[..., None]:
    """A fault: `crash_worker(job_id)` is SIGKILL for the worker that runs the job, once it runs."""
    return job_queue.crash_worker


@pytest.fixture(scope=_scope)
def kill_supervisor(job_queue: JobQueue) -> Callable[..., None]:
    """A fault: `kill_supervisor(job_id)` is SIGKILL for the supervisor, once it runs the job."""
    return job_queue.kill_supervisor


@pytest.fixture
def inline_jobs(request: pytest.FixtureRequest) -> InlineJobs:
    """Handlers called directly: `inline_jobs.run("count", {"text": "to be"})` returns the result."""
    from supervisor.registry import REGISTRY, import_modules  # noqa: PLC0415 - as above
    from supervisor.testing.inline import InlineJobs  # noqa: PLC0415 - as above

    for failure in import_modules(request.config.getini("job_modules")):
        raise pytest.UsageError(f"job_modules: {failure.module} cannot be imported: {failure.reason}")
    return InlineJobs(REGISTRY)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:  # noqa: ARG001 - pytest's names
    """Show the supervisor's log with a test that fails."""
    report = yield
    supervisor = item.session.stash.get(_LOG, None)
    if (
        report.when == "call"
        and report.failed
        and supervisor is not None
        and "job_queue" in getattr(item, "fixturenames", ())
    ):
        report.sections.append(("supervisor log", supervisor.log()[-20_000:]))
    return report
