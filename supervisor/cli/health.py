"""`health`: whether the supervisors of this machine get on. What it does is in `supervisor.health`."""

from __future__ import annotations

import os

import click

from supervisor import health as local
from supervisor.cli.parsing import command


@command("health", "health\nhealth --live || echo it hangs or is gone")
@click.option("--live", is_flag=True, help="One that drains is fine too: it shall not be restarted for that.")
@click.option("--json", "json_", is_flag=True, help="{ok, problems, supervisors} as JSON.")
def health(*, live: bool, json_: bool) -> int:
    """Tell whether the supervisors of this machine get on.

    Exit code 0 if there is one and the claim loop of each has turned within the last 30 seconds; 1 otherwise, or while
    one drains. It reads a small file that each supervisor writes, and asks no database: it may be called every second.
    """
    return local.answer(os.environ, json_=json_, live=live)
