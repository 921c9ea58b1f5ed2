"""What a service manager must know of this installation: its files, who may read them, the manager's version."""

from __future__ import annotations

import os
import pwd
import re
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import supervisor
from supervisor.errors import ConfigError

HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - to know them by


@dataclass(frozen=True)
class Account:
    """Who the service runs as, as far as files are concerned."""

    uid: int
    groups: frozenset[int]

    def may(self, path: Path, wanted: int) -> bool:
        """Tell whether the mode of `path` and of all directories above it allows `wanted` (4 read, 1 search)."""
        real = path.resolve()
        return self._is_allowed(real, wanted) and all(self._is_allowed(above, 1) for above in real.parents)

    def _is_allowed(self, path: Path, wanted: int) -> bool:
        status = path.stat()
        mode = stat.S_IMODE(status.st_mode)
        if self.uid in (0, status.st_uid):
            return self.uid == 0 or bool(mode >> 6 & wanted)
        return bool((mode >> 3 if status.st_gid in self.groups else mode) & wanted)


MADE_UP = Account(-1, frozenset())
"""A user of systemd's making: it owns nothing and is in no group."""


def account(user: str | None) -> Account:
    """Return the account of a user of this machine, None for one that systemd makes up. Raises ConfigError."""
    if user is None:
        return MADE_UP
    try:
        entry = pwd.getpwnam(user)
    except (KeyError, ValueError):
        raise ConfigError(f"--user {user}: there is no such user on this machine") from None
    return Account(entry.pw_uid, frozenset(os.getgrouplist(user, entry.pw_gid)))


def default_user() -> str | None:
    """Return who runs this; None for root, whom no handler should run as."""
    return pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() else None


def places(*files: Path | None) -> list[Path]:
    """Return the directories that the service reads, none of them inside another: of Python, this code and `files`."""
    package = Path(supervisor.__file__).parents[1]
    found = [Path(sys.executable).parent, Path(sys.prefix), Path(sys.base_prefix), package, Path.cwd()]
    found += [Path(entry) for entry in sys.path if entry and Path(entry).is_dir()]
    found += [file.absolute().parent for file in files if file]
    every = dict.fromkeys([*found, *(place.resolve() for place in found)])
    return [place for place in every if not any(place != other and place.is_relative_to(other) for other in every)]


def is_in(place: Path, parents: Sequence[Path]) -> bool:
    """Tell whether `place` is in one of `parents`."""
    return any(place.is_relative_to(parent) for parent in parents)


def unreadable(who: Account, *files: Path | None) -> Iterator[Path]:
    """Yield what `who` may not read of the interpreter, this code, the current directory and `files`."""
    code, wanted = Path(supervisor.__file__), 4
    for path in (Path(sys.executable), code, Path.cwd(), *filter(None, files)):
        if not who.may(path, wanted):
            yield path.absolute()


def systemd_version() -> int:
    """Return the version of this machine's systemd; 0 if it has none."""
    try:
        done = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.match(r"systemd (\d+)", done.stdout)
    return int(found[1]) if found else 0
