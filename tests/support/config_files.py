"""Configuration files for tests, and what loading them says."""

from pathlib import Path

import pytest

from supervisor.config.loading import LoadedConfig, Overrides, load
from supervisor.errors import ConfigError

SCHEDULE = '[[schedules]]\nname = "nightly"\nhandler = "cleanup"\n'


def write(text: str | bytes) -> Path:
    """Write config.toml in the working directory, as a file that only its owner may change."""
    path = Path("config.toml")
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o644)
    return path


def load_text(
    text: str | bytes, environ: dict[str, str] | None = None, overrides: Overrides | None = None
) -> LoadedConfig:
    return load(write(text), environ or {}, overrides or Overrides())


def refusal(text: str | bytes, environ: dict[str, str] | None = None, overrides: Overrides | None = None) -> str:
    """Return the message with which `text` is refused."""
    with pytest.raises(ConfigError) as caught:
        load_text(text, environ, overrides)
    return str(caught.value)
