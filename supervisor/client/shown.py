"""Documents as others are shown them: BSON values as JSON's own types."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bson import Decimal128, ObjectId, json_util

from supervisor.client.documents import id_text


def plain(value: Any) -> Any:  # noqa: PLR0911 - a table of types
    """Return a BSON value as JSON's own types."""
    match value:
        case Mapping():
            return {str(key): id_text(item) if key == "_id" else plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case None | bool() | str():
            return value
        case datetime():
            return iso(value)
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case int():
            return int(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case ObjectId() | Decimal128():
            return str(value)
    return json.loads(json_util.dumps(value, json_options=json_util.RELAXED_JSON_OPTIONS))


def iso(moment: datetime) -> str:
    """Return a time as ISO 8601 in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
