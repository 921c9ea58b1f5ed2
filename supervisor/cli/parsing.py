"""The shape of our commands in click: global options anywhere, an example in every help, a hint in every error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from supervisor.cli.session import Session
from supervisor.errors import SupervisorError

PROGRAM = "python -m supervisor"
_PATH = click.Path(path_type=Path)
Function = Callable[..., Any]


class InterruptedByUserError(SupervisorError):
    """Ctrl-C."""

    exit_code = 130


class ReaderGoneError(SupervisorError):
    """Whoever read our output has closed it (`… | head`): nothing is left to do, and nobody to tell."""

    exit_code = 0


class Integer(click.IntRange):
    """An integer within limits, which click would call an "integer range" to somebody who has typed a word."""

    name = "integer"


class _Explaining(click.Command):
    """A command whose every refusal of arguments knows which help to name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the arguments apart."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name.lstrip("-").isdigit():
                raise click.UsageError(f"{error.option_name}: must not be a negative number", ctx) from None
            raise
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise


class Command(_Explaining):
    """A command that takes the global options too and shows an example."""

    def __init__(self, *arguments: Any, example: str = "", **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.example = example
        self.own_params = list(self.params)
        self.params.extend(global_options())

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options apart from the global ones."""
        shown = {param: param.get_help_record(ctx) for param in self.get_params(ctx)}
        own = [record for param, record in shown.items() if record and param not in self.params[len(self.own_params) :]]
        others = [record for param, record in shown.items() if record and param in self.params[len(self.own_params) :]]
        for title, records in (("Options", own), ("Global options", others)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example as it would be typed."""
        write_example(self.example, ctx, formatter)


class Group(_Explaining, click.Group):
    """All commands. What ends a command from outside becomes an error of ours here, before click handles it."""

    example = ""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise InterruptedByUserError("interrupted") from None
        except BrokenPipeError:
            raise ReaderGoneError("the output was closed") from None

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example as it would be typed."""
        write_example(self.example, ctx, formatter)


def write_example(example: str, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write `example`, one command per line."""
    if example:
        with formatter.section("Example"):
            for line in example.splitlines():
                formatter.write(f"  {line}\n")


def command(name: str, example: str) -> Callable[[Function], Command]:
    """Return a decorator that makes a command of a function; `example` is what to type after the program's name."""
    lines = "\n".join(f"{PROGRAM} {line}".rstrip() for line in example.splitlines())

    def make(function: Function) -> Command:
        made: Command = click.command(name, cls=Command, example=lines)(function)
        return made

    return make


def global_options() -> list[click.Parameter]:
    """Return the options that every command takes, before or after its name."""
    return [
        _option("--config", type=_PATH, metavar="FILE", help="Configuration; default ./config.toml, if there is one."),
        _option("--workers", type=int, metavar="N", help="Worker processes, instead of [pool] workers."),
        _option("--mongo", metavar="URI", help="Database, instead of [mongo] uri."),
        _option("--data-dir", type=_PATH, metavar="DIR", help="Home of the embedded database."),
        _option("--debug", is_flag=True, help="Show the traceback of an error."),
    ]


def _option(name: str, **attributes: Any) -> click.Option:
    return click.Option([name], expose_value=False, callback=_remember, **attributes)


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep an option in the session; one that is not given here may have been given elsewhere."""
    if param.name and value is not None and value is not False:
        setattr(ctx.ensure_object(Session), param.name, value)
