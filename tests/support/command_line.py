"""Commands of `python -m supervisor` as subprocesses, each to its end."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.supervising import MISBEHAVING, ROOT, toml

TIMEOUT_S = 60
NOWHERE = "mongodb://127.0.0.1:1/?directConnection=true"
"""A database that nobody serves."""


@dataclass(frozen=True)
class Done:
    """What a command wrote and the code it ended with."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line of an error, which is all there is on stderr."""
        (line,) = self.err.splitlines()
        assert line.startswith("error: "), self.err
        return line.removeprefix("error: ")


@dataclass(frozen=True)
class CommandLine:
    """Runs commands in a folder with a config.toml of its own."""

    folder: Path
    uri: str
    database: str

    def configure(self, schedules: Sequence[dict[str, Any]] = (), **tables: dict[str, Any]) -> None:
        """Write config.toml: the database, the misbehaving handlers, and `tables`, which add and win."""
        config: dict[str, dict[str, Any]] = {
            "mongo": {"uri": self.uri, "database": self.database},
            "pool": {"workers": 1, "modules": [MISBEHAVING]},
        }
        for name, keys in tables.items():
            config[name] = {**config.get(name, {}), **keys}
        (self.folder / "config.toml").write_text(toml({**config, "schedules": list(schedules)}))

    def __call__(self, *arguments: str, stdin: str = "", environ: dict[str, str] | None = None) -> Done:
        process = self.start(*arguments, environ=environ)
        out, err = process.communicate(stdin, timeout=TIMEOUT_S)
        return Done(process.returncode, out, err)

    def start(self, *arguments: str, environ: dict[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "supervisor", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environ or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
