"""Connecting: the client's options, and the refusal of a database that cannot keep the promises.

Every call has a deadline (`timeoutMS`), every write is acknowledged by a majority and journalled, and every read of a
document is tolerant: a string that is not UTF-8 or a date of the year 275760 must not stop whoever reads it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from pymongo import AsyncMongoClient, MongoClient, monitoring, timeout
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConfigurationError, InvalidURI, OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri
from pymongo.write_concern import WriteConcern

from supervisor.codec import TOLERANT
from supervisor.config.checks import redact_uri
from supervisor.errors import DatabaseRefusedError, DatabaseUnreachableError, SupervisorError
from supervisor.store.patience import first_line

CALL_TIMEOUT_S = 5.0
"""Deadline in seconds of every single call to the database."""

MAJORITY = WriteConcern(w="majority", j=True)
NO_LOGIN = {18, 13}
"""The codes of AuthenticationFailed and Unauthorized."""


_on_answer: ContextVar[Callable[[], None] | None] = ContextVar("on_answer", default=None)


@contextlib.contextmanager
def telling_answers(to: Callable[[], None]) -> Iterator[None]:
    """Call `to` at every answer that the database gives to what is asked in this block.

    An operation of many calls, each within its deadline, is known by it to get on.
    """
    token = _on_answer.set(to)
    try:
        yield
    finally:
        _on_answer.reset(token)


class _Answers(monitoring.CommandListener):
    """The driver calls it in the task that has asked."""

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:  # noqa: ARG002 - that there is one, is all
        if tell := _on_answer.get():
            tell()


def client_options(wait_s: float = CALL_TIMEOUT_S) -> dict[str, Any]:
    """Return the keyword arguments every client of ours is made with."""
    return {
        "timeoutMS": int(CALL_TIMEOUT_S * 1000),
        "serverSelectionTimeoutMS": int(min(wait_s, CALL_TIMEOUT_S) * 1000),
        "connectTimeoutMS": 3000,
        "socketTimeoutMS": int(CALL_TIMEOUT_S * 1000),  # for what `timeoutMS` leaves out: closing cursors and clients
        "maxPoolSize": 8,
        "w": "majority",
        "journal": True,
        "retryWrites": True,
        "appname": "mongo-job-supervisor",
        "tz_aware": True,
        "unicode_decode_error_handler": "replace",
        "datetime_conversion": "DATETIME_AUTO",
    }


def refuse_unsafe_uri(uri: str) -> None:
    """Raise DatabaseRefusedError where `uri` itself gives up what the promises rest on.

    An acknowledged write that only one member has can be rolled back, and a write that is not retried can leave a job
    claimed by nobody.
    """
    try:
        options: Mapping[str, Any] = parse_uri(uri, validate=True, warn=False)["options"]
    except (InvalidURI, ConfigurationError, ValueError) as error:
        raise DatabaseRefusedError(f"mongo.uri: {_without_secrets(str(error), uri)}") from None
    if options.get("w", "majority") != "majority":
        raise DatabaseRefusedError(
            f"mongo.uri: w={options['w']} is not safe: a failover can undo an acknowledged write; "
            "leave it out or use w=majority"
        )
    if options.get("retryWrites", options.get("retrywrites", True)) is False:
        raise DatabaseRefusedError(
            "mongo.uri: retryWrites=false is not safe: a lost reply would leave a job claimed by nobody; leave it out"
        )


async def connect(uri: str, database: str, *, wait_s: float) -> AsyncDatabase[dict[str, Any]]:
    """Connect and return the database once it answers, waiting `wait_s` seconds at most.

    Raises DatabaseRefusedError (a standalone, unsafe options, wrong password) or DatabaseUnreachableError.
    """
    refuse_unsafe_uri(uri)
    client: AsyncMongoClient[dict[str, Any]] = _make_client(
        lambda: AsyncMongoClient(uri, event_listeners=[_Answers()], **client_options(wait_s)), uri
    )
    give_up_at = time.monotonic() + wait_s
    try:
        while True:
            try:
                with timeout(_patience(give_up_at - time.monotonic())):
                    refuse_standalone(await client.admin.command("hello"))
                return client.get_database(database, TOLERANT, write_concern=MAJORITY)
            except PyMongoError as error:
                if isinstance(error, OperationFailure) or time.monotonic() >= give_up_at:
                    raise explain_connection_error(error, uri, wait_s) from None
            await asyncio.sleep(0.2)
    except BaseException:
        await client.close()
        raise


def lazy_client(uri: str, connections: int) -> AsyncMongoClient[dict[str, Any]]:
    """Return a client for one more event loop, which connects when it is asked; `uri` is one that `connect` has taken.

    It has up to `connections` of its own: what waits for one must not keep others waiting.
    """
    return AsyncMongoClient(uri, **{**client_options(), "maxPoolSize": connections})


def connect_sync(uri: str, *, wait_s: float) -> MongoClient[dict[str, Any]]:
    """Connect with the synchronous client, for producers and the command line; raises as `connect` does."""
    refuse_unsafe_uri(uri)
    client: MongoClient[dict[str, Any]] = _make_client(lambda: MongoClient(uri, **client_options(wait_s)), uri)
    try:
        with timeout(_patience(wait_s)):
            refuse_standalone(client.admin.command("hello"))
    except PyMongoError as error:
        client.close()
        raise explain_connection_error(error, uri, wait_s) from None
    except SupervisorError:
        client.close()
        raise
    return client


def refuse_standalone(hello: Mapping[str, Any]) -> None:
    """Raise DatabaseRefusedError unless `hello` comes from a replica set (one member is enough) or a mongos."""
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise DatabaseRefusedError(
            "this mongod is a standalone; transactions and change streams need a replica set, and one member is "
            "enough: start it with --replSet rs0 and run rs.initiate()"
        )


def explain_connection_error(error: PyMongoError, uri: str, wait_s: float) -> SupervisorError:
    """Turn pymongo's error at connecting into one line that a user can act on."""
    if isinstance(error, OperationFailure) and error.code in NO_LOGIN:
        return DatabaseRefusedError(f"{redact_uri(uri)} refuses the credentials: {first_line(error)}")
    if isinstance(error, OperationFailure):
        return DatabaseRefusedError(f"{redact_uri(uri)} answers with an error: {first_line(error)}")
    return DatabaseUnreachableError(
        f"MongoDB at {redact_uri(uri)} did not answer within {wait_s:g} s: {first_line(error)}"
    )


def _patience(left_s: float) -> float:
    """Return the deadline of one try in seconds; `timeoutMS` would outweigh a shorter serverSelectionTimeoutMS."""
    return min(CALL_TIMEOUT_S, max(0.1, left_s))


def _make_client(make: Callable[[], Any], uri: str) -> Any:
    try:
        return make()
    except (PyMongoError, ValueError) as error:
        raise DatabaseRefusedError(f"mongo.uri: {_without_secrets(str(error), uri)}") from None


def _without_secrets(message: str, uri: str) -> str:
    return message.replace(uri, redact_uri(uri))
