"""The command `top`."""

from __future__ import annotations

import os
import sys

from supervisor.cli.parsing import PROGRAM, command
from supervisor.cli.session import Session, pass_session
from supervisor.errors import UsageError

FOR_SCRIPTS = f"for scripts and small windows: {PROGRAM} status"


@command("top", "top")
@pass_session
def top(session: Session) -> None:
    """Watch supervisors, queue and slots live; pause, cancel, resize and look into jobs with a key.

    Needs a terminal of at least 60 x 14 characters. ? lists the keys, q quits.
    """
    refuse_no_terminal()
    from supervisor.cli.top.show import Show  # noqa: PLC0415 - only this command needs it

    with session.connect() as database:
        mongo = database.settings.mongo
        Show(database.queue, f"{mongo.database}.{mongo.collection}").run()


def refuse_no_terminal() -> None:
    """Raise UsageError where there is no terminal that can show a screen."""
    from supervisor.cli.top.view import LEAST_HEIGHT, LEAST_WIDTH, TOO_SMALL  # noqa: PLC0415 - as above

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(f"top needs a terminal; {FOR_SCRIPTS}")
    if os.environ.get("TERM", "dumb") in ("", "dumb", "unknown"):
        raise UsageError(f"top needs a terminal that can place its cursor, not TERM=dumb; {FOR_SCRIPTS}")
    width, height = os.get_terminal_size(sys.stdout.fileno())
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        raise UsageError(f"{TOO_SMALL}, this terminal has {width} x {height}; {FOR_SCRIPTS}")
