"""Keys that config.toml accepts and this version does not act on yet: said at start, never passed over in silence."""

from __future__ import annotations

from supervisor.config.settings import Settings

_OF_A_HANDLER = ("max_running_total", "max_running_per_group", "rate")


def keys_not_in_force(settings: Settings) -> list[str]:
    """Return the dotted keys that are set to something and have no effect."""
    tables = settings.handlers.items()
    keys = {f"handlers.{name}.{key}": getattr(table, key) for name, table in tables for key in _OF_A_HANDLER}
    keys["schedules"] = settings.schedules
    keys["http.enabled"] = settings.http.enabled
    return [key for key, value in keys.items() if value]
