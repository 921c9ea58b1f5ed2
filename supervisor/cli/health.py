"""`health`: whether the supervisors of this machine get on. What it does is in `supervisor.health`."""

from __future__ import annotations

import os

import click

from supervisor import health as local
from supervisor.cli.parsing import command


@command("health", "health\nhealth --live || echo it hangs or is gone")
@click.option("--live", is_flag=True, help="One that starts or drains is fine too: that is no reason to restart it.")
@click.option("--json", "json_", is_flag=True, help="{ok, problems, supervisors} as JSON.")
def health(*, live: bool, json_: bool) -> int:
    """Tell whether the supervisors of this machine get on.

    Exit code 0 if there is one and the claim loop of each has turned within the last 30 seconds; 1 otherwise, or while
    one starts or drains. It reads a small file that each supervisor writes, and asks no database: it may be called
    every second.
    """
    return local.answer(os.environ, json_=json_, live=live)
