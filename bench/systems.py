"""The database that everything is measured with: a real one, a replica set of one member, new for every run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from pymongo import MongoClient

from supervisor.embedded.mongo import EmbeddedMongo
from tests.support.until import until


@contextmanager
def database() -> Iterator[tuple[str, Path]]:
    """Run a mongod in a new folder; return its address and the folder, of which nothing is left in the end."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        with EmbeddedMongo(Path(folder) / "db", 60) as mongo:
            with MongoClient[Any](mongo.uri) as client:
                pid = client.admin.command("serverStatus")["pid"]
            yield mongo.uri, Path(folder)
        # it stops within about a second after its last user, and writes files until then
        until(lambda: not psutil.pid_exists(pid), 60, "the end of mongod")
