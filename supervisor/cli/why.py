"""`why`: why a job is not running now, in one line."""

from __future__ import annotations

import click

from supervisor.cli.parsing import PROGRAM, command
from supervisor.cli.printing import as_json, clean
from supervisor.cli.session import Session, pass_session
from supervisor.client.documents import id_text
from supervisor.client.reasons import Reason
from supervisor.client.why import reasons


@command("why", "why 65f2a1c0e4b0a1b2c3d4e5f6\nwhy 65f2a1c0e4b0a1b2c3d4e5f6 --json | jq -r .reason")
@click.argument("id_", metavar="ID")
@click.option("--all", "all_", is_flag=True, help="Every reason that is known, a line each, the decisive one first.")
@click.option("--json", "json_", is_flag=True, help="{job_id, status, reason, text, command, others} as JSON.")
@pass_session
def why(session: Session, id_: str, *, all_: bool, json_: bool) -> None:
    """Say in one line why a job is not running now, and what to type about it.

    It may be running or have ended, which is told too. Heartbeats of supervisors are up to two seconds old, and so is
    the answer.
    """
    with session.connect() as database:
        facts = database.queue.facts(database.queue.find_id(id_))
    first, *others = reasons(facts)
    if json_:
        about = {"job_id": id_text(facts.job["_id"]), "status": facts.job.get("status")}
        click.echo(as_json({**about, **_fields(first), "others": list(map(_fields, others))}))
        return
    click.echo(_line(first, f" (and {len(others)} more: --all)" if others and not all_ else ""))
    for reason in others if all_ else ():
        click.echo(f"also: {_line(reason)}")


def _line(reason: Reason, more: str = "") -> str:
    return clean(reason.text) + more + (f"; try: {_typed(reason)}" if reason.command else "")


def _fields(reason: Reason) -> dict[str, str | None]:
    return {"reason": reason.code.value, "text": reason.text, "command": _typed(reason)}


def _typed(reason: Reason) -> str | None:
    return reason.command and f"{PROGRAM} {clean(reason.command)}"
