"""When crashes are the handler's fault and not a job's: many different jobs of it crash in a row.

A bad page crashes one job, and `max_crashes` quarantines it. A bad deploy crashes every job, and would quarantine the
whole queue one by one; so after enough of them the handler is paused.
"""

from __future__ import annotations

from supervisor.core.outcome import Cancelled, Crashed, ErrorKind, Interrupted, Lost, Raised
from supervisor.core.transitions import Transition, describe_death


class Breaker:
    """Counts, for each handler, the different jobs that have crashed since one of its attempts did not."""

    def __init__(self) -> None:
        self._crashed: dict[str, set[str]] = {}

    def note(self, change: Transition, most: int) -> str | None:
        """Take an ended attempt; return the reason to pause its handler, None while there is none.

        `most` different jobs crashing in a row are reason enough; 0 = never. Then the count starts again.
        """
        if _says_nothing(change):
            return None
        handler = change.job.handler
        if not isinstance(change.ended, Crashed):
            self.forget(handler)
            return None
        crashed = self._crashed.setdefault(handler, set())
        crashed.add(repr(change.job.id))  # an id may be of any type, also of one that has no hash
        if not 0 < most <= len(crashed):
            return None
        self.forget(handler)
        return _reason(change, change.ended, len(crashed))

    def forget(self, handler: str) -> None:
        """Start to count again."""
        self._crashed.pop(handler, None)


def _says_nothing(change: Transition) -> bool:
    """Tell whether this end is no sign of how the handler does: it had not begun, or somebody else ended it."""
    match change.ended:
        case Crashed(started=False) | Interrupted() | Lost() | Cancelled() | Raised(kind=ErrorKind.INVALID):
            return True
    return False


def _reason(change: Transition, ended: Crashed, count: int) -> str:
    handler = change.job.handler
    many = f"1 job of {handler} crashed" if count == 1 else f"{count} different jobs of {handler} crashed in a row"
    return (
        f"{many}, the last one {change.job.id}: {describe_death(ended.exit_code, ended.signal)}; "
        f"look into it with: autopsy {change.job.id}; once it is mended: resume {handler}"
    )
