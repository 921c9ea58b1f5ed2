"""`why`: the reason that a job is not running, as it changes with what a person does to a live supervisor."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from supervisor.client.operator import OperatorQueue
from supervisor.client.why import reasons
from tests.support.command_line import CommandLine
from tests.support.supervising import Jobs
from tests.support.until import until

Why = Callable[[Any, str], str]


@pytest.fixture
def why(mongo_uri: str, database_name: str) -> Iterator[Why]:
    """Wait until a job's decisive reason has this code, and return it in words."""
    with OperatorQueue.connect(mongo_uri, database_name) as queue:

        def until_reason(job_id: Any, code: str) -> str:
            def reached() -> str | None:
                first = reasons(queue.facts(job_id))[0]
                return first.text if first.code == code else None

            return until(reached, 30, f"why {job_id} to be {code}")

        yield until_reason


def test_the_reason_follows_what_is_done_to_a_live_supervisor(
    command: CommandLine, jobs: Jobs, why: Why, start
) -> None:
    busy = jobs.insert("sleeps", {"seconds": 600})
    waiting = jobs.insert("double", {"n": 1})
    assert why(waiting, "no_supervisor") == "no supervisor is running on this database"

    supervisor = start(pool={"workers": 1})
    host = jobs.collection.database["supervisors"].find_one()["host"]
    assert why(waiting, "busy") == f"all slots on {host} are busy (1 running)"
    assert why(busy, "running").startswith(f"it is running: attempt 1 on {host}, slot 0, pid ")
    jobs.collection.insert_many([{"handler": "noop", "status": "pending", "priority": 1} for _ in range(132)])
    assert why(waiting, "behind") == "it waits behind 132 jobs of higher priority or older"
    done = command("why", str(waiting), "--all")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "it waits behind 132 jobs of higher priority or older",
        f"also: all slots on {host} are busy (1 running); try: python -m supervisor status",
    ]
    jobs.collection.delete_many({"handler": "noop"})

    unknown = jobs.insert("dubble")
    assert why(unknown, "unregistered") == "dubble is registered on no running supervisor; was double meant?"
    later = jobs.insert("double", run_at=datetime.now(UTC) + timedelta(days=3))
    assert why(later, "not_due").startswith("it is due in 3d, since its producer wants it not before")
    command("pause", "double", "--reason", "wrong\x1b[2J factor")
    assert why(waiting, "paused").startswith("double is paused by operator ")
    assert command("why", str(waiting)).out.endswith(
        " ago: wrong\\x1b[2J factor (and 1 more: --all); try: python -m supervisor resume double\n"
    )
    command("resume", "double")

    supervisor.edit("pool", claim=["sleeps"])
    assert why(waiting, "unclaimed") == f"pool.claim leaves double out on {host}"
    supervisor.edit("pool", claim=["*"], workers=0)
    assert why(waiting, "no_workers") == f"workers = 0 on {host}"
    supervisor.edit("handlers.sleeps", max_running=1)
    supervisor.edit("pool", workers=2)
    capped = jobs.insert("sleeps", {"seconds": 0})
    assert why(capped, "capped") == f"max_running = 1 of sleeps is reached on {host}"
    jobs.collection.update_one({"_id": busy}, {"$set": {"cancel_requested": True}})
    assert why(capped, "completed").startswith("it completed")
    assert why(busy, "cancelled").startswith("it was cancelled")


def test_the_answer_is_also_there_for_programs(command: CommandLine, jobs: Jobs) -> None:
    job_id = jobs.insert("ok", priority=1)
    jobs.insert("ok", priority=2)
    found = command("why", str(job_id), "--json").json
    assert found == {
        "job_id": str(job_id), "status": "pending", "reason": "no_supervisor",
        "text": "no supervisor is running on this database", "command": "python -m supervisor run",
        "others": [{"reason": "behind", "text": "it waits behind 1 job of higher priority or older", "command": None}],
    }  # fmt: skip
    done = command("why", "nope")
    assert (done.code, done.error) == (1, "no job has the id 'nope' (to list jobs: python -m supervisor jobs)")
