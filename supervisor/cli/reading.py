"""Reading what somebody gives to an option: files and Extended JSON, with a mistake told by its place."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bson import json_util
from bson.errors import BSONError

from supervisor.client.documents import JSON
from supervisor.errors import UsageError


def read_text(option: str, name: str) -> str:
    """Return the content of the file `name`, `-` for standard input. Raises UsageError that names `option`."""
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{option}: {name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{option}: {name} is not UTF-8") from None


def read_object(place: str, text: str, *, is_one_line: bool = False) -> dict[str, Any]:
    """Return the object in `text`, Extended JSON. Raises UsageError that begins with `place`."""
    try:
        value = json_util.loads(text, json_options=JSON)
    except json.JSONDecodeError as error:
        line = "" if is_one_line else f"line {error.lineno}, "
        raise UsageError(f"{place} is not JSON: {error.msg}, {line}column {error.colno}") from None
    except (ValueError, TypeError, LookupError, BSONError, RecursionError) as error:
        raise UsageError(f"{place} is not Extended JSON: {error}") from None
    if not isinstance(value, dict):
        raise UsageError(f"{place} is {type(value).__name__}, must be an object: {{…}}")
    return value
