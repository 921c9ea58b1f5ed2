"""Which keys are not at their default, what they are set to, and by whom: for `check`, and for the heartbeat.

A secret is never shown: neither a key that is one, nor a handler's own settings, nor the password in a connection
string.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from supervisor.config.checks import redact_uri
from supervisor.config.diff import Change, diff, waits_for_restart
from supervisor.config.settings import ScheduleSettings, Settings

HIDDEN = "***"


@dataclass(frozen=True)
class Origin:
    """What set a key: "default", "file", "environment", "flag" or "code", and the name of what set it, if any."""

    kind: str = "default"
    name: str = ""


@dataclass(frozen=True)
class SetKey:
    """A key that is not at its default; `value` as JSON has it, or hidden."""

    key: str
    value: Any
    origin: Origin

    def document(self) -> dict[str, Any]:
        """Return it as others are shown it."""
        return {"key": self.key, "value": self.value, "from": self.origin.kind}


def set_keys(settings: Settings, origins: Mapping[str, Origin]) -> list[SetKey]:
    """Return the keys of `settings` that are not at their default, in the order of the tables."""
    changes = diff(Settings(), settings)
    return [SetKey(change.key, _value(change), origins.get(change.key, Origin())) for change in changes]


def origins_in_force(old: Mapping[str, Origin], new: Mapping[str, Origin]) -> dict[str, Origin]:
    """Return `new` with the keys that need a restart as they are in `old`, as `merge_live` does with the values."""
    return {key: old.get(key, Origin()) if waits_for_restart(key) else origin for key, origin in new.items()}


def _value(change: Change) -> Any:
    if change.key == "mongo.uri":
        return redact_uri(change.new)
    if change.secret:
        return HIDDEN
    if isinstance(change.new, tuple):
        return [item.name if isinstance(item, ScheduleSettings) else item for item in change.new]
    return int(change.new) if isinstance(change.new, float) and change.new.is_integer() else change.new
