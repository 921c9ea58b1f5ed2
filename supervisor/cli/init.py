"""`init`: the indexes and the validator of the jobs collection."""

from __future__ import annotations

import click

from supervisor.cli.parsing import command
from supervisor.cli.session import Session, pass_session, warn_of_loading


@command("init", "init --mongo mongodb://localhost/?replicaSet=rs0")
@pass_session
def init(session: Session) -> None:
    """Create indexes and the schema validator.

    Creates what the jobs collection lacks and leaves its documents as they are. Safe to run again at any time.
    """
    loaded = session.load()
    warn_of_loading(loaded)
    mongo = loaded.settings.mongo
    with session.connect(loaded.settings) as database:
        for line in database.prepare():
            click.echo(line)
    click.echo(f"ready: {mongo.database}.{mongo.collection}")
