"""Supervisors and jobs for acceptance tests, on the session's mongod and a database of the test's own."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import CommandLine
from tests.support.supervising import Jobs, RunningSupervisor, StartSupervisor, configuration, jobs_in


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
