"""The faults: each kind in a thread of its own, at random times of the plan."""

import contextlib
import threading
import time
from abc import ABC, abstractmethod
from typing import ClassVar

import psutil
from pymongo import ReadPreference
from pymongo.errors import PyMongoError

from tests.chaos.fleet import STOP_S
from tests.chaos.plan import LEASE_S
from tests.chaos.world import World
from tests.support.supervising import gone

GONE_S = 10.0
"""A killed supervisor's processes are gone in well under a second; a starved machine gets more."""

INVALID_EDITS = [
    "[pool]\nworkers = -1\n",
    "[pool]\nworkers = 'three'\n",
    "[pool]\nwrokers = 3\n",
    "[lease]\nseconds = 1\n",
    "[pool\nworkers = 3\n",
    "\0\0\0\0",
]


class Injector(ABC, threading.Thread):
    """Injects one kind of fault as often as the plan says."""

    fault: ClassVar[str]

    def __init__(self, world: World) -> None:
        super().__init__(name=self.fault, daemon=True)
        self.world = world
        self.rng = world.random(self.fault)
        self.finished = threading.Event()

    def run(self) -> None:
        try:
            plan = self.world.plan
            for at in sorted(self.rng.uniform(0, plan.seconds) for _ in range(plan.count(self.fault))):
                self.world.wait(at - self.world.elapsed())
                if self.world.over.is_set():
                    return
                self.inject()
        except Exception as error:  # a thread that dies unseen would leave the run without its faults
            self.world.troubles.append(f"injecting {self.fault!r} failed: {type(error).__name__}: {error}")
        finally:
            self.finished.set()

    @abstractmethod
    def inject(self) -> None:
        """Do it once, and mend what does not mend itself."""

    def _pick_worker(self) -> psutil.Process | None:
        """Return a random worker, sooner one that runs a job."""
        workers = {worker.pid: worker for worker in self.world.fleet.workers()}
        busy = [pid for pid in self._busy_pids() if pid in workers]
        pids = busy if busy and self.rng.random() < 0.9 else sorted(workers)
        return workers[self.rng.choice(pids)] if pids else None

    def _busy_pids(self) -> list[int]:
        """Ask any member that answers, since the primary may be one of the victims; a moment old is good enough."""
        try:
            with self.world.client(timeout_ms=500) as client:
                jobs = self.world.jobs(client).with_options(read_preference=ReadPreference.NEAREST)
                return [job["lease"]["pid"] for job in jobs.find({"lease.pid": {"$type": "int"}}, {"lease.pid": 1})]
        except PyMongoError:
            return []


class KillWorker(Injector):
    fault = "worker killed"

    def inject(self) -> None:
        while not self.world.over.is_set():
            if worker := self._pick_worker():
                at = time.time()
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()
                    self.world.record(self.fault, worker.pid, at=at)
                    return
            self.world.wait(0.02)


class StopWorker(Injector):
    """SIGSTOP; some are continued before their time limit, and some after it, if they still are."""

    fault = "worker stopped"

    def inject(self) -> None:
        while not self.world.over.is_set():
            if worker := self._pick_worker():
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.suspend()
                    self.world.record(self.fault, worker.pid)
                    self._continue_later(worker)
                    return
            self.world.wait(0.02)

    def _continue_later(self, worker: psutil.Process) -> None:
        self.world.wait(self.rng.uniform(0.1, 4))
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.resume()


class KillSupervisor(Injector):
    """SIGKILL; nothing that it started may live on. It is started again soon or only after its leases' end."""

    fault = "supervisor killed"

    def inject(self) -> None:
        with self.world.fleet.anyone(self.rng) as member:
            family = member.supervisor.family()
            self.world.record(self.fault, member.supervisor.pid)
            member.supervisor.kill()
            try:
                gone(family, GONE_S)
            except AssertionError as error:
                self.world.troubles.append(f"left running by a killed supervisor: {error}")
            self.world.wait(self.rng.choice([0.0, 1.0, LEASE_S + 2]))
            member.start()


