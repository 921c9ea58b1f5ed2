"""What clients write into the database besides new jobs, and what they ask, as plain values: no I/O and no clock here.

The asynchronous client and the synchronous one differ in `await` only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bson import ObjectId, Regex, json_util
from bson.errors import BSONError

from supervisor.core.job import ENDED, Status
from supervisor.core.outcome import ErrorInfo, ErrorKind
from supervisor.core.transitions import describe
from supervisor.errors import JobStateError

RETRYABLE = (Status.FAILED, Status.CANCELLED)
ALIVE_S = 15.0
"""A supervisor whose last heartbeat is older than this many seconds is probably gone."""

JSON = json_util.JSONOptions(tz_aware=True)
"""How Extended JSON is read."""

LISTED_WITHOUT = {"payload": 0, "result": 0, "attempts": 0}
"""What a listing leaves out: everything that can be large."""

_INT64 = range(-(2**63), 2**63)
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_LONGEST_EXTENDED = 500
"""Characters; a longer one could be nested deeper than the database takes."""
_FORGOTTEN_BY_A_RETRY = ("run_at", "finished_at", "cancel_requested", "lease", "progress", "result", "result_file")


def id_text(job_id: Any) -> str:
    """Return an id so that it can be given to a command again."""
    if isinstance(job_id, (ObjectId, str, int)) and not isinstance(job_id, bool):
        return str(job_id)
    return json_util.dumps(job_id)


def ids_meant_by(text: str) -> list[Any]:
    """Return the ids that `text` from a command line may stand for, the likeliest first.

    An ObjectId, an integer, the string itself; Extended JSON for everything else (`{"$uuid": "…"}`), if it can be an
    id: `{"$ne": null}` cannot, and is only a string.
    """
    candidates: list[Any] = [ObjectId(text)] if ObjectId.is_valid(text) else []
    if _INTEGER.fullmatch(text) and int(text) in _INT64:
        candidates.append(int(text))
    if text.startswith("{") and len(text) <= _LONGEST_EXTENDED:
        candidates += filter(_can_be_id, _extended(text))
    return [*candidates, text] if _is_unicode(text) else []


def _can_be_id(value: Any) -> bool:
    """Tell whether the database takes `value` as an `_id`; as a query, the others would mean something else."""
    if isinstance(value, Mapping):
        return not any(str(key).startswith("$") for key in value)
    return not isinstance(value, (list, Regex))


def _extended(text: str) -> list[Any]:
    try:
        return [json_util.loads(text, json_options=JSON)]
    except (ValueError, LookupError, TypeError, BSONError, RecursionError):
        return []


def _is_unicode(text: str) -> bool:
    """Bytes of another encoding in a shell's argument arrive as half characters, which no id has."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def before(job_id: Any) -> dict[str, Any]:
    """Return the filter for ids that come before `job_id` in the order of ids; `$lt` alone would skip other types."""
    return {"$expr": {"$lt": ["$_id", {"$literal": job_id}]}}


def of_handler(handler: str) -> dict[str, Any]:
    """Return the filter for all jobs of a handler, which the index `claim` answers."""
    return {"status": {"$in": [status.value for status in Status]}, "handler": {"$eq": handler}}


def running_on(host: str | None) -> dict[str, Any]:
    """Return the filter for the jobs that run on `host`; None is anywhere."""
    return {"status": Status.PROCESSING.value, **({} if host is None else {"lease.host": {"$eq": host}})}


def retry_filter(job_id: Any) -> dict[str, Any]:
    """Return the filter that matches the job only if it may be retried."""
    return {"_id": {"$eq": job_id}, "status": {"$in": [status.value for status in RETRYABLE]}}


def retry_update() -> dict[str, Any]:
    """Return the update that makes an ended job pending and due, with all attempts before it.

    `claims` stays: the next claim's token must be a new one. `error` and `attempts` stay to tell what happened.
    """
    return {
        "$set": {"status": Status.PENDING.value, "attempt": 0, "crashes": 0},
        "$unset": dict.fromkeys(_FORGOTTEN_BY_A_RETRY, ""),
    }


