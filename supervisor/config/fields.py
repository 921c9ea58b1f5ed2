"""Finds the field that a dotted key means, and says in words which values it allows.

A path is the keys from the top: `("pool", "workers")`, `("handlers", "ocr", "rate")`, `("schedules", 0, "cron")`.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from supervisor.config.settings import HandlerSettings, ScheduleSettings, Settings
from supervisor.config.values import Table

Path = tuple[str | int, ...]

SECTIONS: dict[str, type[Table]] = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Table)
}
"""The plain tables, by name; `handlers` and `schedules` hold several of theirs."""


@dataclass(frozen=True)
class Place:
    """Where a path leads: a table with its model, and the key and field in it, as far as they are known."""

    table: str
    path: Path
    model: type[Table] | None = None
    key: str | None = None

    @property
    def field(self) -> FieldInfo | None:
        return self.model.model_fields.get(self.key) if self.model and self.key is not None else None


def locate(path: Path) -> Place:
    """Return the place of `path`; what lies deeper than a field belongs to that field."""
    if not path:
        return Place("", ())
    top = str(path[0])
    if top == "handlers":
        return _inside(f"[handlers.{path[1]}]" if path[1:] else "[handlers.NAME]", path, 2, HandlerSettings)
    if top == "schedules":
        return _inside("[[schedules]]" + (f" #{int(path[1]) + 1}" if path[1:] else ""), path, 2, ScheduleSettings)
    return _inside(f"[{top}]", path, 1, SECTIONS.get(top))


def _inside(table: str, path: Path, depth: int, model: type[Table] | None) -> Place:
    key = str(path[depth]) if len(path) > depth else None
    return Place(table, path[: depth + 1], model, key)


def is_secret(field: FieldInfo) -> bool:
    """Whether a value of this field must not be shown."""
    return field.annotation is SecretStr or not field.repr


def needs_restart(field: FieldInfo) -> bool:
    """Whether a change of this field waits for the next start."""
    return bool(_extra(field).get("restart"))


def when_unset(field: FieldInfo) -> str:
    """Say what leaving out a key without a default value means."""
    return str(_extra(field).get("unset", "the handler's own"))


def allowed(field: FieldInfo) -> str:
    """Say what a field takes, in words that follow "must be"."""
    given = _extra(field).get("allowed")
    return str(given) if given else _describe(field.annotation, field.metadata)


def _extra(field: FieldInfo) -> dict[str, Any]:
    return dict(field.json_schema_extra) if isinstance(field.json_schema_extra, dict) else {}


def _describe(annotation: Any, metadata: Sequence[Any]) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        return _describe(inner, _flat(more))
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(arm, ()) for arm in get_args(annotation) if arm is not type(None))
    if origin is Literal:
        return join_or([f'"{choice}"' for choice in get_args(annotation)])
    if annotation is bool:
        return "true or false"
    if annotation in (int, float):
        return _describe_number("an integer" if annotation is int else "a number", metadata)
    return "a string that is not empty" if any(isinstance(item, MinLen) for item in metadata) else "a string"


def _flat(metadata: Sequence[Any]) -> list[Any]:
    """Inside a union pydantic keeps `Field(…)` itself; its constraints are one level down."""
    return [part for item in metadata for part in (item.metadata if isinstance(item, FieldInfo) else [item])]


def _describe_number(noun: str, metadata: Sequence[Any]) -> str:
    low = next((item.ge for item in metadata if isinstance(item, Ge)), None)
    above = next((item.gt for item in metadata if isinstance(item, Gt)), None)
    high = next((item.le for item in metadata if isinstance(item, Le)), None)
    if above is not None:
        return f"{noun} above {above}, at most {high}"
    return f"{noun} from {low} to {high}"


def join_or(words: Sequence[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
