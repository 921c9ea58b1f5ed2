"""`systemd-unit`: a unit for this installation, and what would be in its way."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from supervisor.cli import installation
from supervisor.cli.installation import Account
from supervisor.cli.parsing import command
from supervisor.cli.printing import warn
from supervisor.cli.session import Session, pass_session
from supervisor.cli.unit_file import FIRST_WITH_RELOAD, NOTIFY, NOTIFY_RELOAD, PARENT, Service, unit
from supervisor.config.environment import PREFIX
from supervisor.config.file import unsafe_reason
from supervisor.config.loading import LoadedConfig, load
from supervisor.embedded.directory import default_data_dir
from supervisor.errors import ConfigError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
START_MARGIN_S = 60
_DIRECTORY = click.Path(path_type=Path, exists=True, file_okay=False)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@command("systemd-unit", "systemd-unit --user jobs > /etc/systemd/system/mongo-job-supervisor.service")
@click.option("--user", metavar="NAME", help="Who it runs as; default: you, and for root a user that systemd makes up.")
@click.option("--name", default=PARENT, show_default=True, metavar="NAME", help="Name of the service.")
@click.option(
    "--type",
    "kind",
    type=click.Choice([NOTIFY, NOTIFY_RELOAD]),
    help=f"How it reports; default: {NOTIFY_RELOAD} where systemd is {FIRST_WITH_RELOAD} or newer.",
)
@click.option("--writable", type=_DIRECTORY, multiple=True, metavar="DIR",
              help="A directory that handlers write to; may be repeated.")  # fmt: skip
@click.option("--environment-file", type=_FILE, metavar="FILE", help="Variables such as SUPERVISOR_MONGO__URI.")
@pass_session
def systemd_unit(
    session: Session,
    *,
    user: str | None,
    name: str,
    kind: str | None,
    writable: tuple[Path, ...],
    environment_file: Path | None,
) -> None:
    """Print a systemd unit for this installation.

    It runs this interpreter in the current directory, with the configuration that applies here. What would be in its
    way is said on stderr.
    """
    _refuse(session, name)
    user = user or installation.default_user()
    account = installation.account(user)
    loaded = load(session.config, _variables(environment_file), session.overrides())
    database = _database(session, loaded, name, user)
    files = (loaded.path, database if database == session.data_dir else None)
    places = installation.places(*files)
    from supervisor.engine import stop_limit_s  # noqa: PLC0415 - the whole engine

    service = Service(
        name=name,
        kind=kind or (NOTIFY_RELOAD if installation.systemd_version() >= FIRST_WITH_RELOAD else NOTIFY),
        command=tuple(_command(session, loaded, database)),
        folder=Path.cwd(),
        user=user,
        start_s=loaded.settings.mongo.wait_s + START_MARGIN_S,
        stop_s=stop_limit_s(loaded.settings),
        home=any(installation.is_in(place, installation.HOMES) for place in places),
        in_tmp=tuple(place for place in places if installation.is_in(place, installation.TEMPORARY)),
        writable=tuple(path.absolute() for path in (*writable, *files[1:]) if path),
        python_path=os.environ.get("PYTHONPATH", ""),
        environment_file=environment_file and environment_file.absolute(),
        database=database,
    )
    click.echo(unit(service), nl=False)
    for line in _doubts(service, account, loaded):
        warn(line)


def _refuse(session: Session, name: str) -> None:
    if not NAME.fullmatch(name):
        raise click.UsageError(f"--name {name!r}: may hold letters, digits, '_', '.' and '-'")
    if session.mongo:
        raise click.UsageError(
            "--mongo does not go into a unit, which everybody may read: set mongo.uri in config.toml, or "
            "SUPERVISOR_MONGO__URI in a file that you name with --environment-file"
        )


def _variables(file: Path | None) -> dict[str, str]:
    """Return the variables that systemd will read from `file`."""
    if file is None:
        return {}
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--environment-file {file}: cannot be read: {error}") from None
    pairs = (line.strip().partition("=") for line in lines if "=" in line and not line.lstrip().startswith(("#", ";")))
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}


def _database(session: Session, loaded: LoadedConfig, name: str, user: str | None) -> Path | None:
    """Return the directory of the embedded database; None for a database elsewhere."""
    if not loaded.settings.mongo.embedded:
        return None
    if user is None:
        raise ConfigError(
            "mongo.uri is embedded: that database belongs to one user, and only that user's commands reach it; name "
            "the user with --user, or set mongo.uri"
        )
    if session.data_dir is None:
        return Path("/var/lib", name, "mongodb")
    if not session.data_dir.is_dir():
        raise ConfigError(f"--data-dir {session.data_dir}: is no directory; make it first, as {user}")
    return session.data_dir.absolute()


def _command(session: Session, loaded: LoadedConfig, database: Path | None) -> Iterator[str]:
    yield from (sys.executable, "-m", "supervisor", "run")
    if loaded.path:
        yield from ("--config", str(loaded.path.absolute()))
    if session.workers is not None:
        yield from ("--workers", str(session.workers))
    if database:
        yield from ("--data-dir", str(database))


def _doubts(service: Service, account: Account, loaded: LoadedConfig) -> Iterator[str]:
    """Yield a line for each thing that would be in the way of the service."""
    who = service.user or "a user that systemd makes up"
    for path in installation.unreadable(account, loaded.path):
        yield f"{path}: {who} may not read it, so the service would not start"
    if loaded.path and (reason := unsafe_reason(loaded.path.stat(), account.uid)):
        yield f"{loaded.path}: {reason}; edits would not be applied live"
    if variables := sorted(name for name in os.environ if name.startswith(PREFIX)):
        yield f"the service does not see {', '.join(variables)}: put them in a file and name it with --environment-file"
    for place in service.in_tmp:
        yield f"{place}: is in a directory that is emptied now and then"
    if service.database and service.database != default_data_dir() and default_data_dir().exists():
        yield (
            f"the service gets a database of its own in {service.database}, not the one of your commands in "
            f"{default_data_dir()}; to use that one, add: --data-dir {default_data_dir()}"
        )
