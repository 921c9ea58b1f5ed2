"""The command `python -m supervisor`: all its commands, and the end of every error: one line and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence

import click

from supervisor import __version__
from supervisor.cli.autopsy import autopsy
from supervisor.cli.changes import cancel, retry
from supervisor.cli.check import check
from supervisor.cli.demo import demo
from supervisor.cli.enqueue import enqueue
from supervisor.cli.fleet import drain, resize, undrain
from supervisor.cli.health import health
from supervisor.cli.init import init
from supervisor.cli.jobs import job, jobs
from supervisor.cli.output import logs
from supervisor.cli.parsing import PROGRAM, Group, InterruptedByUserError, ReaderGoneError, global_options
from supervisor.cli.pauses import pause, resume
from supervisor.cli.printing import fail
from supervisor.cli.run import run
from supervisor.cli.running import stack
from supervisor.cli.schedules import schedules
from supervisor.cli.session import Session
from supervisor.cli.status import status
from supervisor.cli.systemd_unit import systemd_unit
from supervisor.cli.top.command import top
from supervisor.cli.why import why
from supervisor.errors import ConfigError, SupervisorError

USAGE = 2


@click.group(
    cls=Group,
    invoke_without_command=True,
    params=global_options(),
    context_settings={"help_option_names": ["-h", "--help"]},
    subcommand_metavar="[COMMAND]",
)
@click.version_option(__version__, prog_name="mongo-job-supervisor")
@click.pass_context
def cli(ctx: click.Context) -> int | None:
    """Run jobs from MongoDB in worker processes. Without a command: run the supervisor in the foreground.

    Exit codes: 0 done; 1 the work failed, or no such job; 2 usage, configuration or unknown handler; 3 database not
    reachable; 4 workers cannot start; 130 interrupted.
    """
    return None if ctx.invoked_subcommand else ctx.invoke(run)


COMMANDS = (
    run,
    demo,
    enqueue,
    jobs,
    job,
    why,
    retry,
    cancel,
    pause,
    resume,
    resize,
    drain,
    undrain,
    stack,
    logs,
    autopsy,
    schedules,
    status,
    top,
    init,
    check,
    health,
    systemd_unit,
)
for each in COMMANDS:
    cli.add_command(each)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command (of `sys.argv` unless `arguments` are given) and return its exit code."""
    session = Session(debug="--debug" in (sys.argv if arguments is None else arguments))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a terminal that cannot show a character still gets the rest
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = cli.main(arguments, prog_name=PROGRAM, obj=session, standalone_mode=False)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last stop of every error
        return report(error, debug=session.debug)
    return code if isinstance(code, int) else 0


def report(error: BaseException, *, debug: bool) -> int:
    """Say on stderr what went wrong and return the exit code."""
    if debug:
        traceback.print_exception(error)
    match error:
        case BrokenPipeError() | ReaderGoneError():
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter's own flush at the end would fail again
            return ReaderGoneError.exit_code
        case KeyboardInterrupt() | click.Abort() | InterruptedByUserError():
            click.echo("interrupted", err=True)
            return InterruptedByUserError.exit_code
        case ConfigError():
            for line in str(error).splitlines():
                fail(line)
            return error.exit_code
        case SupervisorError():
            fail(str(error))
            return error.exit_code
        case click.ClickException():
            fail(_with_hint(error))
            return USAGE
    fail(f"unexpected {type(error).__name__}: {error}" + ("" if debug else " (--debug shows the traceback)"))
    return 1


def _with_hint(error: click.ClickException) -> str:
    """Name the command's help behind what click says of wrong arguments."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    message = error.format_message().rstrip(".")
    return f"{message} (see: {context.command_path} --help)" if context else message
