"""Progress of a job that ends while it is being written: the driver would close the connection of a write cut short."""

from pymongo import AsyncMongoClient
from pymongo.monitoring import ConnectionPoolListener

from supervisor.progress import ProgressWriter
from supervisor.store.results import ResultStore
from tests.support.failpoints import failing
from tests.support.jobs import JOBS, OWNER, claim_one, pending
from tests.support.until import until_async


class Closed(ConnectionPoolListener):
    """Counts the connections that a client has closed."""

    def __init__(self):
        self.count = 0

    def connection_closed(self, _event):
        self.count += 1

    def _other(self, _event): ...

    pool_created = pool_ready = pool_cleared = pool_closed = _other
    connection_created = connection_ready = connection_check_out_started = _other
    connection_check_out_failed = connection_checked_out = connection_checked_in = _other


async def test_the_end_of_a_job_during_a_write_costs_no_connection(mongod, mongo_uri, database_name, jobs, claims):
    await jobs.insert_one(pending())
    claim, closed = await claim_one(claims), Closed()
    async with AsyncMongoClient(mongo_uri, event_listeners=[closed]) as client:
        results, begun = ResultStore(client[database_name], JOBS), []

        async def write(report):
            begun.append(report)
            await results.report_progress(claim.job, OWNER, report)

        progress = ProgressWriter(write)
        with failing(mongod, ["update"], blockConnection=True, blockTimeMS=300, namespace=f"{database_name}.{JOBS}"):
            progress.take({"done": 1})
            await until_async(lambda: begun)
            await progress.close()
        assert (await jobs.find_one({}))["progress"]["done"] == 1
        assert closed.count == 0
