"""Keys that config.toml accepts and this version does not act on yet: said at start, never passed over in silence."""

from __future__ import annotations

from supervisor.config.settings import Settings


def keys_not_in_force(settings: Settings) -> list[str]:
    """Return the dotted keys that are set to something and have no effect."""
    keys = {"http.enabled": settings.http.enabled}
    return [key for key, value in keys.items() if value]
