"""Every key that is called live acts on a running supervisor: one row each, and a key without a row fails.

All rows share a supervisor whose configuration would not let them succeed before the edit.
"""

import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from supervisor.config.fields import SECTIONS, needs_restart
from supervisor.config.settings import HandlerSettings
from tests.support.supervising import MISBEHAVING, Jobs, RunningSupervisor, StartSupervisor
from tests.support.until import until

pytestmark = pytest.mark.slow

BEFORE: dict[str, dict[str, Any]] = {
    "pool": {
        "modules": [MISBEHAVING, "handlers.cleanup"],
        "max_jobs_per_worker": 1000,
        "max_growth_mb": 0,
        "kill_grace_s": 600,
    },
    "lease": {"seconds": 120, "reap_every_s": 600},
    "shutdown": {"drain_s": 600},
    "retry": {"max_attempts": 5, "max_crashes": 5, "pause_after_crashes": 0, "backoff_s": 0.02, "backoff_max_s": 0.05},
}


@dataclass
class Edited:
    """The supervisor that is edited, and its jobs."""

    supervisor: RunningSupervisor
    jobs: Jobs

    def edit(self, table: str, **keys: Any) -> None:
        """Save an edit and wait until the log says that each of its keys has changed."""
        marks = [f'"key": "{table}.{key}"' for key in keys]
        before = [self.supervisor.output().count(mark) for mark in marks]
        self.supervisor.edit(table, **keys)
        for mark, seen in zip(marks, before, strict=True):
            until(lambda mark=mark, seen=seen: self.supervisor.output().count(mark) > seen, 10, f"the change of {mark}")

    def heartbeat(self) -> dict[str, Any]:
        (found,) = self.jobs.collection.database["supervisors"].find()
        return found

    def one_after_another(self, **fields: Any) -> bool:
        """Run two jobs that take a while, on two workers; tell whether the second waited for the first."""
        ids = [self.jobs.insert("sleeps", {"seconds": 0.3}, **fields) for _ in range(2)]
        first, second = sorted((self.jobs.wait(each) for each in ids), key=lambda job: job["started_at"])
        return bool(first["finished_at"] <= second["started_at"])


@pytest.fixture(scope="module")
def edited(start_for_module: StartSupervisor, module_jobs: Jobs) -> Edited:
    return Edited(start_for_module(**BEFORE), module_jobs)


def workers(it: Edited) -> None:
    it.edit("pool", workers=3)
    until(lambda: len(it.heartbeat()["slots"]) == 3, 10, "three slots")
    it.edit("pool", workers=2)
    until(lambda: len(it.heartbeat()["slots"]) == 2, 10, "two slots")


def claim(it: Edited) -> None:
    it.edit("pool", claim=["ok"])
    other = it.jobs.insert("noop")
    assert it.jobs.run("ok")["status"] == "completed"
    assert it.jobs.get(other)["status"] == "pending"
    it.edit("pool", claim=["*"])
    assert it.jobs.wait(other)["status"] == "completed"


def max_jobs_per_worker(it: Edited) -> None:
    served = {it.jobs.run("whoami")["result"]["pid"] for _ in range(2)}
    it.edit("pool", max_jobs_per_worker=1)
    pids = [it.jobs.run("whoami")["result"]["pid"] for _ in range(3)]
    assert len(set(pids)) == 3
    assert not served & set(pids), "those that had served already were replaced, too"
    it.edit("pool", max_jobs_per_worker=1000)


def max_growth_mb(it: Edited) -> None:
    it.edit("pool", max_growth_mb=30)
    for _ in range(40):
        it.jobs.insert("leaks", {"mb": 10})
    it.jobs.wait_for_all()
    assert "(pool.max_growth_mb)" in it.supervisor.output()
    it.edit("pool", max_growth_mb=0)


def memory_limit_of_all(it: Edited) -> None:
    it.edit("pool", memory_limit_mb=200)
    assert it.jobs.run("hoards", {"mb_per_s": 300}, max_attempts=1)["error"]["kind"] == "memory"
    it.edit("pool", memory_limit_mb=0)


def kill_grace_s(it: Edited) -> None:
    it.edit("pool", kill_grace_s=0.2)
    job = it.jobs.run("ignores_everything", {}, timeout_s=0.3, max_attempts=1)
    assert job["error"]["kind"] == "timeout"


def pin(it: Edited) -> None:
    it.edit("pool", pin=True)
    assert len(it.jobs.run("tells_its_place")["result"]["cores"]) == 1
    it.edit("pool", pin=False)
    assert it.jobs.run("tells_its_place")["result"]["cores"] == sorted(os.sched_getaffinity(0))


def nice(it: Edited) -> None:
    ours = os.getpriority(os.PRIO_PROCESS, it.supervisor.pid)
    for more in (3, 0):
        it.edit("pool", nice=more)
        assert it.jobs.run("tells_its_place")["result"]["nice"] == min(19, ours + more)


