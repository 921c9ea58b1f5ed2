"""A database as the supervisor opens it, and a jobs collection as `init` leaves it."""

import pytest

from supervisor.store import schema
from supervisor.store.candidates import Candidates
from tests.support.jobs import JOBS, connected


@pytest.fixture
async def database(mongo_uri, database_name):
    async with connected(mongo_uri, database_name) as opened:
        yield opened


@pytest.fixture
async def jobs(database):
    """The jobs collection, with its validator and its indexes."""
    await schema.ensure(database, JOBS)
    return database[JOBS]


@pytest.fixture
def candidates(database, jobs):
    return Candidates(database, JOBS)
