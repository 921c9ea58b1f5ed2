"""Knowing since when the database has been silent, and when that has been long enough to give up.

Fed by those who ask it all the time: the heartbeat, renewals and claims. A refusal is an answer: the database is there,
and when the reason is gone the supervisor goes on by itself. All but one: who has lost its login stays out, since the
driver's connections log in once only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog
from pymongo.errors import OperationFailure, PyMongoError

from supervisor.config.settings import MongoSettings
from supervisor.errors import DatabaseUnreachableError
from supervisor.store.connection import NO_LOGIN
from supervisor.store.patience import first_line

log = structlog.get_logger("supervisor.outage")


class Outage:
    """Ends the supervisor when no call has been answered for `mongo.give_up_s` seconds; 0 waits for ever.

    Counted from the first call that failed, not from the last answer: a supervisor that was itself stopped for a while
    has not asked meanwhile.
    """

    def __init__(self, settings: MongoSettings, now: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._now = now
        self._silent_since: float | None = None
        self._reason = ""
        self._over = asyncio.Event()

    def answered(self) -> None:
        """Note that a call to the database was answered."""
        self._silent_since = None

    def failed(self, error: PyMongoError) -> None:
        """Note that a call failed with `error`."""
        if _is_answer(error):
            self.answered()
            return
        self._reason = first_line(error)
        now = self._now()
        if self._silent_since is None:
            self._silent_since = now
        if 0 < self._settings.give_up_s <= now - self._silent_since:
            self._over.set()

    async def run(self) -> None:
        """Wait until it is time to give up; raises DatabaseUnreachableError then, and never returns."""
        await self._over.wait()
        for_s = self._settings.give_up_s
        log.error("database.given_up", silent_s=for_s, hint="its leases are left to expire; others will run its jobs")
        raise DatabaseUnreachableError(
            f"MongoDB at {self._settings.redacted_uri} has not answered for {for_s:g} s (mongo.give_up_s): "
            f"{self._reason}"
        )


def _is_answer(error: PyMongoError) -> bool:
    # the driver's own deadline is of the class of the database's errors too
    return isinstance(error, OperationFailure) and not error.timeout and error.code not in NO_LOGIN
