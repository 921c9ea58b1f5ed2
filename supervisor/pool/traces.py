"""What the jobs of a worker leave behind in its slot's files: output, stacks, large results."""

from __future__ import annotations

from dataclasses import replace

from supervisor.core.outcome import AnyOutcome, Crashed, Evidence, OutOfMemory, Raised, Returned, TimedOut
from supervisor.pool.files import SlotFiles
from supervisor.worker.wire import Stopped

STACK_BYTES = 16 * 1024


class Traces:
    """Tells whose output is whose: that of one job begins where that of the one before ended."""

    def __init__(self, files: SlotFiles) -> None:
        self.log_kb = 64
        """How much is kept of a job's output."""
        self._files = files
        self._printed = 0

    @property
    def printed(self) -> int:
        """Bytes of output that belong to jobs that have ended; the next one's begin there."""
        return self._printed

    def clear(self) -> None:
        """Forget all of it: no job is running."""
        self._files.clear()
        self._printed = 0

    def of(self, outcome: AnyOutcome, printed: object = None) -> AnyOutcome:
        """Return `outcome` with what its attempt has printed, up to byte `printed` by its worker, and the stacks of a
        bad end.
        """
        begin, end, logs, evidence = self._printed, self._end(printed), "", None
        if end > begin:
            logs = self._files.output.between(max(begin, end - self.log_kb * 1024), end)
        if isinstance(outcome, Crashed | TimedOut | OutOfMemory):
            evidence = Evidence(self._files.stacks.head(STACK_BYTES) or None)
        self._printed = end
        return replace(outcome, logs=logs, evidence=evidence) if logs or evidence else outcome

    def _end(self, printed: object) -> int:
        """Return where an attempt's output ends; a worker may say anything."""
        if printed == self._printed:
            return self._printed
        size = self._files.output.size
        return min(max(self._printed, printed), size) if isinstance(printed, int) else max(self._printed, size)

    def keep_file(self, said: Returned | Raised | Stopped) -> Returned | Raised | Stopped:
        """Move a large result out of the spool folder, which belongs to the slot's next job soon. Raises OSError."""
        if not isinstance(said, Returned) or said.spool_file is None:
            return said
        return replace(said, spool_file=self._files.keep(said.spool_file))