def spares(it: Edited) -> None:
    it.edit("pool", spares=1)
    ready = it.supervisor.wait_for("spare.ready")
    it.jobs.run("exits", max_attempts=1)
    assert it.supervisor.wait_for("spare.taken")["pid"] == ready["pid"]
    it.edit("pool", spares=0)


def lease_seconds(it: Edited) -> None:
    it.edit("lease", seconds=40)
    job = it.jobs.wait(it.jobs.insert("sleeps", {"seconds": 1}), "processing")
    assert (job["lease"]["expires_at"] - job["started_at"]).total_seconds() < 60


def reap_every_s(it: Edited) -> None:
    lease = {"token": 1, "supervisor": "gone", "host": "h", "slot": 0, "pid": 1, "expires_at": datetime.now(UTC)}
    orphan = it.jobs.insert("ok", status="processing", attempt=1, claims=1, lease=lease)
    it.edit("lease", reap_every_s=0.2)
    assert it.jobs.wait(orphan)["attempts"][0]["outcome"] == "lost"


def drain_s(it: Edited) -> None:
    controls = it.jobs.collection.database["controls"]
    running = it.jobs.insert("sleeps", {"seconds": 60})
    it.jobs.wait(running, "processing")
    controls.insert_one({"_id": "drain:*", "kind": "drain", "host": socket.gethostname()})
    until(lambda: it.heartbeat()["drained"], what="the drain")
    it.edit("shutdown", drain_s=0)
    assert it.jobs.wait(running, "pending")["attempt"] == 0
    it.jobs.collection.update_one({"_id": running}, {"$set": {"payload.seconds": 0}})
    controls.delete_one({"_id": "drain:*"})
    assert it.jobs.wait(running)["status"] == "completed"


def max_attempts_of_all(it: Edited) -> None:
    it.edit("retry", max_attempts=2)
    assert it.jobs.run("raises")["attempt"] == 2


def max_crashes(it: Edited) -> None:
    it.edit("retry", max_crashes=1)
    job = it.jobs.run("exits")
    assert (job["error"]["kind"], job["crashes"]) == ("poison", 1)


def pause_after_crashes(it: Edited) -> None:
    it.edit("retry", pause_after_crashes=1)
    it.jobs.run("exits")
    controls = it.jobs.collection.database["controls"]
    until(lambda: controls.find_one({"_id": "pause:exits", "by": "breaker"}), what="the pause")
    it.edit("retry", pause_after_crashes=0)
    controls.delete_one({"_id": "pause:exits"})


def run_at_after_a_failure(it: Edited) -> float:
    """How far in the future the second attempt is, in seconds."""
    job_id = it.jobs.insert("raises", max_attempts=2)
    job = until(lambda: (job := it.jobs.get(job_id)).get("attempts") and job, 20, "the first attempt")
    it.jobs.collection.delete_one({"_id": job_id})
    return float((job["run_at"] - job["attempts"][0]["ended_at"]).total_seconds())


def backoff_s(it: Edited) -> None:
    it.edit("retry", backoff_s=400, backoff_max_s=500)
    assert run_at_after_a_failure(it) > 60


def backoff_max_s(it: Edited) -> None:
    it.edit("retry", backoff_s=401, backoff_max_s=50)
    assert run_at_after_a_failure(it) < 60
    it.edit("retry", backoff_s=0.02)


def retention(it: Edited, key: str, status: str) -> None:
    three_days_ago = datetime.now(UTC) - timedelta(days=3)
    old = it.jobs.insert("ok", status=status, finished_at=three_days_ago)
    it.jobs.run("cleanup")
    assert it.jobs.get(old)["status"] == status
    it.edit("retention", **{key: 2})
    it.jobs.run("cleanup")
    assert it.jobs.collection.find_one({"_id": old}) is None


def once_days(it: Edited) -> None:
    markers = it.jobs.collection.database["once"]
    markers.insert_one({"_id": "jobs:k", "state": "done", "at": datetime.now(UTC) - timedelta(days=3)})
    it.edit("retention", once_days=2)
    it.jobs.run("cleanup")
    assert markers.count_documents({}) == 0


def payload_kb(it: Edited) -> None:
    it.edit("limits", payload_kb=1)
    assert it.jobs.run("ok", {"text": "x" * 2000})["error"]["kind"] == "invalid"
    it.edit("limits", payload_kb=1000)


def result_inline_kb(it: Edited) -> None:
    it.edit("limits", result_inline_kb=1)
    assert it.jobs.run("large", {"bytes": 5000})["result_file"]


def log_kb(it: Edited) -> None:
    it.edit("limits", log_kb=1)
    assert len(it.jobs.run("prints_much", {"bytes": 5000})["attempts"][0]["logs"]) <= 1024


