"""Random edits of a running supervisor's config.toml: valid and not, saved in every way that editors and tools have."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.support.supervising import toml

Tables = dict[str, dict[str, Any]]

LONGEST_PAUSE_S = 0.03
"""Within a save that is done in pieces: now and then the supervisor looks in between."""

VALID: dict[str, Callable[[Random], Any]] = {
    "pool.workers": lambda random: random.randint(0, 4),
    "pool.max_jobs_per_worker": lambda random: random.randint(3, 60),
    "pool.max_growth_mb": lambda random: random.randint(200, 400),
    "pool.pin": lambda _: True,
    "pool.nice": lambda random: random.randint(1, 5),
    "pool.spares": lambda random: random.randint(1, 2),
    "pool.claim": lambda random: random.choice([["ledger"], ["sleeps"], ["ledger", "sleeps"]]),
    "pool.threads_per_worker": lambda random: random.randint(2, 4),
    "lease.reap_every_s": lambda random: random.choice([0.5, 1.5, 60]),
    "shutdown.drain_s": lambda random: random.randint(31, 60),
    "retry.max_attempts": lambda random: random.randint(4, 9),
    "limits.log_kb": lambda random: random.choice([0, 1, 128]),
    "mongo.wait_s": lambda random: random.randint(11, 20),
    "handlers.ledger.max_running": lambda random: random.randint(1, 3),
    "handlers.sleeps.timeout_s": lambda random: random.randint(30, 90),
    "handlers.sleeps.max_running_total": lambda random: random.randint(1, 3),
}
"""Keys and values that are allowed, none of them at its default; a few of them wait for a restart."""

REFUSED_BEHIND_A_VALID_TEXT = [
    b'[pool.workers]\nmany = "yes"\n',
    b"[nonsense]\nkey = 1\n",
    b"[http]\nport = 99999\n",
    b"[http]\nprot = 1\n",
    b"\xff\xfe",
    b"\0",
    b"x = " + b"[" * 5000,
]
REFUSED = [b"", b" \n\n", b"#" * 300_000]


@dataclass
class Editor:
    """Saves texts at `path` in one way or another. `base` are the tables that every valid text has."""

    path: Path
    base: Tables
    random: Random

    def valid(self) -> tuple[str, dict[str, Any]]:
        """Return a text, and the keys in it that are not in `base`."""
        keys = self.random.sample(sorted(VALID), self.random.randint(1, 6))
        chosen = {key: VALID[key](self.random) for key in keys}
        tables = {table: dict(values) for table, values in self.base.items()}
        for key, value in chosen.items():
            table, _, name = key.rpartition(".")
            tables.setdefault(table, {})[name] = value
        return toml(tables), chosen

    def invalid(self) -> bytes:
        """Return what is to be refused."""
        text = self.valid()[0].encode()
        cut_short = text[: self.random.randrange(len(text))] + b"\n[pool\n"
        behind = [text + more for more in REFUSED_BEHIND_A_VALID_TEXT]
        return self.random.choice([cut_short, *behind, *REFUSED])

    def save(self, content: bytes) -> str:
        """Save it in a random way, and return which one that was."""
        ways = (self._rename, self._in_place, self._in_pieces, self._swap_symlink, self._delete_and_make)
        way = self.random.choice(ways)
        way(content)
        return way.__name__

    def _rename(self, content: bytes) -> None:
        draft = self.path.with_suffix(".new")
        draft.write_bytes(content)
        draft.replace(self.path)

    def _in_place(self, content: bytes) -> None:
        self.path.write_bytes(content)

    def _in_pieces(self, content: bytes) -> None:
        """Truncate, and write half a file at a time."""
        half = self.random.randrange(len(content) + 1)
        with self.path.open("wb", buffering=0) as file:
            for piece in (content[:half], content[half:]):
                self._pause()
                file.write(piece)

    def _swap_symlink(self, content: bytes) -> None:
        """What Kubernetes does with a ConfigMap: config.toml leads through ..data, which is renamed over."""
        folder = self.path.parent
        version = folder / f"..{time.monotonic_ns()}"
        version.mkdir()
        (version / self.path.name).write_bytes(content)
        (folder / "..tmp").symlink_to(version.name)
        (folder / "..tmp").rename(folder / "..data")
        if not self.path.is_symlink():
            (folder / "..link").symlink_to(f"..data/{self.path.name}")
            (folder / "..link").rename(self.path)

    def _delete_and_make(self, content: bytes) -> None:
        self.path.unlink()
        self._pause()
        self.path.write_bytes(content)

    def _pause(self) -> None:
        time.sleep(self.random.random() * LONGEST_PAUSE_S)
