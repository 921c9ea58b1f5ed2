"""Supervisors and jobs for acceptance tests, on the session's mongod and a database of the test's own."""

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import CommandLine
from tests.support.mongo import RunningMongod
from tests.support.supervising import Jobs, RunningSupervisor, StartSupervisor, configuration, gone, jobs_in

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def jobs(mongo_uri: str, database_name: str) -> Iterator[Jobs]:
    with jobs_in(mongo_uri, database_name) as found:
        yield found


@pytest.fixture
def command(tmp_path: Path, mongo_uri: str, database_name: str) -> CommandLine:
    """Commands that work on the same database."""
    made = CommandLine(tmp_path, mongo_uri, database_name)
    made.configure()
    return made


@pytest.fixture
def start(mongo_uri: str, database_name: str, tmp_path: Path) -> Iterator[StartSupervisor]:
    """Start a supervisor; keyword arguments are tables of the configuration. All are ended with the test."""
    running: list[RunningSupervisor] = []
    numbers = itertools.count()

    def start_one(*arguments: str, ready: bool = True, **tables: dict[str, Any]) -> RunningSupervisor:
        config = configuration(mongo_uri, database_name, **tables)
        supervisor = RunningSupervisor(tmp_path / f"supervisor-{next(numbers)}", config, arguments)
        running.append(supervisor)
        return supervisor.start(ready=ready)

    yield start_one
    for supervisor in running:
        supervisor.end()


@pytest.fixture(scope="module")
def module_jobs(mongod: RunningMongod, request: pytest.FixtureRequest) -> Iterator[Jobs]:
    """Jobs in one database for all tests of a module, dropped after them."""
    database = request.module.__name__.rpartition(".")[2]
    with jobs_in(mongod.uri, database) as found:
        yield found
        found.collection.database.client.drop_database(database)


@pytest.fixture(scope="module")
def start_for_module(
    mongod: RunningMongod, module_jobs: Jobs, tmp_path_factory: pytest.TempPathFactory, lasting: set[int]
) -> Iterator[StartSupervisor]:
    """Start a supervisor for all tests of a module: whatever a job does to it, it must end well after the last."""
    running: list[RunningSupervisor] = []
    database = module_jobs.collection.database.name

    def start_one(**tables: dict[str, Any]) -> RunningSupervisor:
        config = configuration(mongod.uri, database, **tables)
        supervisor = RunningSupervisor(tmp_path_factory.mktemp("supervisor"), config).start()
        running.append(supervisor)
        lasting.add(supervisor.pid)
        return supervisor

    yield start_one
    for supervisor in running:
        family = supervisor.family()
        code = supervisor.stop()
        gone(family)
        assert code == 0


@pytest.fixture
def browser() -> Iterator[Any]:
    """A page of a real Chromium, driven by Playwright."""
    if CHROMIUM is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no Chromium is installed")
        pytest.skip("no Chromium is installed")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - needs no browser of its own to be imported

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = chromium.new_page()
        page.set_default_timeout(90_000)
        yield page
        chromium.close()
