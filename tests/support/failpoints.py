"""Fail points of a mongod: it blocks, refuses or hangs up on named commands, as it would in real trouble."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pymongo import MongoClient

from tests.support.mongo import RunningMongod

NAME = "failCommand"
CALL_MS = 30_000


@dataclass(frozen=True)
class FailPoint:
    """A fail point that is set; `entered` is how often commands had met it before."""

    client: MongoClient[dict[str, Any]]
    entered: int

    def wait(self, timeout_s: float = 10.0, count: int = 1) -> None:
        """Wait until `count` commands have met it; pymongo's ExecutionTimeout if they do not."""
        awaited = {"waitForFailPoint": NAME, "timesEntered": self.entered + count, "maxTimeMS": int(timeout_s * 1000)}
        self.client.admin.command(awaited)


@contextmanager
def failing(mongod: RunningMongod, commands: Sequence[str], mode: Any = "alwaysOn", **how: Any) -> Iterator[FailPoint]:
    """Have `commands` fail as `how` says, for the length of the block; a mongod that is gone by then is fine.

    `how` is in the server's words: `closeConnection=True`, `errorCode=…`, `blockConnection=True, blockTimeMS=…`,
    `writeConcernError={…}`; `namespace="database.collection"` narrows it. A blocked command is waited for at the end.
    """
    # closing it would search for a mongod that is gone by then for as long as it may
    with MongoClient[dict[str, Any]](mongod.uri, timeoutMS=CALL_MS, serverSelectionTimeoutMS=1000) as client:
        data = {"failCommands": list(commands), **how}
        answer = client.admin.command("configureFailPoint", NAME, mode=mode, data=data)
        try:
            yield FailPoint(client, int(answer["count"]))
        finally:
            if mongod.alive():
                client.admin.command("configureFailPoint", NAME, mode="off")