class StopSupervisor(Injector):
    """SIGSTOP for longer than a lease, then SIGCONT: it wakes up to find that its jobs are others'.

    Alone, its workers bring jobs to an end that are no longer its own. With all that it has started, as when a
    machine is suspended, they go on where they were.
    """

    fault = "supervisor stopped"

    def inject(self) -> None:
        with self.world.fleet.anyone(self.rng) as member:
            wholly = self.world.count(self.fault) % 2 == 1
            process = psutil.Process(member.supervisor.pid)
            self.world.record(self.fault, process.pid, "with all it started" if wholly else "alone")
            process.suspend()
            stopped = [process, *(member.supervisor.family() if wholly else [])]
            for each in stopped[1:]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.suspend()
            self.world.wait(self.rng.uniform(1.1, 2) * LEASE_S)
            for each in reversed(stopped):
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.resume()


class TerminateSupervisor(Injector):
    fault = "supervisor terminated"

    def inject(self) -> None:
        with self.world.fleet.anyone(self.rng) as member:
            member.wait_until_ready()
            self.world.record(self.fault, member.supervisor.pid)
            code = member.supervisor.stop(STOP_S)
            if code != 0:
                self.world.troubles.append(f"{member.name} ended with {code} after TERM")
            self.world.wait(self.rng.uniform(0, 2))
            member.start()


class EditWorkers(Injector):
    fault = "workers edited"

    def inject(self) -> None:
        with self.world.fleet.anyone(self.rng) as member:
            workers = self.rng.choice([0, 1, 2, 3, 4])
            self.world.record(self.fault, member.supervisor.pid)
            member.resize(workers)
            if not workers:  # a pause, not the end of the work
                self.world.wait(1)
                member.resize(2)


class EditInvalid(Injector):
    """Changes nothing, and stays in the file until the next edit. A start on such a file would rightly be refused."""

    fault = "invalid edit"

    def inject(self) -> None:
        with self.world.fleet.anyone(self.rng) as member:
            member.wait_until_ready()
            self.world.record(self.fault, member.supervisor.pid)
            member.spoil(self.rng.choice(INVALID_EDITS))


class FailOver(Injector):
    """Take the primary away, in one way after the other; go on when the set is whole again.

    The kernel ends a mongod with the thread that started it; so this thread stays until the run is over.
    """

    fault = "failover"

    def run(self) -> None:
        super().run()
        self.world.over.wait()

    def inject(self) -> None:
        ways = [self._kill, self._stop, self._step_down, self._roll_back]
        ways[self.world.count(self.fault) % len(ways)]()

    def _kill(self) -> None:
        primary = self.world.replica_set.primary()
        self.world.record(self.fault, how="SIGKILL")
        primary.kill()
        self.world.replica_set.primary()
        self.world.wait(self.rng.uniform(0, 3))
        primary.restart()

    def _stop(self) -> None:
        primary = self.world.replica_set.primary()
        self.world.record(self.fault, how="SIGSTOP")
        process = psutil.Process(primary.pid)
        process.suspend()
        try:
            self.world.wait(self.rng.uniform(3, 10))
        finally:
            process.resume()
        self.world.replica_set.primary()

    def _roll_back(self) -> None:
        """Cut the primary off, let it go on for a while, and have the others elect one that knows nothing of that."""
        primary = self.world.replica_set.primary()
        others = [psutil.Process(member.pid) for member in self.world.replica_set.members if member is not primary]
        self.world.record(self.fault, how="rollback")
        try:
            for process in others:
                process.suspend()
            self.world.wait(self.rng.uniform(0.5, 1.5))
            primary.kill()
        finally:
            for process in others:
                process.resume()
        self.world.replica_set.primary()
        primary.restart()

    def _step_down(self) -> None:
        primary = self.world.replica_set.primary()
        self.world.record(self.fault, how="step-down")
        with contextlib.suppress(PyMongoError), primary.client() as client:  # it may close the connection instead
            client.admin.command("replSetStepDown", 10, force=True)
        self.world.replica_set.primary()


INJECTORS = [
    KillWorker,
    StopWorker,
    KillSupervisor,
    StopSupervisor,
    TerminateSupervisor,
    EditWorkers,
    EditInvalid,
    FailOver,
]
