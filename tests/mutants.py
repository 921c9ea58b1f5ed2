"""Take one safeguard at a time out of a copy of the code, and see a test fail: `make mutants`.

A test that passes without the code that it tests proves nothing. Each entry names a safeguard, the text that makes it
up and what stands there instead, and the test that must notice. `tests/unit/test_mutants.py` sees to it that the texts
and the tests are still there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Mutant:
    """A safeguard, and how to take it out."""

    safeguard: str
    file: str
    old: str
    new: str
    test: str


STOPPING, OUTCOMES = "tests/acceptance/test_stopping.py", "tests/acceptance/test_outcomes.py"
SERVICE, COROUTINES = "tests/acceptance/test_service_manager.py", "tests/acceptance/test_coroutines.py"
SHORT = "tests/acceptance/test_short_jobs.py"
RESULTS, FAULTS = "tests/integration/test_results.py", "tests/acceptance/test_worker_faults.py"
HOOKS = "tests/acceptance/test_setup_hooks.py"
HTTP, BOUNDS = "tests/acceptance/test_http_service.py", "tests/integration/test_http_bounds.py"

MUTANTS = (
    Mutant(
        "the fence",
        "supervisor/store/records.py",
        '"lease.token": job.token,',
        "",
        f"{RESULTS}::test_the_result_of_an_earlier_claim_is_dropped",
    ),
    Mutant(
        "the tree kill",
        "supervisor/process_tree.py",
        "    members = _stop_all(root)\n",
        "    members = [root]\n",
        "tests/integration/test_process_tree.py::test_the_tree_is_killed_wherever_its_members_have_gone",
    ),
    Mutant(
        "the killing of what a dead worker left behind",
        "supervisor/process_tree.py",
        "        kill_tree(orphan.pid)\n",
        "        pass\n",
        f"{OUTCOMES}::test_a_crash_takes_along_what_the_worker_started",
    ),
    Mutant(
        "the watch on the supervisor",
        "supervisor/worker/main.py",
        "        _die_with_supervisor()\n",
        "",
        f"{STOPPING}::test_sigkill_leaves_no_process_behind",
    ),
    Mutant(
        "the renewal of leases",
        "supervisor/store/leases.py",
        "        if not claims:\n            return []\n",
        "        return []\n",
        f"{STOPPING}::test_a_job_longer_than_its_lease_keeps_it",
    ),
    Mutant(
        "the watchdog's food from nobody but the claim loop",
        "supervisor/status_line.py",
        "            self._manager.status(await self.text())\n",
        "            self._manager.status(await self.text())\n            self._manager.beat()\n",
        f"{SERVICE}::test_the_pulse_stops_when_the_claim_loop_hangs_though_all_else_goes_on",
    ),
    Mutant(
        "the bound on the wait for a free slot",
        "supervisor/dispatcher.py",
        "asyncio.timeout(_TURN_S)",
        "asyncio.timeout(None)",
        f"{SERVICE}::test_without_workers_it_is_ready_at_once",
    ),
    Mutant(
        "giving back what comes to a dead worker that had calls withdrawn",
        "supervisor/pool/queue.py",
        "(self.held and not dead)",
        "self.held",
        "tests/integration/test_sharing.py::test_a_job_that_comes_after_its_worker_s_death_is_not_kept_for_ever",
    ),
    Mutant(
        "letting a write of progress come to its end",
        "supervisor/progress.py",
        "await asyncio.wait({self._writing})",
        "self._writing.cancel()",
        "tests/integration/test_progress.py::test_the_end_of_a_job_during_a_write_costs_no_connection",
    ),
    Mutant(
        "the look at whether the process behind a health file is dead",
        "supervisor/health.py",
        'not is_alive(state["pid"], state["start_ticks"])',
        "False",
        "tests/acceptance/test_health.py::test_one_that_was_killed_is_dead_until_it_has_a_successor",
    ),
    Mutant(
        "the reaper",
        "supervisor/reaper.py",
        "        self._rounds += 1\n",
        "        return\n",
        f"{STOPPING}::test_an_expired_lease_is_taken_over_by_a_living_supervisor",
    ),
    Mutant(
        "the guard that lets go of a lease in time",
        "supervisor/lease_keeper.py",
        "            self.guard(boot_time_s())\n",
        "            pass\n",
        "tests/acceptance/test_trouble.py::test_a_supervisor_that_cannot_renew_stops_its_jobs_before_the_lease_ends",
    ),
    Mutant(
        "the release of a dead predecessor's jobs",
        "supervisor/reaper.py",
        "            if is_dead(document):\n",
        "            if False:\n",
        f"{STOPPING}::test_a_successor_on_the_host_releases_a_dead_predecessors_jobs_at_once",
    ),
    Mutant(
        "the reader that unpickles nothing of a worker's",
        "supervisor/pool/context.py",
        "        return _EnvelopeUnpickler(io.BytesIO(message)).load()\n",
        "        return pickle.loads(message)\n",
        f"{OUTCOMES}::test_a_forged_pickle_runs_nothing_in_the_supervisor",
    ),
    Mutant(
        "the memory limit",
        "supervisor/pool/sampler.py",
        "        self._on_over(used_mb)\n",
        "",
        "tests/acceptance/test_evidence.py::test_a_job_that_takes_memory_is_stopped_at_its_limit",
    ),
    Mutant(
        "the fork server's survival of a refused fork",
        "supervisor/worker/preload.py",
        "    forks.survive_refusals()\n",
        "",
        f"{FAULTS}::test_a_refused_fork_costs_no_job_its_life",
    ),
    Mutant(
        "putting the process in order after a job",
        "supervisor/worker/main.py",
        "(worn := worker.surroundings.restore())",
        "(worn := None)",
        f"{FAULTS}::test_a_job_finds_the_process_as_the_first_one_did",
    ),
    Mutant(
        "the one reader of a worker's exit code",
        "supervisor/pool/context.py",
        "        with self._reading:\n",
        "        if True:\n",
        "tests/integration/test_exit_codes.py::test_an_exit_code_is_right_or_known_to_be_unknown",
    ),
    Mutant(
        "the name of the job on a stop order",
        "supervisor/pool/queue.py",
        "if attempt.listener is listener",
        "if True",
        "tests/integration/test_stop_orders.py::"
        "test_an_order_for_a_job_that_has_ended_leaves_the_slot_s_next_job_alone",
    ),
    Mutant(
        "the number of the job on a stop order",
        "supervisor/worker/main.py",
        "if read_order(worker.plan.orders) in (worker.serving, None):",
        "if True:",
        "tests/integration/test_stop_orders.py::test_an_order_that_comes_too_late_for_its_job_leaves_the_next_one_alone",
    ),
    Mutant(
        "the end of giving jobs to a worker that is worn",
        "supervisor/pool/serving.py",
        "        self.give_back_ahead()\n        self.jobs.closed = True\n",
        "        self.give_back_ahead()\n",
        "tests/integration/test_stop_orders.py::test_a_job_that_a_claim_brings_to_a_worn_worker_is_given_back_unbegun",
    ),
    Mutant(
        "the ticket that a worker takes before it begins a job",
        "supervisor/worker/main.py",
        "worker.worn or not worker.tickets.take()",
        "worker.worn",
        f"{SHORT}::test_a_job_that_turns_out_long_holds_up_no_other",
    ),
    Mutant(
        "giving back what waits behind a job that turns out long",
        "supervisor/pool/serving.py",
        "if len(self.jobs) > 1 else math.inf",
        "if False else math.inf",
        f"{SHORT}::test_a_job_that_turns_out_long_holds_up_no_other",
    ),
    Mutant(
        "the end of a group with a job that has worn its worker",
        "supervisor/worker/main.py",
        "worker.worn = True  # the jobs behind it need a fresh worker",
        "pass",
        f"{SHORT}::test_a_worker_that_is_worn_by_one_job_runs_none_behind_it",
    ),
    Mutant(
        "the look at a worker's start time",
        "supervisor/pool/process.py",
        '(pid, start_ticks(pid)) != (greeting["pid"], greeting["started"])',
        "False",
        "tests/integration/test_stop_orders.py::"
        "test_a_process_that_is_not_the_worker_that_said_hello_is_never_signalled",
    ),
    Mutant(
        "the hold on claims while a host is drained",
        "supervisor/live.py",
        "self.drain is None and ",
        "",
        "tests/acceptance/test_fleet.py::test_a_drained_host_finishes_what_it_can_gives_back_the_rest_and_lives_on",
    ),
    Mutant(
        "the note that an edit has overruled a resize",
        "supervisor/controls.py",
        "            await self._store.overrule(resize)\n",
        "",
        "tests/acceptance/test_fleet.py::test_whoever_spoke_last_about_the_workers_wins_through_restarts",
    ),
    Mutant(
        "the fence of a run time",
        "supervisor/store/schedules.py",
        '"tick": {"$eq": seen.tick}, ',
        "",
        "tests/integration/test_schedules.py::test_who_is_slow_does_not_make_a_job_again_that_has_run_and_been_deleted",
    ),
    Mutant(
        "the reason that a coroutine is cancelled for",
        "supervisor/coroutines/orders.py",
        "error if reason is None else ORDERS[reason](*error.args)",
        "error",
        "tests/unit/test_coroutines.py::test_an_order_is_raised_as_what_it_is_and_as_a_cancellation",
    ),
    Mutant(
        "the time limit of a coroutine that was blocking",
        "supervisor/coroutines/attempt.py",
        "return over_s if over_s > self._means.limits.kill_grace_s else 0.0",
        "return 0.0",
        f"{COROUTINES}::test_a_blocking_call_is_named_with_its_place_and_does_not_outwit_the_time_limit",
    ),
    Mutant(
        "the repeated order to a coroutine that ignores it",
        "supervisor/coroutines/attempt.py",
        "        self._set_timer(max(self._means.limits.kill_grace_s, INSIST_EVERY_S), self._insist)\n",
        "",
        f"{COROUTINES}::test_what_ignores_the_order_to_stop_keeps_its_lease_until_it_has_ended",
    ),
    Mutant(
        "the end of workers while the event loop stands still",
        "supervisor/coroutines/watch.py",
        "                self._give_up()\n",
        "",
        "tests/acceptance/test_application.py::"
        "test_an_application_that_is_blocked_until_leases_end_loses_its_workers_and_goes_on",
    ),
    Mutant(
        "the password left out of what workers inherit",
        "supervisor/pool/forkserver.py",
        " if not name.startswith(OURS)",
        "",
        "tests/acceptance/test_application.py::test_workers_of_an_application_are_like_others_and_end_with_it",
    ),
    Mutant(
        "the look at what a hook has left running",
        "supervisor/worker/preload.py",
        "    if left := unforkable.left_running():\n",
        "    if left := None:\n",
        f"{HOOKS}::test_a_hook_whose_work_does_not_survive_a_fork_is_left_to_the_workers_and_named_once",
    ),
    Mutant(
        "the freezing of what workers share",
        "supervisor/worker/preload.py",
        "    gc.freeze()",
        "    pass",
        f"{HOOKS}::test_workers_share_a_model_through_its_use_and_a_garbage_collection",
    ),
    Mutant(
        "the lifeline of a fork server that loads",
        "supervisor/worker/preload.py",
        '    lifeline.hold(plan["lifeline"])',
        "    pass",
        f"{HOOKS}::test_a_fork_server_that_hangs_in_a_hook_dies_with_its_supervisor",
    ),
    Mutant(
        "the spare worker's place in a slot that has lost its own",
        "supervisor/pool/pool.py",
        "        if spare := self._spares.take():\n",
        "        if spare := None:\n",
        "tests/acceptance/test_spares.py::"
        "test_a_slot_that_loses_its_worker_has_the_spare_one_at_once_and_a_new_spare_follows",
    ),
    Mutant(
        "the main program left out of workers",
        "supervisor/pool/context.py",
        'reduction.dump({"name": process_obj.name}, buffer)',
        "from multiprocessing import spawn; reduction.dump(spawn.get_preparation_data(process_obj.name), buffer)",
        "tests/integration/test_supervisor_in_a_program.py::"
        "test_supervisors_come_and_go_in_one_process_and_leave_it_as_it_was",
    ),
    Mutant(
        "the descriptors that forks of the application must not hold",
        "supervisor/pool/context.py",
        "        lifelines.hold(parent_w)\n",
        "",
        "tests/acceptance/test_application.py::test_workers_of_an_application_are_like_others_and_end_with_it",
    ),
    Mutant(
        "the look at the queue where others may wait before a new job",
        "supervisor/store/claims.py",
        "        if not self.exhausted:\n            return None\n",
        "",
        "tests/integration/test_claims.py::"
        "test_a_new_job_is_taken_before_a_look_only_where_the_latest_claim_left_none_behind",
    ),
    Mutant(
        "the word of where a job is that has moved",
        "supervisor/lease_keeper.py",
        "                    await self._tell_moved()\n",
        "",
        "tests/acceptance/test_short_jobs.py::"
        "test_the_lease_of_a_job_names_the_worker_that_runs_it_though_it_waited_for_another",
    ),
    Mutant(
        "another claim when a job ends, where no place would do before",
        "supervisor/dispatcher.py",
        "            if self._passed_over:\n                self._wakeup.ring()\n",
        "",
        "tests/acceptance/test_pick_up.py::test_a_job_for_which_no_place_would_do_is_claimed_when_one_is_free",
    ),
    Mutant(
        "the end of what clients hold open",
        "supervisor/http_service/requests.py",
        "                exchange.cut(HTTPStatus.SERVICE_UNAVAILABLE)\n",
        "                pass\n",
        f"{HTTP}::test_neither_streams_nor_uploads_hold_up_the_end",
    ),
    Mutant(
        "the thread that requests are answered in",
        "supervisor/http_service/service.py",
        'threading.Thread(target=self._run, args=(loop, ended), name="supervisor-http", daemon=True).start()',
        "loop.create_task(self._serve())",
        f"{HTTP}::test_a_check_that_hangs_holds_up_http_and_nothing_else",
    ),
    Mutant(
        "the look at where a request without a token comes from",
        "supervisor/http_service/requests.py",
        "if self._local and (foreign := _foreign(scope)):",
        'if (foreign := "") and foreign:',
        f"{HTTP}::test_web_sites_cannot_use_what_needs_no_token",
    ),
    Mutant(
        "the place for a new client where others ask nothing",
        "supervisor/http_service/server.py",
        "min(silent, key=lambda each: each.heard_at).transport.abort()",
        "transport.abort()",
        f"{BOUNDS}::test_more_requests_than_there_is_room_for_are_503_and_probes_get_through",
    ),
)


def main() -> int:
    """Try every mutant; return 0 if each was noticed."""
    unnoticed = [mutant.safeguard for mutant in MUTANTS if not _noticed(mutant)]
    for safeguard in unnoticed:
        print(f"no test failed without {safeguard}")
    print(f"{len(MUTANTS) - len(unnoticed)} of {len(MUTANTS)} safeguards are missed by a test when they are gone")
    return 1 if unnoticed else 0


def _noticed(mutant: Mutant) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__"))
        file = copy / mutant.file
        file.write_text(file.read_text("utf-8").replace(mutant.old, mutant.new), "utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "", "-p", "no:cacheprovider", mutant.test]
        done = subprocess.run(
            command, cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)}, capture_output=True, text=True, check=False
        )
        noticed = done.returncode == 1 and " failed" in done.stdout
        print(f"{'noticed  ' if noticed else 'UNNOTICED'} without {mutant.safeguard}: {mutant.test}", flush=True)
        if done.returncode not in (0, 1):
            print(done.stdout[-2000:], done.stderr[-2000:])
        return noticed


if __name__ == "__main__":
    sys.exit(main())