def timeout_s(it: Edited) -> None:
    running = it.jobs.insert("sleeps", {"seconds": 2})
    it.jobs.wait(running, "processing")
    it.edit("handlers.sleeps", timeout_s=0.3)
    assert it.jobs.run("sleeps", max_attempts=1)["error"]["kind"] == "timeout"
    assert it.jobs.wait(running)["status"] == "completed", "what was claimed before keeps its limit"
    it.edit("handlers.sleeps", timeout_s=600)


def max_attempts(it: Edited) -> None:
    it.edit("handlers.raises", max_attempts=1)
    assert it.jobs.run("raises")["attempt"] == 1


def cap(it: Edited, key: str) -> None:
    it.edit("handlers.sleeps", **{key: 1})
    assert it.one_after_another(group_key="a")
    it.edit("handlers.sleeps", **{key: 0})


def rate(it: Edited) -> None:
    it.edit("handlers.ok", rate="1/hour")
    ids = [it.jobs.insert("ok") for _ in range(2)]
    until(lambda: "completed" in [it.jobs.get(each)["status"] for each in ids], 20, "the first")
    assert it.jobs.run("noop")["status"] == "completed"
    assert sorted(it.jobs.get(each)["status"] for each in ids) == ["completed", "pending"]
    it.edit("handlers.ok", rate="")
    it.jobs.wait_for_all()


def memory_limit_mb(it: Edited) -> None:
    it.edit("handlers.hoards", memory_limit_mb=200)
    assert it.jobs.run("hoards", {"mb_per_s": 300}, max_attempts=1)["error"]["kind"] == "memory"


def settings(it: Edited) -> None:
    it.supervisor.edit("handlers.whoami.settings", colour="green")
    until(lambda: it.jobs.run("whoami")["result"]["settings"] == {"colour": "green"}, 10, "the settings")


def log_level(it: Edited) -> None:
    it.edit("log", level="error")
    silent = it.jobs.run("ok")["_id"]
    it.supervisor.edit("log", level="debug")
    until(lambda: str(it.jobs.run("ok")["_id"]) in it.supervisor.output(), 10, "a line of a job")
    assert str(silent) not in it.supervisor.output()


def log_format(it: Edited) -> None:
    it.edit("log", format="console")
    job_id = str(it.jobs.run("ok")["_id"])
    (line, *_) = (line for line in it.supervisor.output().splitlines() if job_id in line)
    with pytest.raises(ValueError):
        json.loads(line)


EFFECTS: dict[str, Callable[[Edited], None]] = {
    "pool.workers": workers,
    "pool.claim": claim,
    "pool.max_jobs_per_worker": max_jobs_per_worker,
    "pool.max_growth_mb": max_growth_mb,
    "pool.memory_limit_mb": memory_limit_of_all,
    "pool.kill_grace_s": kill_grace_s,
    "pool.pin": pin,
    "pool.nice": nice,
    "pool.spares": spares,
    "lease.seconds": lease_seconds,
    "lease.reap_every_s": reap_every_s,
    "shutdown.drain_s": drain_s,
    "retry.max_attempts": max_attempts_of_all,
    "retry.max_crashes": max_crashes,
    "retry.pause_after_crashes": pause_after_crashes,
    "retry.backoff_s": backoff_s,
    "retry.backoff_max_s": backoff_max_s,
    "retention.completed_days": lambda it: retention(it, "completed_days", "completed"),
    "retention.failed_days": lambda it: retention(it, "failed_days", "failed"),
    "retention.once_days": once_days,
    "limits.payload_kb": payload_kb,
    "limits.result_inline_kb": result_inline_kb,
    "limits.log_kb": log_kb,
    "handlers.NAME.timeout_s": timeout_s,
    "handlers.NAME.max_attempts": max_attempts,
    "handlers.NAME.max_running": lambda it: cap(it, "max_running"),
    "handlers.NAME.max_running_total": lambda it: cap(it, "max_running_total"),
    "handlers.NAME.max_running_per_group": lambda it: cap(it, "max_running_per_group"),
    "handlers.NAME.rate": rate,
    "handlers.NAME.memory_limit_mb": memory_limit_mb,
    "handlers.NAME.settings": settings,
    "log.level": log_level,
    "log.format": log_format,  # the last one: from here on the log is for people
}


@pytest.mark.parametrize("key", EFFECTS)
def test_an_edit_of_a_live_key_takes_effect(edited: Edited, key: str) -> None:
    EFFECTS[key](edited)


def test_every_live_key_is_edited_here() -> None:
    plain = {
        f"{section}.{key}"
        for section, model in SECTIONS.items()
        for key, field in model.model_fields.items()
        if not needs_restart(field)
    }
    assert plain | {f"handlers.NAME.{key}" for key in HandlerSettings.model_fields} == set(EFFECTS)
