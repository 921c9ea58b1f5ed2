"""A database as the supervisor opens it, and a jobs collection as `init` leaves it."""

import pytest

from supervisor.store import schema
from supervisor.store.candidates import Candidates
from supervisor.store.claims import ClaimStore
from supervisor.store.results import ResultStore
from tests.support.jobs import JOBS, OWNER, RIVAL, connected


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


@pytest.fixture
def claims(database, jobs):
    return ClaimStore(database, JOBS, OWNER)


@pytest.fixture
def rival(database, jobs):
    """The claims of another supervisor."""
    return ClaimStore(database, JOBS, RIVAL)


@pytest.fixture
def results(database, jobs):
    return ResultStore(database, JOBS)
