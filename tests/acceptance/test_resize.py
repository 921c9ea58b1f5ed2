"""`workers` in config.toml, the signals that step it, and edits that must change nothing."""

import itertools
import signal
from pathlib import Path

from tests.support.supervising import Jobs, RunningSupervisor, StartSupervisor, configuration
from tests.support.until import until


def slots(jobs: Jobs) -> list[str]:
    """The states of the slots, as the heartbeat tells them."""
    (document,) = jobs.collection.database["supervisors"].find()
    return [slot["state"] for slot in document["slots"]]


def until_slots(jobs: Jobs, count: int) -> None:
    until(lambda: len(slots(jobs)) == count and "starting" not in slots(jobs), 10, f"{count} slots")


def test_editing_workers_grows_and_shrinks_the_running_pool(start: StartSupervisor, jobs: Jobs) -> None:
    supervisor = start(pool={"workers": 1})
    until_slots(jobs, 1)
    for workers in (3, 2, 0, 2):
        supervisor.edit("pool", workers=workers)
        until_slots(jobs, workers)
    assert jobs.run("ok")["status"] == "completed"
    assert [change["new"] for change in supervisor.events("pool.resized")] == [1, 3, 2, 0, 2]


def test_shrinking_waits_for_running_jobs(start: StartSupervisor, jobs: Jobs) -> None:
    supervisor = start(pool={"workers": 3})
    running = [jobs.insert("sleeps", {"seconds": 2.5}) for _ in range(3)]
    for job_id in running:
        jobs.wait(job_id, "processing")
    supervisor.edit("pool", workers=1)
    supervisor.wait_for("pool.resized", count=2)
    for job_id in running:
        job = jobs.wait(job_id)
        assert (job["status"], job["attempt"], len(job["attempts"])) == ("completed", 1, 1)
    until_slots(jobs, 1)


def test_workers_0_pauses_and_the_supervisor_lives_on(start: StartSupervisor, jobs: Jobs) -> None:
    supervisor = start(pool={"workers": 0})
    job_id = jobs.insert("ok")
    supervisor.edit("pool", workers=1)
    assert jobs.wait(job_id)["status"] == "completed"


def test_a_later_edit_wins_over_the_flag_of_the_start(start: StartSupervisor, jobs: Jobs) -> None:
    supervisor = start("--workers", "3", pool={"workers": 1})
    until_slots(jobs, 3)
    supervisor.edit("retry", backoff_s=0.1)
    supervisor.wait_for("config.changed")
    assert len(slots(jobs)) == 3, "an edit of something else leaves the flag in force"
    supervisor.edit("pool", workers=2)
    until_slots(jobs, 2)


def test_an_invalid_edit_changes_nothing_and_says_why(start: StartSupervisor, jobs: Jobs) -> None:
    supervisor = start(pool={"workers": 2})
    until_slots(jobs, 2)
    good = supervisor.config_path.read_text()
    for text, said in [
        (good.replace('"workers" = 2', "").replace("workers = 2", 'workers = "many"'), 'workers = "many"'),
        (good.replace("workers = 2", "wrokers = 5"), "wrokers"),
        (good + "[pool\n", "config.toml"),
    ]:
        before = len(supervisor.events("config.invalid"))
        supervisor.config_path.write_text(text)
        refused = supervisor.wait_for("config.invalid", count=before + 1)
        assert said in refused["reason"]
        assert slots(jobs) == ["idle", "idle"]
    assert supervisor.events("config.changed") == []
    assert jobs.run("ok")["status"] == "completed"


def test_ttin_and_ttou_step_the_workers_until_the_next_edit(start: StartSupervisor, jobs: Jobs) -> None:
    supervisor = start(pool={"workers": 1})
    supervisor.process.send_signal(signal.SIGTTIN)
    until_slots(jobs, 2)
    supervisor.process.send_signal(signal.SIGTTOU)
    until_slots(jobs, 1)
    supervisor.process.send_signal(signal.SIGTTIN)
    until_slots(jobs, 2)
    supervisor.edit("retry", backoff_s=0.2)
    supervisor.wait_for("config.changed")
    assert len(slots(jobs)) == 2
    supervisor.edit("pool", workers=3)
    until_slots(jobs, 3)


def test_hup_reloads_and_usr1_logs_the_state(start: StartSupervisor, jobs: Jobs) -> None:
    supervisor = start()
    supervisor.config["pool"]["workers"] = 1
    supervisor.write_config(supervisor.config)
    supervisor.process.send_signal(signal.SIGHUP)
    until_slots(jobs, 1)
    supervisor.process.send_signal(signal.SIGUSR1)
    state = supervisor.wait_for("supervisor.state")
    assert (state["phase"], state["workers"], len(state["slots"])) == ("running", 1, 1)


def test_a_restart_only_edit_is_named_and_not_applied(start: StartSupervisor, jobs: Jobs) -> None:
    supervisor = start()
    supervisor.edit("mongo", database="elsewhere")
    assert supervisor.wait_for("config.needs_restart")["key"] == "mongo.database"
    assert jobs.run("ok")["status"] == "completed"


def test_a_worker_is_replaced_after_its_number_of_jobs(start: StartSupervisor, jobs: Jobs) -> None:
    start(pool={"workers": 1, "max_jobs_per_worker": 5})
    pids = [jobs.run("whoami")["result"]["pid"] for _ in range(12)]
    assert 2 <= len(set(pids)) <= 4
    assert pids == sorted(pids, key=pids.index), "and never comes back"


def test_an_environment_variable_keeps_its_precedence_through_edits(
    tmp_path: Path, mongo_uri: str, database_name: str, jobs: Jobs
) -> None:
    config = configuration(mongo_uri, database_name, pool={"workers": 3})
    variable = {"SUPERVISOR_POOL__WORKERS": "1"}
    supervisor = RunningSupervisor(tmp_path / "supervisor", config, environ=variable).start()
    try:
        supervisor.edit("retry", backoff_s=0.2)
        supervisor.wait_for("config.changed")
        assert [change["new"] for change in supervisor.events("pool.resized")] == [1]
    finally:
        supervisor.end()


def test_a_cap_on_a_handler_lets_its_jobs_follow_each_other_at_once(start: StartSupervisor, jobs: Jobs) -> None:
    start(pool={"workers": 2}, handlers__whoami={"max_running": 1})
    ids = [jobs.insert("whoami") for _ in range(40)]
    jobs.wait_for_all(timeout_s=15)  # a second each, if the next one waited for the poll
    spans = sorted((job["started_at"], job["finished_at"]) for job in map(jobs.get, ids))
    assert all(ended <= begun for (_, ended), (begun, _) in itertools.pairwise(spans)), "never two at once"


def test_a_shorter_lease_takes_effect_before_it_could_expire(start: StartSupervisor, jobs: Jobs) -> None:
    supervisor = start(lease={"seconds": 120})
    supervisor.edit("lease", seconds=3)
    supervisor.wait_for("config.changed")
    job = jobs.run("sleeps", {"seconds": 6})
    assert (job["status"], job["claims"]) == ("completed", 1)
