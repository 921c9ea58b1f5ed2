"""Whether the supervisors of this machine get on, by a small file that each writes (`supervisor.health_file`).

Who asks every second shall not pay for what a supervisor needs: this loads nothing but the standard library, and little
of that. Nothing is asked of a database.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from supervisor.proc import boot_id, is_alive
from supervisor.pulse import STALLED_S

NAME = "mongo-job-supervisor"
RUN = Path("/run") / NAME
"""Root's own, and below it one directory for each service of systemd's."""
SUFFIX = ".health"
TRIES = 5
RUNNING = "running"


class Health(NamedTuple):
    """How one supervisor of this machine is."""

    pid: int
    phase: str
    """What it said of itself last: `starting`, `running` or `draining`."""
    beat_age_s: float
    """How long ago its claim loop has turned."""
    dead: bool = False

    def __str__(self) -> str:
        return f"supervisor {self.pid} is {self.phase}; its claim loop turned {self.beat_age_s:.1f} s ago"

    def problem(self, *, live: bool) -> str:
        """Say what is wrong; empty when it is fine. `live`: to start or to drain is no fault."""
        who = f"supervisor {self.pid}"
        if self.dead:
            return f"{who} is dead: it was killed, or has crashed"
        if self.beat_age_s > STALLED_S:
            return f"{who} has made no progress for {self.beat_age_s:.0f} s (it was {self.phase})"
        return "" if live or self.phase == RUNNING else f"{who} is {self.phase}"


def answer(environ: Mapping[str, str], *, json_: bool, live: bool) -> int:
    """Print how the supervisors of this machine are, and return the exit code: 0 if there is one and all are fine."""
    places = folders(environ)
    found = [each for folder in places for _, each in read_all(folder) if each]
    problems = [problem for each in found if (problem := each.problem(live=live))]
    if not found:
        problems = [f"no supervisor runs here (nothing in {', '.join(map(str, places))})"]
    if json_:
        shown = {"ok": not problems, "problems": problems, "supervisors": [each._asdict() for each in found]}
        sys.stdout.write(json.dumps(shown) + "\n")
    else:
        fine = [each for each in found if not each.problem(live=live)]
        sys.stdout.writelines(f"ok: {each}\n" for each in fine)
        sys.stderr.writelines(f"error: {problem}\n" for problem in problems)
    return 1 if problems else 0


def own_folder(environ: Mapping[str, str]) -> Path:
    """Return where we write: the service manager's directory, or /run, or the user's own, or one in /tmp."""
    if named := environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]:
        return Path(named)
    if os.geteuid() == 0:
        return RUN
    if run := environ.get("XDG_RUNTIME_DIR"):
        return Path(run) / NAME
    return Path(environ.get("TMPDIR") or "/tmp") / f"{NAME}-{os.geteuid()}"  # noqa: S108 - another's is not believed


def folders(environ: Mapping[str, str]) -> list[Path]:
    """Return where supervisors of this machine may have written; where one directory is named, only that."""
    own = own_folder(environ)
    if environ.get("RUNTIME_DIRECTORY"):
        return [own]
    return list(dict.fromkeys([own, RUN, *sorted(each for each in RUN.glob("*") if each.is_dir())]))


def read_all(folder: Path) -> Iterator[tuple[Path, Health | None]]:
    """Yield the files in `folder` and what they say, None for one that says nothing."""
    if _is_believed(folder):
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            yield path, _read(path)


def _is_believed(folder: Path) -> bool:
    """Whether nobody but us, root or one of root's services can have written there."""
    try:
        return folder.parent == RUN or folder.stat().st_uid in (0, os.geteuid())
    except OSError:
        return False


def _read(path: Path) -> Health | None:
    for _ in range(TRIES):
        try:
            return _judge(json.loads(path.read_text("utf-8")))
        except OSError:
            return None
        except (ValueError, KeyError, TypeError):  # it is being written
            time.sleep(0.001)
    return None


def _judge(state: dict[str, Any]) -> Health:
    dead = state["boot_id"] != boot_id() or not is_alive(state["pid"], state["start_ticks"])
    return Health(state["pid"], state["phase"], round(max(0.0, time.monotonic() - state["beat_at"]), 1), dead)
