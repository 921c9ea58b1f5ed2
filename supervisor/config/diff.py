"""What a new configuration changes, and which of it applies without a restart.

Whether a key is live stands at the key itself (`RESTART` in `config`), next to its description.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from supervisor.config.fields import SECTIONS, is_secret, needs_restart
from supervisor.config.settings import HandlerSettings, ScheduleSettings, Settings
from supervisor.config.values import Table


@dataclass(frozen=True)
class Change:
    """One key that differs; `live` says whether it applies without a restart.

    `old` and `new` are None where a handler's table has no such key. Neither is part of `repr()`, and those of a
    secret are not part of `str()` either.
    """

    key: str
    old: Any = field(repr=False)
    new: Any = field(repr=False)
    live: bool
    secret: bool = False

    def __str__(self) -> str:
        values = "*** -> ***" if self.secret else f"{_plain(self.old)} -> {_plain(self.new)}"
        return f"{self.key}: {values}" + ("" if self.live else " (needs a restart)")


def diff(old: Settings, new: Settings) -> list[Change]:
    """Return every key whose value differs, in the order of the tables."""
    before, after = dict(_entries(old)), dict(_entries(new))
    changes = []
    for key, entry in (before | after).items():
        was, now = before.get(key), after.get(key)
        old_value, new_value = was and was.value, now and now.value
        if old_value != new_value:
            changes.append(Change(key, old_value, new_value, entry.live, entry.secret))
    return changes


def merge_live(old: Settings, new: Settings) -> Settings:
    """Return `new` with the keys that need a restart as they are in `old`: what may be applied now."""
    return new.model_copy(
        update={section: _with_kept(getattr(old, section), getattr(new, section)) for section in SECTIONS}
    )


def waits_for_restart(key: str) -> bool:
    """Tell whether a change of the dotted `key` waits for the next start."""
    section, _, name = key.partition(".")
    model = SECTIONS.get(section)
    return model is not None and name in model.model_fields and needs_restart(model.model_fields[name])


def _with_kept(old: Table, new: Table) -> Table:
    fields = type(new).model_fields
    return new.model_copy(update={key: getattr(old, key) for key, each in fields.items() if needs_restart(each)})


class _Entry(NamedTuple):
    value: Any
    live: bool
    secret: bool


def _entries(settings: Settings) -> Iterator[tuple[str, _Entry]]:
    for section, model in SECTIONS.items():
        table = getattr(settings, section)
        for key, each in model.model_fields.items():
            yield f"{section}.{key}", _Entry(getattr(table, key), not needs_restart(each), is_secret(each))
    for name, handler in settings.handlers.items():
        for key in HandlerSettings.model_fields:
            if key in handler.model_fields_set:
                # A handler's own settings may hold anything, keys to other services included.
                yield f"handlers.{name}.{key}", _Entry(getattr(handler, key), live=True, secret=key == "settings")
    yield "schedules", _Entry(settings.schedules, live=True, secret=False)


def _plain(value: Any) -> str:
    """A value in a log line: schedules by name and time, `-` for none, anything else as Python shows it."""
    if value is None:
        return "-"
    if isinstance(value, tuple):
        return str([f"{item.name} {item.cron}" if isinstance(item, ScheduleSettings) else item for item in value])
    return f"{value:g}" if isinstance(value, float) else repr(value)
