"""Random edits of config.toml under load: no job is lost or run twice, and the last valid file is what runs."""

import os
import signal
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.support.config_edits import VALID, Editor
from tests.support.supervising import Jobs, RunningSupervisor, StartSupervisor
from tests.support.until import until

pytestmark = pytest.mark.slow

FEW, MANY = 150, 1000
JOBS_PER_EDIT = 2
CHECK_EVERY = 30
WAITS_FOR_A_RESTART = ("pool.threads_per_worker", "mongo.wait_s")


def in_force(jobs: Jobs) -> dict[str, Any]:
    """Of the keys that are edited, those not at their default, as the supervisor tells them."""
    (document,) = jobs.collection.database["supervisors"].find()
    return {each["key"]: each["value"] for each in document["config"] if each["key"] in VALID}


def check(editor: Editor, supervisor: RunningSupervisor, jobs: Jobs, base: dict[str, Any]) -> None:
    """Save a valid file and then an invalid one: the valid one is in force, and the other is told."""
    text, chosen = editor.valid()
    way = editor.save(text.encode())
    expected = {**base, **{key: value for key, value in chosen.items() if key not in WAITS_FOR_A_RESTART}}
    until(lambda: in_force(jobs) == expected, 10, f"{expected} after {way}")
    told = supervisor.output().count('"event": "config.invalid"')
    editor.save(b"[pool\n" + os.urandom(8).hex().encode())
    until(lambda: supervisor.output().count('"event": "config.invalid"') > told, 10, "the refusal")
    assert in_force(jobs) == expected


@pytest.mark.timeout(900)
@pytest.mark.parametrize("edits", [FEW, pytest.param(MANY, marks=pytest.mark.chaos)])
def test_random_edits_under_load_lose_no_job_and_the_last_valid_file_is_what_runs(
    start: StartSupervisor, jobs: Jobs, tmp_path: Path, edits: int
) -> None:
    seed = int(os.environ.get("SEED") or time.time_ns() % 10**9)
    print(f"SEED={seed}")
    random = Random(seed)
    supervisor = start(pool={"workers": 3}, shutdown={"drain_s": 30}, lease={"seconds": 60, "reap_every_s": 5})
    editor = Editor(supervisor.config_path, supervisor.config, random)
    base, ledger = in_force(jobs), tmp_path / "ledger"
    ids = []
    for number in range(1, edits + 1):
        ids += [jobs.insert("ledger", {"ledger": str(ledger)}) for _ in range(JOBS_PER_EDIT - 1)]
        ids.append(jobs.insert("sleeps", {"seconds": random.random() * 0.1}))
        content = editor.valid()[0].encode() if random.random() < 0.6 else editor.invalid()
        editor.save(content)
        if random.random() < 0.4:
            supervisor.process.send_signal(signal.SIGHUP)
        time.sleep(random.random() * 0.04)
        if number % CHECK_EVERY == 0:
            check(editor, supervisor, jobs, base)
    supervisor.write_config({**supervisor.config, "pool": {**supervisor.config["pool"], "workers": 2}})
    jobs.wait_for_all(60)
    ended = [jobs.get(each) for each in ids]
    assert Counter(job["status"] for job in ended) == {"completed": len(ids)}
    assert {(job["attempt"], len(job["attempts"]), job.get("crashes", 0)) for job in ended} == {(1, 1, 0)}
    lines = Counter(line.rpartition(" ")[0] for line in ledger.read_text().splitlines())
    assert set(lines.values()) == {1}, "each was started and ended once"
    assert len(lines) == 2 * sum(job["handler"] == "ledger" for job in ended)
    until(lambda: in_force(jobs) == {**base, "pool.workers": 2}, 10, "the last file")
    assert supervisor.process.poll() is None
    assert not supervisor.events("supervisor.failed")
    assert len(supervisor.events("config.changed")) > edits / 2, "else this was no test"
    assert len(supervisor.events("config.invalid")) > edits / 20
    print({name: len(supervisor.events(name)) for name in ("config.changed", "config.invalid", "pool.resized")})
    assert len({entry["pid"] for entry in supervisor.events("supervisor.starting")}) == 1
