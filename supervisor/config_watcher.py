"""Watches config.toml and hands over every valid change; nothing a user writes there can stop it.

It compares the file's identity (inode, size, modification time, through symlinks) four times a second and loads only
what has stood still for one more look: an editor that truncates first, a slow copy and a half-written file are
waited out, a rename or the symlink swap of a Kubernetes ConfigMap shows as a new inode. inotify would see the same
changes sooner, but not those on network file systems and of a symlink's far target.

What is invalid, unsafe or gone is logged once, and the last good configuration stays.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from supervisor.config_file import read_text
from supervisor.config_loading import LoadedConfig, Overrides, load
from supervisor.errors import ConfigError

POLL_S = 0.25

log = structlog.get_logger("supervisor.config")


@dataclass(frozen=True)
class Identity:
    """What tells one state of a file from another; all zero when there is no file."""

    inode: int = 0
    device: int = 0
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0  # a chmod that makes the file safe again is a change too


MISSING = Identity()


def identify(path: Path) -> Identity:
    """Look at the file behind `path`, through symlinks; one that cannot be looked at counts as missing."""
    try:
        status = os.stat(path)  # noqa: PTH116 - Path.stat() is the same call, one layer up, four times a second
    except OSError:
        return MISSING
    return Identity(status.st_ino, status.st_dev, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class ConfigWatcher:
    """Polls one file and calls `on_change` with each new valid configuration.

    `run()` and `reload_now()` belong to one event loop. `environ` and `overrides` are those of the start, so that a
    variable or flag keeps its precedence over the file. What `on_change` raises comes out of `run()` or `reload_now()`.
    """

    def __init__(
        self,
        path: Path,
        on_change: Callable[[LoadedConfig], None],
        environ: Mapping[str, str],
        overrides: Overrides,
        *,
        poll_s: float = POLL_S,
    ) -> None:
        self._path = path.absolute()  # a later chdir must not make us watch another file
        self._on_change = on_change
        self._environ = dict(environ)
        self._overrides = overrides
        self._poll_s = poll_s
        self._handled = self._seen = identify(self._path)
        self._reported = ""

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(self._poll_s)
            self.poll()

    def poll(self) -> None:
        """Look once; act when the file differs from what was handled and has stood still since the last look."""
        now = identify(self._path)
        stood_still, self._seen = now == self._seen, now
        if stood_still and now != self._handled:
            self._handle(now)

    def reload_now(self) -> None:
        """Load at once, changed or not, and report a fault again: somebody has asked."""
        self._reported = ""
        self._seen = identify(self._path)
        self._handle(self._seen)

    def _handle(self, now: Identity) -> None:
        self._handled = now
        if now == MISSING:
            self._report("config.missing", "there is no such file")
            return
        try:
            loaded = self._load()
        except ConfigError as error:
            self._report("config.invalid", str(error))
            return
        if loaded.unsafe:
            self._report("config.unsafe_permissions", loaded.unsafe)
            return
        self._reported = ""
        self._on_change(loaded)

    def _load(self) -> LoadedConfig:
        """Load and validate whole; an empty file is taken for one that is being written, and not for the defaults."""
        if not read_text(self._path).text.strip():
            raise ConfigError(f"{self._path}: is empty")
        return load(self._path, self._environ, self._overrides)

    def _report(self, event: str, reason: str) -> None:
        """Log a fault unless it is the one logged last: saving the same mistake again is no news."""
        if self._reported == event + reason:
            return
        self._reported = event + reason
        log.warning(event, path=str(self._path), reason=reason, kept="the last good configuration")
