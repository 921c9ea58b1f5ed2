"""What a new configuration changes, and which of it applies without a restart.

Whether a key is live stands at the key itself (`RESTART` in `config`), next to its description.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from supervisor.config import HandlerSettings, Settings
from supervisor.config_fields import SECTIONS, is_secret, needs_restart

Value = tuple[Any, bool, bool]
"""A value, whether it is live, and whether it must not be shown."""


@dataclass(frozen=True)
class Change:
    """One key that differs; `live` says whether it applies without a restart.

    `old` and `new` are None where a handler's table has no such key. A secret's values are in them, and neither in
    `str()` nor in `repr()`.
    """

    key: str
    old: Any = field(repr=False)
    new: Any = field(repr=False)
    live: bool
    secret: bool = False

    def __str__(self) -> str:
        values = "(not shown)" if self.secret else f"{_plain(self.old)} -> {_plain(self.new)}"
        return f"{self.key}: {values}" + ("" if self.live else " (needs a restart)")


def diff(old: Settings, new: Settings) -> list[Change]:
    """Return every key whose value differs, in the order of the tables."""
    before, after = dict(_values(old)), dict(_values(new))
    changes = []
    for key in dict.fromkeys([*before, *after]):
        (was, _, _), (now, live, secret) = (
            before.get(key) or (None, *after[key][1:]),
            after.get(key) or (None, *before[key][1:]),
        )
        if was != now:
            changes.append(Change(key, was, now, live, secret))
    return changes


def merge_live(old: Settings, new: Settings) -> Settings:
    """Return `new` with the keys that need a restart as they are in `old`: what may be applied now."""
    kept = {
        section: getattr(new, section).model_copy(
            update={
                name: getattr(getattr(old, section), name)
                for name, each in model.model_fields.items()
                if needs_restart(each)
            }
        )
        for section, model in SECTIONS.items()
    }
    return new.model_copy(update=kept)


def _values(settings: Settings) -> Iterator[tuple[str, Value]]:
    for section, model in SECTIONS.items():
        for name, each in model.model_fields.items():
            yield (
                f"{section}.{name}",
                (getattr(getattr(settings, section), name), not needs_restart(each), is_secret(each)),
            )
    for handler, table in settings.handlers.items():
        for name in HandlerSettings.model_fields:
            if name in table.model_fields_set:
                # A handler's own settings may hold anything, keys to other services included.
                yield f"handlers.{handler}.{name}", (getattr(table, name), True, name == "settings")
    yield "schedules", (settings.schedules, True, False)


def _plain(value: Any) -> str:
    """A value in a log line: schedules by name, `-` for none, anything else as Python shows it."""
    if value is None:
        return "-"
    if isinstance(value, tuple):
        return str([getattr(item, "name", item) for item in value])
    return f"{value:g}" if isinstance(value, float) else repr(value)
