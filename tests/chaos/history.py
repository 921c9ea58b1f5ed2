"""The database's own history of the jobs: every write to one, as the oplog has it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pymongo import MongoClient

from supervisor.codec import TOLERANT
from tests.chaos.fleet import DATABASE

NAMESPACE = f"{DATABASE}.jobs"
_TRANSACTION = "admin.$cmd"


@dataclass(frozen=True)
class Claim:
    """A lease as it was written."""

    token: int
    supervisor: str
    slot: int
    pid: int


@dataclass(frozen=True)
class Change:
    """One write to one job."""

    job: str
    status: str | None = None
    """The status it set, None if it left that alone; `deleted` if it removed the document."""
    claim: Claim | None = None
    """The lease it gave, if it was a claim."""
    ended_token: int | None = None
    """The token of the attempt whose end it wrote, where that can be told."""
    inserted: bool = False
    at: float = 0.0
    """Wall time of the primary, in seconds."""
    term: int = 0
    """The election that its primary came from."""


def read_history(client: MongoClient[dict[str, Any]]) -> list[Change]:
    """Return all changes in order, from the primary's oplog: what was rolled back is not in it any more."""
    oplog = client.get_database("local", TOLERANT)["oplog.rs"]
    ours = {"$or": [{"ns": NAMESPACE}, {"ns": _TRANSACTION, "o.applyOps.ns": NAMESPACE}]}
    return [change for entry in oplog.find(ours).sort("$natural", 1) for change in changes_of(entry)]


def changes_of(entry: Mapping[str, Any]) -> Iterator[Change]:
    """Return the changes to jobs that one entry of the oplog made: one, or those of a transaction."""
    if entry["op"] == "c":
        for each in entry["o"].get("applyOps", ()):
            yield from changes_of({**each, "wall": entry["wall"], "t": entry["t"]})
    elif entry["ns"] == NAMESPACE and entry["op"] in "iud":
        when = {"at": entry["wall"].timestamp(), "term": int(entry["t"])}
        yield Change(job=str(entry.get("o2", entry["o"])["_id"]), **_content(entry["op"], entry["o"]), **when)


def _content(op: str, written: Mapping[str, Any]) -> dict[str, Any]:
    if op == "d":
        return {"status": "deleted"}
    if op == "i":
        return {"status": written.get("status"), "inserted": True}
    # an update is a difference, or the whole new document where that is shorter
    diff = written.get("diff")
    fields = dict(written) if diff is None else {**diff.get("u", {}), **diff.get("i", {})}
    status = fields.get("status")
    if status == "processing":
        return {"status": status, "claim": _claim(fields.get("lease"))}
    entries = fields.get("attempts") or _appended((diff or {}).get("sattempts"))
    return {"status": status, "ended_token": entries[-1].get("token") if status and entries else None}


def _claim(lease: Any) -> Claim | None:
    return Claim(lease["token"], lease["supervisor"], lease["slot"], lease["pid"]) if isinstance(lease, dict) else None


def _appended(difference: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Return the elements that a difference sets in an array: `u7` is element 7."""
    numbered = {int(key[1:]): value for key, value in (difference or {}).items() if key[0] == "u" and key[1:].isdigit()}
    return [value for _, value in sorted(numbered.items()) if isinstance(value, dict)]
