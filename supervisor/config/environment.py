"""Reads `SUPERVISOR_TABLE__KEY` variables into the same shape as the file.

Every variable is text, so it is converted to its key's type here, before the strict models see it; text that does not
convert is left as it is for them to refuse by name. Lists and tables are JSON, and so is what
a handler's own `settings` hold, where it parses. A handler's name is lower case here:
`SUPERVISOR_HANDLERS__OCR__TIMEOUT_S` is `timeout_s` in `[handlers.ocr]`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from supervisor.config.fields import Path, locate
from supervisor.config.problems import one_line, unknown_key
from supervisor.config.settings import Settings

PREFIX = "SUPERVISOR_"
DELIMITER = "__"
SETTINGS_DEPTH = 3  # handlers, NAME, settings: what is deeper has no declared type


@dataclass(frozen=True)
class Environment:
    """What the variables set (`layer`), which variable set which path, and one line per variable that sets nothing."""

    layer: dict[str, Any]
    sources: dict[Path, str]
    problems: list[str]


def read_environment(environ: Mapping[str, str]) -> Environment:
    """Read every variable with our prefix and a `__` in its name; others are somebody else's."""
    named = {name: _path(name) for name in sorted(environ) if name.startswith(PREFIX) and DELIMITER in name}
    faults = {name: fault for name, path in named.items() if (fault := _fault(path))}
    good = {name: path for name, path in named.items() if name not in faults}
    layer: dict[str, Any] = {}
    for name, path in good.items():
        _set(layer, path, _value(name, path, environ[name]))
    return Environment(
        layer=layer,
        sources={path: name for name, path in good.items()},
        problems=[one_line(f"{name}: {fault}") for name, fault in faults.items()],
    )


def _path(name: str) -> Path:
    return tuple(name.removeprefix(PREFIX).lower().split(DELIMITER))


def _fault(path: Path) -> str:
    """Say why a variable names no key; empty when it does."""
    if path[0] == "schedules":
        return "[[schedules]] can be set in the file only"
    place = locate(path)
    if not place.key and place.model is not None:
        return f"names no key of {place.table}"
    if place.field is None:
        return unknown_key(place)
    if len(path) > len(place.path) and place.key != "settings":
        return f"{place.table} {place.key}: holds one value and has no keys of its own"
    return ""


def _set(layer: dict[str, Any], path: Path, value: Any) -> None:
    for key in path[:-1]:
        if not isinstance(layer.get(str(key)), dict):
            layer[str(key)] = {}  # the longer name wins over a shorter one that holds no table
        layer = layer[str(key)]
    layer[str(path[-1])] = value


def _value(name: str, path: Path, text: str) -> Any:
    """Convert `text` to the type of its key; what does not convert stays text."""
    if len(path) > SETTINGS_DEPTH:
        return _json_or_text(text)
    try:
        value: Any = _Variable(name, text)()
    except RecursionError:  # JSON that is nested beyond reason
        return text
    for key in path:
        value = value[key]
    return value


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


class _Shape(Settings, BaseSettings):
    """What pydantic-settings needs to know of our tables; never instantiated."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter=DELIMITER)


class _Variable(EnvSettingsSource):
    """pydantic-settings' reading of one variable: given, and not looked up in this process's environment."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(_Shape)
        self.env_vars = {name.lower(): text}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Read JSON; text that is none stays, so that the models refuse it with the key's name."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value
