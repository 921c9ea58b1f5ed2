"""Loads the configuration: flag over environment over file over default, validated whole.

The layers are merged as plain tables first and validated once, strictly. So a value is judged together with the others
it depends on, wherever each came from, and a mistake is reported with the name of the file, variable or flag that
made it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from supervisor.config.environment import read_environment
from supervisor.config.fields import SECTIONS
from supervisor.config.fields import Path as KeyPath
from supervisor.config.file import MISSING, ConfigText, Identity, parse_toml, read_text
from supervisor.config.problems import problem_lines
from supervisor.config.provenance import Origin
from supervisor.config.settings import Settings
from supervisor.errors import ConfigError

DEFAULT_PATH = Path("config.toml")
IN_CODE = "Supervisor("
"""How the names of what an application sets begin."""


@dataclass(frozen=True)
class Overrides:
    """What the command line sets, or an application; None leaves a key to the environment and the file."""

    workers: int | None = None
    mongo_uri: str | None = None
    tables: Mapping[str, Any] = field(default_factory=dict)
    """An application's own, as in the file: `{"pool": {"workers": 0}}`."""


@dataclass(frozen=True)
class LoadedConfig:
    """A valid configuration and where it came from.

    `path` is None when there is no file. `origins` has what set each dotted key.
    `identity` is the state of the file that was read, so that a watcher knows what counts as a change.
    """

    settings: Settings
    path: Path | None
    origins: dict[str, Origin]
    warnings: list[str] = field(default_factory=list)
    identity: Identity = MISSING
    workers_without_flag: Any = None
    """What `pool.workers` would be without `--workers`, not validated: an edit of it wins over the flag."""


def load(path: Path | None, environ: Mapping[str, str], overrides: Overrides) -> LoadedConfig:
    """Load and validate everything; `path=None` is `./config.toml` if there is one.

    Raises ConfigError with one line per problem. No line holds a password or token.
    """
    if path is None and DEFAULT_PATH.exists():
        path = DEFAULT_PATH
    return assemble(path, read_text(path) if path else ConfigText(), environ, overrides)


def assemble(path: Path | None, file: ConfigText, environ: Mapping[str, str], overrides: Overrides) -> LoadedConfig:
    """Merge and validate what was read from `path` with the other layers; raises ConfigError as `load` does."""
    environment = read_environment(environ)
    flags, flag_names = _flags(overrides)
    below = _merge(parse_toml(path, file.text) if path else {}, environment.layer)
    layer = _merge(below, flags)
    sources = environment.sources | flag_names
    settings = _validated(layer, sources, str(path or "configuration"), environment.problems)
    return LoadedConfig(
        settings=settings,
        path=path,
        origins=_origins(settings, sources),
        warnings=_warnings(settings, path, file.unsafe),
        identity=file.identity,
        workers_without_flag=_workers(below),
    )


def _validated(layer: dict[str, Any], sources: Mapping[KeyPath, str], file: str, problems: list[str]) -> Settings:
    """Return the settings, or raise with every problem at once, those found earlier included."""
    try:
        settings = Settings.model_validate(layer)
    except ValidationError as error:
        raise ConfigError("\n".join([*problem_lines(error, layer, sources, file), *problems])) from None
    if problems:
        raise ConfigError("\n".join(problems))
    return settings


def _workers(layer: Mapping[str, Any]) -> Any:
    pool = layer.get("pool")
    return pool.get("workers") if isinstance(pool, dict) else None


def _flags(overrides: Overrides) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    layer: dict[str, Any] = {}
    names: dict[KeyPath, str] = {}
    if overrides.workers is not None:
        layer["pool"] = {"workers": overrides.workers}
        names["pool", "workers"] = "--workers"
    if overrides.mongo_uri is not None:
        layer["mongo"] = {"uri": overrides.mongo_uri}
        names["mongo", "uri"] = "--mongo"
    for table, keys in overrides.tables.items():
        name = f"{IN_CODE}{table}=…)"
        names |= {(table, str(key)): name for key in keys} if isinstance(keys, Mapping) else {(table,): name}
    return _merge(layer, {table: _plain(keys) for table, keys in overrides.tables.items()}), names


def _plain(value: Any) -> Any:
    """Return tables of any kind as dicts, which is what they are merged as."""
    return {str(key): _plain(each) for key, each in value.items()} if isinstance(value, Mapping) else value


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `above` over `below`, table by table; where one of the two is no table, `above` wins."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _origins(settings: Settings, sources: Mapping[KeyPath, str]) -> dict[str, Origin]:
    return {".".join(str(key) for key in path): _origin(path, is_set, sources) for path, is_set in _leaves(settings)}


def _leaves(settings: Settings) -> Iterator[tuple[KeyPath, bool]]:
    """Every key with whether any layer set it; of a handler's table, the keys it has."""
    for section, model in SECTIONS.items():
        set_here = getattr(settings, section).model_fields_set
        yield from (((section, key), key in set_here) for key in model.model_fields)
    for name, handler in settings.handlers.items():
        yield from ((("handlers", name, key), True) for key in sorted(handler.model_fields_set))
    yield ("schedules",), "schedules" in settings.model_fields_set


def _origin(path: KeyPath, is_set: bool, sources: Mapping[KeyPath, str]) -> Origin:
    if not is_set:
        return Origin()
    name = next((name for known, name in sources.items() if known[: len(path)] == path), None)
    if name is None:
        return Origin("file")
    if name.startswith(IN_CODE):
        return Origin("code", name)
    return Origin("flag" if name.startswith("--") else "environment", name)


def _warnings(settings: Settings, path: Path | None, unsafe: str) -> list[str]:
    """Say what is allowed and yet likely to hurt, a line each."""
    lease, retry, limits, pool = settings.lease, settings.retry, settings.limits, settings.pool
    largest_kb = limits.payload_kb + limits.result_inline_kb + 20 * limits.log_kb
    found = {
        f"[lease] seconds = {lease.seconds:g}: under 30, a pause of the database loses running jobs": lease.seconds
        < 30,
        f"[retry] backoff_max_s = {retry.backoff_max_s:g} is less than backoff_s = {retry.backoff_s:g}": (
            retry.backoff_max_s < retry.backoff_s
        ),
        f"[limits] a job could grow to {largest_kb} KB (payload_kb + result_inline_kb + 20 attempts of log_kb); "
        "MongoDB stores at most 16 MB": largest_kb > 15_000,
        f"[pool] pin = true binds each worker to one core, which its {pool.threads_per_worker} threads share": (
            pool.pin and pool.threads_per_worker > 1
        ),
        f"{path}: {unsafe}; edits will not be applied live": bool(unsafe),
    }
    return [line for line, applies in found.items() if applies]
