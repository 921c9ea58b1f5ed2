"""Watches config.toml and hands over every valid change; nothing a user writes there can stop it.

It compares the file's identity (inode, size, modification time, through symlinks) twice a second, and once that has
changed, four times. It loads only what has stood still for one more look: an editor that truncates first, a slow copy
and a half-written file are waited out, a rename or the symlink swap of a Kubernetes ConfigMap shows as a new inode. A
text that does not end with its line may be half of one, and valid all the same (`workers = 1` of 12): it has to stand
still for longer. inotify would see the same changes sooner, but not those on network file systems and of a symlink's
far target.

What is invalid, unsafe or gone is logged once, and the last good configuration stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from supervisor import in_step
from supervisor.config.file import MISSING, ConfigText, Identity, identify, read_text
from supervisor.config.loading import DEFAULT_PATH, LoadedConfig, Overrides, assemble
from supervisor.errors import ConfigError

POLL_S = 0.5
"""Half of it while what is there has not been loaded."""
LOOKS_AT_HALF = 4
"""Looks during which a file must not change that does not end with its line."""

log = structlog.get_logger("supervisor.config.settings")


class ConfigWatcher:
    """Polls the file of `loaded` and calls `on_change` with each later valid state of it.

    Was there no file, one that appears at the usual place is taken up. `environ` and `overrides` are those of the
    start, so that a variable or flag keeps its precedence; only `--workers`, the number to start with, gives way to a
    later edit of `workers` in the file. `run()` and `reload_now()` belong to one event loop, and
    what `on_change` raises comes out of them.
    """

    def __init__(
        self,
        loaded: LoadedConfig,
        on_change: Callable[[LoadedConfig], None],
        environ: Mapping[str, str],
        overrides: Overrides,
        *,
        poll_s: float = POLL_S,
    ) -> None:
        self._path = (loaded.path or DEFAULT_PATH).absolute()  # a later chdir must not make us watch another file
        self._on_change = on_change
        self._environ = dict(environ)
        self._overrides = overrides
        self._workers_without_flag = loaded.workers_without_flag
        self._poll_s = poll_s
        self._handled = self._seen = loaded.identity
        self._still_looks = 0
        self._reported: tuple[str, ...] = ()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await (in_step.sleep(self._poll_s) if self._seen == self._handled else asyncio.sleep(self._poll_s / 2))
            self.poll()

    def poll(self) -> None:
        """Look once; act when the file differs from what was handled and has stood still since the last look."""
        now = identify(self._path)
        self._still_looks = self._still_looks + 1 if now == self._seen else 0
        self._seen = now
        if self._still_looks and now != self._handled:
            self._handle(now, finished=self._still_looks >= LOOKS_AT_HALF)

    def reload_now(self) -> None:
        """Load at once, changed or not, and report a fault again: somebody has asked."""
        self._reported = ()
        self._seen = identify(self._path)
        self._handle(self._seen, finished=True)

    def _handle(self, now: Identity, *, finished: bool) -> None:
        """Read the file and act; when it changed since `now`, the next looks will see whether it stands still.

        Unless it is `finished` for certain, one that may be half of a file is left to later looks.
        """
        before, self._handled = self._handled, now
        if now == MISSING:
            self._report("config.missing", "there is no such file")
            return
        try:
            file = read_text(self._path)
        except ConfigError as error:
            self._report("config.invalid", str(error))
            return
        if not finished and not file.text.endswith("\n"):
            self._handled = before
        elif file.identity == now:
            self._apply(file)

    def _apply(self, file: ConfigText) -> None:
        if file.unsafe:
            self._report("config.unsafe_permissions", file.unsafe, file.text)
            return
        try:
            loaded = self._assemble(file)
        except ConfigError as error:
            self._report("config.invalid", str(error), file.text)
            return
        self._reported = ()
        self._on_change(loaded)

    def _assemble(self, file: ConfigText) -> LoadedConfig:
        """Validate whole; an empty file is taken for one that is being written, and not for the defaults."""
        if not file.text.strip():
            raise ConfigError(f"{self._path}: is empty")
        loaded = assemble(self._path, file, self._environ, self._overrides)
        if self._overrides.workers is None or loaded.workers_without_flag == self._workers_without_flag:
            return loaded
        without_flag = replace(self._overrides, workers=None)
        loaded = assemble(self._path, file, self._environ, without_flag)
        self._overrides = without_flag
        return loaded

    def _report(self, event: str, reason: str, content: str = "") -> None:
        """Log a fault once per content: a touch or a second save of the same mistake is no news."""
        if self._reported == (event, reason, content):
            return
        self._reported = (event, reason, content)
        log.warning(event, path=str(self._path), reason=reason, kept="the last good configuration")
