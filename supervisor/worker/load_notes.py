"""What the fork server writes down while it loads, for whoever finds it dead, or hanging: a file of JSON lines.

{"at": "handlers.ocr.preload"}                   it begins with this module or hook
{"left_out": "handlers.ocr.preload", "why": …}   it has begun anew without it: workers load it themselves
{"ready": true}                                  it has loaded all
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class LoadNotes:
    """How far a fork server has come."""

    at: str | None = None
    """The module or hook that it is at, and after its death the one that it died of."""
    ready: bool = False
    left_out: dict[str, str] = field(default_factory=dict)
    """Module or hook → why."""


def append(path: str, **note: Any) -> None:
    """Write one line, at once: the next instruction may be the last."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, json.dumps(note).encode() + b"\n")
    finally:
        os.close(descriptor)


def read(path: Path) -> LoadNotes:
    """Return what stands in the file; of one that cannot be read, nothing. A handler may have written anything."""
    notes = LoadNotes()
    for line in _lines(path):
        if isinstance(line.get("left_out"), str):
            notes.left_out[line["left_out"]] = str(line.get("why"))
        elif isinstance(line.get("at"), str):
            notes.at = line["at"]
        elif line.get("ready") is True:
            notes.at, notes.ready = None, True
    return notes


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        texts = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for text in texts:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            found.append(line)
    return found
