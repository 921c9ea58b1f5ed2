"""How often jobs have ended, by the database's own history."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from pymongo import MongoClient

ENDED = {"completed", "failed", "cancelled"}


def ends(client: MongoClient[dict[str, Any]], namespace: str) -> Counter[Any]:
    """Return how many writes of the oplog have ended each job of `database.collection`."""
    entries = client["local"]["oplog.rs"].find({"$or": [{"ns": namespace}, {"o.applyOps.ns": namespace}]})
    written = [each for entry in entries for each in _writes(entry, namespace)]
    return Counter(job_id for job_id, status in written if status in ENDED)


def _writes(entry: dict[str, Any], namespace: str) -> Iterator[tuple[Any, Any]]:
    """Return the id and the new status of each update in an entry, a transaction's included."""
    for each in entry["o"].get("applyOps", [entry]):
        if each["ns"] == namespace and each["op"] == "u":
            difference = each["o"].get("diff")
            fields = each["o"] if difference is None else {**difference.get("u", {}), **difference.get("i", {})}
            yield each["o2"]["_id"], fields.get("status")
