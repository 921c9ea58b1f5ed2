"""The queue by handler as `top` counts it, against a real database."""

from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId
from pymongo import MongoClient

from supervisor.cli.top.look import Lookout
from supervisor.client.backlog import Backlog, backlog_pipeline
from supervisor.client.operator import OperatorQueue
from tests.support.failpoints import failing
from tests.support.jobs import JOBS, pending

PAST = datetime(2026, 1, 1, tzinfo=UTC)
FUTURE = datetime(9999, 1, 1, tzinfo=UTC)


@pytest.fixture
def queue(mongo_uri, database_name, jobs):
    with OperatorQueue.connect(mongo_uri, database_name) as connection:
        yield connection


@pytest.fixture
def collection(mongo_uri, database_name, jobs):
    with MongoClient(mongo_uri, tz_aware=True) as client:
        yield client[database_name][JOBS]


def test_jobs_are_counted_by_what_they_wait_for(queue, collection):
    made = ObjectId.from_datetime(PAST + timedelta(hours=2))
    collection.insert_many(
        [
            *(pending(_id=number, run_at=FUTURE) for number in range(3)),
            pending(_id=made),
            pending(_id="retried", run_at=PAST + timedelta(hours=1)),
            pending(_id=ObjectId.from_datetime(PAST), run_at=PAST + timedelta(hours=3)),
            pending(_id="unknown age", handler="sum"),
            *(pending(_id=f"{status} {number}", status=status) for number in range(2)
              for status in ("processing", "failed", "completed", "cancelled")),
        ]
    )  # fmt: skip
    assert queue.backlogs() == {
        "count": Backlog("count", due=3, later=3, running=2, failed=2, oldest=PAST + timedelta(hours=1)),
        "sum": Backlog("sum", due=1),
    }


def test_counting_reads_the_index_alone(collection):
    collection.insert_many([pending(_id=number, run_at=[FUTURE, None][number % 2]) for number in range(200)])
    counting = {"aggregate": JOBS, "pipeline": backlog_pipeline(), "cursor": {}}
    plan = collection.database.command("explain", counting, verbosity="executionStats")
    assert plan["stages"][0]["$cursor"]["executionStats"]["totalDocsExamined"] == 0


def test_a_queue_too_long_to_be_counted_leaves_the_rest_to_be_seen(queue, collection, mongod):
    lookout = Lookout(queue)
    with failing(mongod, ["aggregate"], errorCode=50, namespace=collection.full_name):
        seen = lookout.look()
    assert (seen.backlogs, seen.supervisors) == (None, [])


def test_a_count_that_takes_long_is_made_less_often(queue, collection, mongod):
    lookout = Lookout(queue)
    with failing(mongod, ["aggregate"], blockConnection=True, blockTimeMS=300, namespace=collection.full_name):
        assert lookout.look().backlogs == {}
    collection.insert_one(pending())
    assert lookout.look().backlogs == {}, "not counted again so soon"
