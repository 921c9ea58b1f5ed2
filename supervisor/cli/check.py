"""`check`: configuration, handlers and database, with all problems at once."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import click
from pydantic import ValidationError

from supervisor.cli.configurations import print_set_keys
from supervisor.cli.in_force import InForce
from supervisor.cli.parsing import command
from supervisor.cli.printing import as_json, fail, warn
from supervisor.cli.session import Session, handlers_of, pass_session
from supervisor.client.new_jobs import encoded_payload
from supervisor.config.environment import read_environment
from supervisor.config.file import parse_toml, read_text
from supervisor.config.loading import DEFAULT_PATH
from supervisor.config.provenance import SetKey, set_keys
from supervisor.config.settings import MongoSettings, PoolSettings, ScheduleSettings, Settings
from supervisor.errors import ConfigError, DatabaseUnreachableError, PayloadError, SupervisorError
from supervisor.http_service import listening
from supervisor.limits import without_effect
from supervisor.registry import Registry

INIT = "run: python -m supervisor init"


@dataclass
class Findings:
    """What is wrong, what is doubtful and what is well; `exit_codes` of what is wrong."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    config: list[SetKey] = field(default_factory=list)
    """The keys that are not at their default."""
    in_force: InForce | None = None
    """What has been decided through the database; None where it could not be asked."""
    exit_codes: set[int] = field(default_factory=set)

    def wrong(self, lines: Iterable[str], exit_code: int = ConfigError.exit_code) -> None:
        """Add problems."""
        for line in lines:
            self.problems.append(line)
            self.exit_codes.add(exit_code)

    @property
    def exit_code(self) -> int:
        """0 if nothing is wrong, 3 if only the database cannot be reached, else 2."""
        if self.exit_codes <= {DatabaseUnreachableError.exit_code}:
            return max(self.exit_codes, default=0)
        return ConfigError.exit_code


@command("check", "check --config /etc/supervisor/config.toml")
@click.option(
    "--json", "json_", is_flag=True, help="{ok, problems, warnings, passed, config, pauses, controls} as JSON."
)
@pass_session
def check(session: Session, *, json_: bool) -> int:
    """Check configuration, handlers and database.

    Every problem is named at once; exit code 2 if there is any, 3 if it is only that the database cannot be reached.
    Then come the keys that are not at their default with who set each, passwords left out, and the pauses, resizes and
    drains in force.
    """
    findings = Findings()
    settings = _check_configuration(session, findings)
    if settings is None:
        findings.warnings.append("handlers and database are not checked: the file that names them cannot be read")
    else:
        _check_handlers(settings, findings)
        _check_http(settings, findings)
        _check_database(session, settings, findings)
    if json_:
        shown: dict[str, Any] = {"ok": not findings.problems, "problems": findings.problems}
        found = {"warnings": findings.warnings, "passed": findings.passed}
        click.echo(as_json({**shown, **found, **_what_holds(findings)}))
        return findings.exit_code
    for line in findings.passed:
        click.echo(f"ok: {line}")
    for line in findings.warnings:
        warn(line)
    for line in findings.problems:
        fail(line)
    if findings.config:
        click.echo()
        print_set_keys(findings.config)
    if findings.in_force and not findings.in_force.is_empty:
        click.echo()
        findings.in_force.show()
    return findings.exit_code


def _what_holds(findings: Findings) -> dict[str, Any]:
    in_force = findings.in_force
    return {
        "config": [{**each.document(), "name": each.origin.name} for each in findings.config],
        "pauses": in_force and in_force.paused(),
        "controls": in_force and in_force.of_hosts(),
    }


def _check_configuration(session: Session, findings: Findings) -> Settings | None:
    """Return the configuration; of a wrong one, the tables that the other checks need, as far as they are sound.

    None where the file says nothing that can be read: its defaults would be of another database.
    """
    try:
        loaded = session.load()
    except ConfigError as error:
        findings.wrong(str(error).splitlines())
        return _sound_tables(session)
    findings.warnings.extend(loaded.warnings)
    findings.passed.append(f"configuration: {loaded.path or 'no config.toml'}")
    findings.config = set_keys(loaded.settings, loaded.origins)
    return loaded.settings


