"""How long it took to go on after each fault, read from the claims in the oplog and the times of the injections."""

from collections.abc import Iterator, Sequence

from tests.chaos.history import Change
from tests.chaos.world import Fault

SLOT_BUSY = "worker kill → its slot busy again"
JOB_AGAIN = "worker kill → its job claimed again"
ELSEWHERE = "supervisor kill → each of its jobs claimed again"
UNDISTURBED = "the same, where no failover came near"
NEXT_CLAIM = "failover → next claim by the new primary"
NEAR_S = 15.0
"""An election, and the lease during which no supervisor believes a new primary's clock, take less."""


def recovery_times(faults: Sequence[Fault], history: Sequence[Change]) -> dict[str, list[float]]:
    """Return the seconds from each fault until work went on, by what was waited for."""
    timeline = Timeline(history)
    killed = [fault for fault in faults if fault.kind == "worker killed"]
    dead = [fault for fault in faults if fault.kind == "supervisor killed"]
    failovers = [fault for fault in faults if fault.kind == "failover"]
    found = {
        SLOT_BUSY: [timeline.slot_busy_again(fault, faults) for fault in killed],
        JOB_AGAIN: [seconds for fault in killed for seconds in timeline.jobs_again(fault)],
        ELSEWHERE: [seconds for fault in dead for seconds in timeline.jobs_again(fault)],
        UNDISTURBED: [
            seconds
            for fault in dead
            for seconds in timeline.jobs_again(fault)
            if not any(fault.at - NEAR_S < other.at < fault.at + seconds for other in failovers)
        ],
        NEXT_CLAIM: [timeline.next_claim(fault) for fault in failovers],
    }
    return {what: [seconds for seconds in times if seconds is not None] for what, times in found.items()}


class Timeline:
    """The claims in order, and what was held when."""

    def __init__(self, history: Sequence[Change]) -> None:
        self._history = history
        self._claims = [change for change in history if change.claim]

    def held_at(self, at: float, pid: int) -> list[Change]:
        """Return the claims that were open at `at`, of this worker or of this supervisor."""
        open_: dict[str, Change] = {}
        for change in self._history:
            if change.at > at:
                break
            if change.claim:
                open_[change.job] = change
            elif change.status is not None:
                open_.pop(change.job, None)
        return [change for change in open_.values() if pid in _pids(change)]

    def jobs_again(self, fault: Fault) -> Iterator[float]:
        """Yield for each job that the victim held the seconds until somebody claimed it again."""
        for held in self.held_at(fault.at, fault.pid):
            later = (change.at for change in self._claims if change.job == held.job and change.at > fault.at)
            if (again := next(later, None)) is not None:
                yield again - fault.at

    def slot_busy_again(self, fault: Fault, faults: Sequence[Fault]) -> float | None:
        """Return the seconds until the slot of a killed worker had the next job.

        None where the worker was idle, and where something else was done to its supervisor meanwhile: an edit may
        have taken the slot away.
        """
        for held in self.held_at(fault.at, fault.pid):
            seat = _seat(held)
            again = next((each.at for each in self._claims if each.at > fault.at and _seat(each) == seat), None)
            supervisor = _supervisor_pid(held)
            if again and not any(other.pid == supervisor and held.at <= other.at <= again for other in faults):
                return again - fault.at
        return None

    def next_claim(self, fault: Fault) -> float | None:
        """Return the seconds until a claim was written by a primary of a later election."""
        term = max((change.term for change in self._history if change.at <= fault.at), default=0)
        later = (change.at - fault.at for change in self._claims if change.at > fault.at and change.term > term)
        return next(later, None)


def _pids(change: Change) -> tuple[int, int]:
    assert change.claim
    return change.claim.pid, _supervisor_pid(change)


def _supervisor_pid(change: Change) -> int:
    """Return the process id that stands in a supervisor's id, HOST-PID-RANDOM."""
    assert change.claim
    return int(change.claim.supervisor.split("-")[-2])


def _seat(change: Change) -> tuple[str, int]:
    assert change.claim
    return change.claim.supervisor, change.claim.slot