def retryable(status: str) -> str:
    """Return `status` if jobs of it may be retried; raises JobStateError."""
    if status not in RETRYABLE:
        raise JobStateError(f"only failed and cancelled jobs can be retried, not {status} ones")
    return status


def cancellable(status: str | None) -> str | None:
    """Return `status` if jobs of it may be cancelled; raises JobStateError."""
    if status not in (None, Status.PENDING, Status.PROCESSING):
        raise JobStateError(f"only pending and processing jobs can be cancelled, not {status} ones")
    return status


def cancel_update() -> list[dict[str, Any]]:
    """Return the update that ends a pending job as cancelled."""
    error = describe(ErrorKind.CANCELLED, ErrorInfo("cancelled before it ran"))
    fields = {"status": Status.CANCELLED.value, "error": {"$literal": error}, "finished_at": "$$NOW"}
    return [{"$set": fields}]


def has_ended(document: Mapping[str, Any]) -> bool:
    """Tell whether the job is completed, failed or cancelled."""
    return document.get("status") in ENDED


def count_pipeline() -> list[dict[str, Any]]:
    """Return the aggregation that counts jobs by handler and status; the index `claim` alone answers it."""
    return [
        {"$match": {"status": {"$in": [status.value for status in Status]}}},
        {"$group": {"_id": {"handler": "$handler", "status": "$status"}, "jobs": {"$sum": 1}}},
    ]


def counts_by_handler(groups: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Turn the answer to `count_pipeline` into {handler: {status: jobs}}, every status named."""
    counts: dict[str, dict[str, int]] = {}
    for group in sorted(groups, key=lambda group: str(group["_id"].get("handler"))):
        of_handler = counts.setdefault(str(group["_id"].get("handler")), {status.value: 0 for status in Status})
        of_handler[group["_id"]["status"]] += group["jobs"]
    return counts


def oldest_due_pipelines() -> list[list[dict[str, Any]]]:
    """Return the aggregations that find how long the oldest pending job has been due, in seconds.

    A job is due at its `run_at`; one without it since it was made, which an ObjectId tells: so the index `claim` alone
    answers for those. Jobs with other ids are read for their `created_at`.
    """
    pending = {"status": Status.PENDING.value}
    made_at = {"$cond": [{"$eq": [{"$type": "$_id"}, "objectId"]}, {"$toDate": "$_id"}, None]}
    others = {**pending, "_id": {"$not": {"$type": "objectId"}}}
    return [_oldest_due(pending, made_at), _oldest_due(others, "$created_at")]


def _oldest_due(wanted: dict[str, Any], made_at: Any) -> list[dict[str, Any]]:
    due_at = {"$ifNull": ["$run_at", made_at]}
    is_due = {"$and": [{"$eq": [{"$type": due_at}, "date"]}, {"$lte": [due_at, "$$NOW"]}]}
    age_s = {"$divide": [{"$subtract": ["$$NOW", "$oldest"]}, 1000]}
    oldest = {"$min": {"$cond": [is_due, due_at, None]}}  # which passes over null
    known = {"$cond": [{"$eq": [{"$type": "$oldest"}, "date"]}, age_s, None]}
    return [{"$match": wanted}, {"$group": {"_id": None, "oldest": oldest}}, {"$project": {"age_s": known}}]


def supervisors_pipeline() -> list[dict[str, Any]]:
    """Return the aggregation that lists heartbeat documents with `heartbeat_age_s`, by the database's clock."""
    age_s = {"$divide": [{"$subtract": ["$$NOW", "$heartbeat_at"]}, 1000]}
    known = {"$cond": [{"$eq": [{"$type": "$heartbeat_at"}, "date"]}, age_s, None]}
    return [{"$set": {"heartbeat_age_s": known}}, {"$sort": {"host": 1, "_id": 1}}]


def is_alive(supervisor: Mapping[str, Any]) -> bool:
    """Tell whether a supervisor of `supervisors_pipeline` has been heard of lately."""
    age_s = supervisor.get("heartbeat_age_s")
    return age_s is not None and age_s <= ALIVE_S
