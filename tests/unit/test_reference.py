"""The reference pages are what the code says of itself, and they are complete."""

import ast
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from supervisor.cli.main import cli
from supervisor.core.outcome import ErrorKind
from supervisor.reference.__main__ import PAGES
from supervisor.reference.job_document import KINDS
from supervisor.reference.log_events import EVENTS

ROOT = Path(__file__).resolve().parents[2]
LEVELS = {"debug", "info", "warning", "error", "exception", "_report"}
NAMED_ELSEWHERE = {"config.changed", "config.needs_restart"}
"""Chosen by a condition before the call."""


@pytest.mark.parametrize("name", PAGES)
def test_the_committed_page_is_current(name: str) -> None:
    assert (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8") == PAGES[name](), "run: make docs"


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_has_help_with_an_example(name: str) -> None:
    made = cli.commands[name]
    shown = made.get_help(click.Context(made, info_name=name))
    assert f"python -m supervisor {name}" in shown.partition("Example:")[2]
    assert "--config FILE" in shown.partition("Global options:")[2]


def test_every_event_that_is_logged_is_explained_and_no_other() -> None:
    logged = {event for path in (ROOT / "supervisor").rglob("*.py") for event in _events(path)}
    assert logged | NAMED_ELSEWHERE == set(EVENTS)


def test_every_error_kind_is_explained() -> None:
    assert set(KINDS) == set(ErrorKind)


def _events(path: Path) -> Iterator[str]:
    """The first argument of every call of a logger's method that looks like an event's name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
            continue
        method = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        event = node.args[0].value
        is_name = isinstance(event, str) and "." in event and " " not in event
        if is_name and method in LEVELS | {"write"}:
            yield event
