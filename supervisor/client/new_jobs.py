"""A new job: its document from what a producer gives, and everything that is checked before the database sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import NoneType
from typing import Any, TypedDict, cast

import bson
from bson import ObjectId
from bson.errors import BSONError
from pydantic import BaseModel

from supervisor.codec import storable
from supervisor.core.job import Status, find_problem
from supervisor.errors import PayloadError, PayloadTooLargeError, UnknownHandlerError, UsageError
from supervisor.registry import Registry

MOST_DELAY_S = 1e9
_NOT_STORABLE = (BSONError, OverflowError, UnicodeError, RecursionError, TypeError, ValueError)
"""What pymongo raises for a value that BSON does not have."""


class JobOptions(TypedDict, total=False):
    """The producer's optional fields, and `delay_s` for a `run_at` in so many seconds; None counts as missing."""

    priority: int | None
    run_at: datetime | None
    delay_s: float | None
    unique_key: str | None
    group_key: str | None
    batch_id: Any
    timeout_s: float | None
    max_attempts: int | None
    then: Sequence[Mapping[str, Any]] | None
    job_id: Any
    trace: str | None


def job_document(
    handler: str, payload: Mapping[str, Any] | BaseModel | None, options: JobOptions, created_at: datetime
) -> dict[str, Any]:
    """Return the document of a new job. Raises TypeError for an option that does not exist."""
    if unknown := sorted(set(options) - set(JobOptions.__annotations__)):
        raise TypeError(f"enqueue: no such option: {', '.join(unknown)}")
    fields: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    if (delay_s := fields.pop("delay_s", None)) is not None:
        fields["run_at"] = _run_at(delay_s, created_at, fields.get("run_at"))
    if followers := [dict(follower) for follower in fields.pop("then", ())]:
        fields["then"] = followers
    return {
        "_id": fields.pop("job_id", None) or ObjectId(),
        "handler": handler,
        "payload": plain_payload(payload),
        "status": Status.PENDING.value,
        "created_at": created_at,
        **fields,
    }


def _run_at(delay_s: Any, now: datetime, run_at: Any) -> datetime:
    """Return when a delayed job is due; raises UsageError."""
    if run_at is not None:
        raise UsageError("delay_s: there is a run_at as well; give one of the two")
    if isinstance(delay_s, bool) or not isinstance(delay_s, (int, float)) or not 0 <= delay_s <= MOST_DELAY_S:
        raise UsageError(f"delay_s: is {delay_s!r:.80}, must be a number of seconds from 0 to {MOST_DELAY_S:.0e}")
    return now + timedelta(seconds=delay_s)


def plain_payload(payload: Mapping[str, Any] | BaseModel | None) -> dict[str, Any]:
    """Return a payload as it is stored; raises PayloadError for what is no document."""
    if isinstance(payload, BaseModel):
        return cast(dict[str, Any], storable(payload))
    if not isinstance(payload, (dict, Mapping, NoneType)):
        raise PayloadError(f"payload: is {payload!r:.80}, must be a document")
    return dict(payload or {})


def check_job(document: Mapping[str, Any], registry: Registry | None, payload_kb: int) -> bytes:
    """Return a new job as BSON, or raise what is wrong with it, before it gets to the database.

    UsageError for a field of a wrong type, UnknownHandlerError, PayloadError for what the handler's model refuses or
    what is larger than `payload_kb`. Without a registry every handler is taken on trust.
    """
    if problem := find_problem(document):
        raise UsageError(problem)
    data = encoded(document, payload_kb)
    check_payload(document["handler"], document["payload"], registry)
    for position, follower in enumerate(document.get("then") or ()):
        # what the supervisor will add; a model that refuses it would fail only when its parent is done
        payload = {**(follower.get("payload") or {}), "parent_job_id": document["_id"]}
        try:
            check_payload(follower["handler"], payload, registry)
        except (PayloadError, UnknownHandlerError) as error:
            raise type(error)(f"then[{position}]: {error}") from None
    return data


def encoded(document: Mapping[str, Any], payload_kb: int) -> bytes:
    """Return a job as BSON.

    Raises PayloadError for a payload that BSON cannot hold, or that is larger than `payload_kb`; UsageError for other
    fields that it cannot hold, such as a key typed in another encoding than UTF-8.
    """
    try:
        data = bson.encode(document)
    except _NOT_STORABLE:
        encoded_payload(document["payload"], payload_kb)
        check_storable(document)
        raise
    if len(data) > payload_kb * 1024:  # else the payload alone is not larger either
        encoded_payload(document["payload"], payload_kb)
    return data


def check_storable(document: Mapping[str, Any]) -> None:
    """Raise UsageError that names the field which BSON cannot hold."""
    for name, value in document.items():
        try:
            bson.encode({name: value})
        except _NOT_STORABLE as error:
            raise UsageError(f"{name}: cannot be stored: {error}") from None


def encoded_payload(payload: Mapping[str, Any], payload_kb: int) -> bytes:
    """Return a payload as BSON; raises PayloadError if BSON cannot hold it, or if it is larger than `payload_kb`."""
    try:
        data = bson.encode(payload)
    except _NOT_STORABLE as error:
        raise PayloadError(f"payload: cannot be stored: {error}") from None
    if len(data) > payload_kb * 1024:
        raise PayloadTooLargeError(
            f"payload: is {len(data) / 1024:.0f} kB, must be at most {payload_kb} kB (limits.payload_kb); "
            "larger input belongs in a file"
        )
    return data


def check_payload(handler: str, payload: Mapping[str, Any], registry: Registry | None) -> None:
    """Raise PayloadError for a payload that the handler's model refuses, UnknownHandlerError."""
    if registry is None:
        return
    try:
        registry.get(handler).parse_payload(payload)
    except PayloadError as error:
        raise PayloadError(f"payload of {handler!r}: {error}") from None


def with_file(payload: Mapping[str, Any], file_id: Any, registry: Registry | None, handler: str) -> dict[str, Any]:
    """Return the payload with the id of an uploaded file where the handler expects one.

    That is `source.file_id` where its model has a `source`, else `file_id`. Raises UsageError if it has one already,
    UnknownHandlerError.
    """
    payload_type = None if registry is None else registry.get(handler).payload_type
    takes_source = "source" in getattr(payload_type, "model_fields", ())
    field = "source" if takes_source else "file_id"
    if field in payload:
        raise UsageError(f"file: the payload has a {field!r} already; give one of the two")
    return {**payload, field: {"file_id": file_id} if takes_source else file_id}
