"""Ending jobs that no supervisor runs, one or many at once, and whatever their documents look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo import UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError

from supervisor.core.job import Status

MOST = 5000
"""So many in one call; the next round takes the rest."""

Change = dict[str, Any]


async def end_all(
    jobs: AsyncCollection[dict[str, Any]],
    filter_: Mapping[str, Any],
    status: Status,
    error: Mapping[str, Any],
    unset: Sequence[str] = (),
) -> int:
    """End the documents that `filter_` matches, and still matches then; return how many. Raises PyMongoError.

    Each gets as much of the reason as it has room for: one just under 16 MB cannot grow, and in an update of many it
    would keep those after it waiting for ever.
    """
    documents = await jobs.find(filter_, {"_id": 1}, limit=MOST).to_list()
    ended = 0
    for fields in smaller_and_smaller(status, error):
        if documents:
            change: list[Change] = [*({"$unset": name} for name in unset), {"$set": fields}]
            updates = [UpdateOne({**filter_, "_id": {"$eq": document["_id"]}}, change) for document in documents]
            try:
                ended += (await jobs.bulk_write(updates, ordered=False)).matched_count
                break
            except BulkWriteError as refused:
                if refused.details["writeConcernErrors"]:
                    raise
                ended += refused.details["nMatched"]
                documents = [documents[failed["index"]] for failed in refused.details["writeErrors"]]
    return ended


def smaller_and_smaller(status: Status, error: Mapping[str, Any]) -> list[Change]:
    """Return the fields that end a job, with less and less of the reason: a document just under 16 MB cannot grow."""
    ended = {"status": status.value}
    short = {"kind": error["kind"], "message": error["message"][:60]}
    return [
        {**ended, "error": {"$literal": dict(error)}, "finished_at": "$$NOW"},
        {**ended, "error": {"$literal": short}},
        ended,
    ]
