"""Turns what pydantic refuses into one line per problem: source, table, key, value, and what is allowed.

    config.toml: [pool] workers = "four": must be "auto" or an integer from 0 to 1024
    config.toml: [pool] workerz: unknown key, did you mean workers? The keys of [pool] are …

No line shows a secret: the values of secret keys are masked, those of unknown keys and of tables are left out.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from supervisor.config.fields import SECTIONS, Path, Place, allowed, is_secret, locate
from supervisor.config.settings import Settings

LONGEST_SHOWN = 80


def problem_lines(
    error: ValidationError, layer: Mapping[str, Any], sources: Mapping[Path, str], file: str
) -> list[str]:
    """Return one line per key at fault in `layer`, in the order in which the models name them.

    `sources` names the environment variable or flag behind a path; whatever it does not list came from `file`.
    """
    lines: dict[Path, str] = {}
    for item in error.errors(include_url=False):
        place = locate(tuple(item["loc"]))
        text = _describe(item, place, layer)
        lines.setdefault(place.path, one_line(f"{_source(place.path, sources, file)}: {text}"))
    return list(lines.values())


def one_line(text: str) -> str:
    """Escape what a quoted key may smuggle into a message: line breaks, terminal sequences, half characters."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def unknown_key(place: Place) -> str:
    """Say that a table or key does not exist, what it may have meant, and what there is."""
    if place.model is None:
        return f"{place.table}: unknown table{_hint(_table_name(place))} The tables are {_tables()}"
    known = list(place.model.model_fields)
    key = place.key or ""
    elsewhere = [f"it in [{name}]" for name, model in SECTIONS.items() if key in model.model_fields]
    close = difflib.get_close_matches(key, known, 1) or elsewhere[:1]
    hint = f", did you mean {close[0]}?" if close else "."
    return f"{place.table} {key}: unknown key{hint} The keys of {place.table} are {', '.join(known)}"


def show(value: Any) -> str:
    """A value as it would stand in the file, shortened; a table is not shown, since it may hold secrets."""
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict | list) for item in value)):
        return "…"
    text = json.dumps(value, default=str)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"


def _describe(item: ErrorDetails, place: Place, layer: Mapping[str, Any]) -> str:
    if item["type"] == "extra_forbidden" and place.field is None:
        return unknown_key(place)
    table = _named(place, layer)
    if place.field is None or place.key is None:
        return f"{table}: {_reason_for_table(item, place)}"
    must = f"must be {_reason(item) or allowed(place.field)}"
    if item["type"] == "missing":
        return f"{table} {place.key}: is missing, {must}"
    shown = '"***"' if is_secret(place.field) else show(_value_at(layer, place.path))
    return f"{table} {place.key} = {shown}: {must}"


def _reason_for_table(item: ErrorDetails, place: Place) -> str:
    if reason := _reason(item):
        return reason
    return "must be an array of tables" if place.path == ("schedules",) else "must be a table"


def _reason(item: ErrorDetails) -> str:
    """What a check of our own said; empty for pydantic's, which speak of types and not of the key."""
    return str(item["ctx"]["error"]) if item["type"] == "value_error" else ""


def _named(place: Place, layer: Mapping[str, Any]) -> str:
    """The table, and for a schedule its name too: counting entries is no fun."""
    if place.path[0] == "schedules" and len(place.path) > 1:
        name = _value_at(layer, (*place.path[:2], "name"))
        return f"{place.table} ({show(name)})" if isinstance(name, str) else place.table
    return place.table


def _source(path: Path, sources: Mapping[Path, str], file: str) -> str:
    """The variable or flag that set `path`; of a whole table, one that set something in it."""
    for known, name in sources.items():
        shorter = min(len(known), len(path))
        if known[:shorter] == path[:shorter]:
            return name
    return file


def _value_at(layer: Any, path: Path) -> Any:
    for key in path:
        try:
            layer = layer[key]
        except (LookupError, TypeError):
            return None
    return layer


def _table_name(place: Place) -> str:
    return str(place.path[0]) if place.path else ""


def _hint(name: str) -> str:
    close = difflib.get_close_matches(name, list(Settings.model_fields), 1)
    if close:
        return f", did you mean {_bracketed(close[0])}?"
    homes = [f"{name} in [{table}]" for table, model in SECTIONS.items() if name in model.model_fields]
    return f", did you mean {homes[0]}?" if homes else "."


def _tables() -> str:
    return ", ".join(_bracketed(name) for name in Settings.model_fields)


def _bracketed(name: str) -> str:
    return {"handlers": "[handlers.NAME]", "schedules": "[[schedules]]"}.get(name, f"[{name}]")