def _sound_tables(session: Session) -> Settings | None:
    path = session.config or DEFAULT_PATH
    try:
        file = parse_toml(path, read_text(path).text) if session.config or path.exists() else {}
    except ConfigError:
        return None
    layers = [file, read_environment(os.environ).layer]
    if session.mongo:
        layers.append({"mongo": {"uri": session.mongo}})
    return Settings(
        mongo=_sound(MongoSettings, "mongo", layers),
        pool=_sound(PoolSettings, "pool", layers),
    )


def _sound(model: Any, name: str, layers: list[dict[str, Any]]) -> Any:
    """Return the table with those keys that are right by themselves; the others are at their defaults."""
    tables = [layer[name] for layer in layers if isinstance(layer.get(name), dict)]
    merged = {key: value for table in tables for key, value in table.items()}
    return model(**{key: value for key, value in merged.items() if _is_sound(model, key, value)})


def _is_sound(model: Any, key: str, value: Any) -> bool:
    try:
        model(**{key: value})
    except ValidationError:
        return False
    return True


def _check_handlers(settings: Settings, findings: Findings) -> None:
    registry, failures = handlers_of(settings)
    findings.wrong(failures)
    known = sorted(registry.handlers)
    if known:
        findings.passed.append(f"handlers: {', '.join(known)}")
    elif not failures:
        findings.wrong([f"[pool] modules = {list(settings.pool.modules)}: no handler is registered there"])
    findings.warnings.extend(without_effect(registry.handlers, settings))
    named = {
        **{f"[handlers.{name}]": name for name in settings.handlers},
        **{f"[pool] claim names {name!r}": name for name in settings.pool.claim if name != "*"},
        **{f"[[schedules]] {schedule.name!r}": schedule.handler for schedule in settings.schedules},
    }
    for place, name in named.items():
        if name not in registry.handlers:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            findings.warnings.append(f"{place}: no handler {name!r} is registered here{hint}")
    for schedule in settings.schedules:
        findings.wrong(_payload_problems(schedule, registry, settings.limits.payload_kb))


def _payload_problems(schedule: ScheduleSettings, registry: Registry, payload_kb: int) -> Iterator[str]:
    """What would fail at every run time, and nobody would be looking."""
    try:
        encoded_payload(schedule.payload, payload_kb)
        if schedule.handler in registry.handlers:
            registry.get(schedule.handler).parse_payload(schedule.payload)
    except PayloadError as error:
        yield f"[[schedules]] {schedule.name!r} payload: {str(error).removeprefix('payload: ')}"


def _check_http(settings: Settings, findings: Findings) -> None:
    """What would keep `run` from serving HTTP; a port that is taken may be by the supervisor that runs here."""
    if not settings.http.enabled:
        return
    try:
        listening.load_server()
        for made in listening.listen(settings.http):
            made.close()
    except listening.PortTakenError as error:
        findings.warnings.append(f"{error}; if by the supervisor that runs here, all is well")
    except ConfigError as error:
        findings.wrong([str(error)])
    else:
        findings.passed.append(f"http: can be served on {settings.http.host}, port {settings.http.port}")


def _check_database(session: Session, settings: Settings, findings: Findings) -> None:
    mongo = settings.mongo
    try:
        with session.connect(settings) as database:
            missing, is_empty = database.missing_indexes(), database.queue.is_empty()
            findings.in_force, malformed = InForce.read(database.queue), database.queue.controls.malformed()
    except SupervisorError as error:
        findings.wrong([f"database: {error}"], error.exit_code)
        return
    findings.passed.append(f"database: {mongo.redacted_uri} answers and is a replica set")
    findings.warnings += [f"controls: {name} is passed over: {problem}" for name, problem in malformed.items()]
    lines = [
        f"database: {mongo.database}.{mongo.collection} lacks the index {index.name!r} ({index.purpose}); {INIT}"
        for index in missing
    ]
    if not missing:
        findings.passed.append(f"indexes: all of {mongo.database}.{mongo.collection}")
    elif is_empty:
        where = f"{mongo.database}.{mongo.collection}"
        findings.passed.append(f"indexes: {where} is empty; the first supervisor or `enqueue` makes them")
    else:
        findings.wrong(lines)
