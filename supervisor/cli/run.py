"""`run`: the supervisor itself, in the foreground."""

from __future__ import annotations

import os

from supervisor.cli.parsing import command
from supervisor.cli.session import Session, pass_session
from supervisor.errors import SupervisorError


@command("run", "run --workers 4 --mongo mongodb://localhost/?replicaSet=rs0")
@pass_session
def run(session: Session) -> None:
    """Run the supervisor in the foreground.

    TERM or Ctrl-C drains it: no more claims, running jobs may finish, exit code 0. A second one skips that wait.
    """
    from supervisor import app  # noqa: PLC0415 - the whole engine, which no other command needs
    from supervisor.cli.main import report  # noqa: PLC0415 - which imports this module

    loaded = session.load()
    try:
        code = app.run(loaded, os.environ, session.overrides(), data_dir=session.data_dir)
    except (SupervisorError, KeyboardInterrupt) as error:
        code = report(error, debug=session.debug)
    app.leave(code)
