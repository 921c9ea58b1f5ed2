"""The reference page of the command line is what the commands say of themselves."""

from pathlib import Path

import click
import pytest

from supervisor.cli.main import cli
from supervisor.cli.reference import reference

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "cli.md"


def test_the_committed_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == reference(), (
        "run: python -m supervisor.cli.reference > docs/reference/cli.md"
    )


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_has_help_with_an_example(name):
    made = cli.commands[name]
    shown = made.get_help(click.Context(made, info_name=name))
    assert f"python -m supervisor {name}" in shown.partition("Example:")[2]
    assert "--config FILE" in shown.partition("Global options:")[2]
