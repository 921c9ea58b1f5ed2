"""The pytest plug-in, as a user's own tests meet it: a pytest of its own runs them."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

HANDLERS = """
import os, time
from pydantic import BaseModel
from supervisor import AsyncJobContext, JobContext, PermanentError, handler

class Text(BaseModel):
    text: str

READY = []

@handler.setup
def load():
    READY.append(1)

@handler("count")
def count(payload: Text, job: JobContext) -> dict:
    assert READY
    job.progress(1, 2, "half")
    return {"words": len(payload.text.split()) * job.settings.get("factor", 1)}

@handler("slow", max_attempts=2)
def slow(payload: dict, job: JobContext) -> dict:
    time.sleep(payload.get("seconds", 60) if job.attempt == 1 else 0)
    return {"attempt": job.attempt}

@handler("files")
def files(payload: dict, job: JobContext) -> dict:
    with job.open_file(payload["file_id"]) as file:
        return {"saved": job.save_file("copy.txt", file.read() * 2)}

@handler("wrong")
def wrong(payload: dict) -> dict:
    return {"a set": {1}}

@handler.setup
async def connect():
    READY.append("connected")

@handler("coroutine")
async def coroutine(payload: dict, job: AsyncJobContext) -> dict:
    assert "connected" in READY
    if payload.get("forgets"):
        job.open_file("a")
        return {}
    with await job.open_file("a") as file:
        return {"saved": await job.save_file("copy.txt", file.read())}
"""

INLINE = """
import pytest
from supervisor import PermanentError
from supervisor.errors import PayloadError, UnknownHandlerError
from supervisor.testing.inline import InlineLink
from my_handlers import count

def test_a_result(inline_jobs):
    link = InlineLink()
    assert inline_jobs.run("count", {"text": "to be"}, link=link, settings={"factor": 3}) == {"words": 6}
    assert link.progress == [(1, 2, "half")]
    assert inline_jobs.run(count, {"text": "x"}) == {"words": 1}

def test_files(inline_jobs):
    link = InlineLink(files={"a": b"xy"})
    saved = inline_jobs.run("files", {"file_id": "a"}, link=link)["saved"]
    assert link.files[saved] == b"xyxy"
    with pytest.raises(PermanentError, match="no stored file"):
        inline_jobs.run("files", {"file_id": "b"})

def test_mistakes(inline_jobs):
    with pytest.raises(PayloadError, match="text: Field required"):
        inline_jobs.run("count")
    with pytest.raises(UnknownHandlerError):
        inline_jobs.run("nope")
    with pytest.raises(TypeError, match="cannot be stored"):
        inline_jobs.run("wrong")

def test_a_coroutine(inline_jobs):
    link = InlineLink(files={"a": b"xy"})
    assert link.files[inline_jobs.run("coroutine", link=link)["saved"]] == b"xy"
    with pytest.raises(TypeError, match="job.open_file.. was not awaited"):
        inline_jobs.run("coroutine", {"forgets": True}, link=link)
"""

REAL = """
import pytest
from supervisor.errors import JobStateError

def test_jobs_run_in_real_workers(job_queue):
    done = job_queue.enqueue("count", {"text": "to be"})
    later = job_queue.enqueue("count", {"text": "x"}, run_at=job_queue_later())
    job_queue.run_until_idle()
    assert job_queue.get(done)["result"] == {"words": 2}
    assert job_queue.get(later)["status"] == "pending"

def job_queue_later():
    from datetime import UTC, datetime, timedelta
    return datetime.now(UTC) + timedelta(hours=1)

def test_the_database_is_prepared(job_queue, job_supervisor):
    job_queue.enqueue("count", {"text": "to be"}, unique_key="k")
    with pytest.raises(JobStateError):
        job_queue.enqueue("count", {"text": "to be"}, unique_key="k")
    job_queue.run_until_idle()
    assert "index_missing" not in job_supervisor.log()

def test_a_crash_costs_an_attempt(job_queue, crash_worker):
    job_id = job_queue.enqueue("slow")
    crash_worker(job_id)
    job_queue.run_until_idle()
    job = job_queue.get(job_id)
    assert (job["status"], job["crashes"], job["result"]) == ("completed", 1, {"attempt": 2})

def test_a_killed_supervisor_loses_nothing(job_queue, job_supervisor, kill_supervisor):
    job_id = job_queue.enqueue("slow")
    kill_supervisor(job_id)
    assert not job_supervisor.is_running
    assert job_queue.get(job_id)["status"] == "processing"
    job_queue.run_until_idle()
    assert job_queue.get(job_id)["result"] == {"attempt": 2}
"""


@pytest.fixture
def users(pytester: pytest.Pytester, mongo_uri: str, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A user's project: handlers, and tests with the plug-in."""
    pytester.makepyfile(my_handlers=HANDLERS)
    pytester.makeini(f"[pytest]\njob_modules = my_handlers\njob_mongo = {mongo_uri}\npythonpath = .\n")
    # by its module: what is installed may be another version
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:cacheprovider -p supervisor.testing.plugin")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return pytester


def test_handlers_are_called_inline(users: pytest.Pytester) -> None:
    users.makepyfile(test_inline=INLINE)
    users.runpytest_subprocess("-q").assert_outcomes(passed=4)


def test_a_real_supervisor_runs_the_jobs_of_a_test(users: pytest.Pytester) -> None:
    users.makepyfile(test_real=REAL)
    users.runpytest_subprocess("-q").assert_outcomes(passed=4)


def test_a_test_that_fails_shows_the_supervisors_log(users: pytest.Pytester) -> None:
    users.makepyfile(test_failing="def test_it(job_queue):\n    job_queue.run_until_idle()\n    assert False\n")
    found = users.runpytest_subprocess("-q")
    found.stdout.fnmatch_lines(["*supervisor log*", "*supervisor.ready*"])


def test_a_wrong_setting_is_named(users: pytest.Pytester) -> None:
    users.makeini("[pytest]\njob_modules = nope\njob_queue_scope = sometimes\n")
    users.makepyfile(test_wrong="def test_it(inline_jobs):\n    pass\n")
    found = users.runpytest_subprocess("-q")
    found.stdout.fnmatch_lines(["*job_queue_scope: is 'sometimes', must be function, module or session*"])


def test_the_queue_may_last_for_the_session_on_a_private_database(users: pytest.Pytester) -> None:
    users.makeini("[pytest]\njob_modules = my_handlers\njob_queue_scope = session\npythonpath = .\n")
    users.makepyfile(
        test_session="""
        def test_one(job_queue):
            job_queue.enqueue("count", {"text": "a"}, job_id=1)

        def test_two(job_queue):
            job_queue.run_until_idle()
            assert job_queue.get(1)["status"] == "completed"
        """
    )
    users.runpytest_subprocess("-q").assert_outcomes(passed=2)
