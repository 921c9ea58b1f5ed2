"""What people have decided through the database and is in force, as `status` and `check` show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import click

from supervisor.cli.pauses import print_pauses
from supervisor.cli.printing import print_table
from supervisor.client.operator import OperatorQueue
from supervisor.core.durations import duration, seconds_between
from supervisor.core.fleet import EVERYWHERE, Drain, Resize, resize_of
from supervisor.store.controls import Pause


@dataclass(frozen=True)
class InForce:
    """The pauses, resizes and drains at one time of the database's."""

    pauses: Sequence[Pause]
    resizes: Sequence[Resize]
    drains: Sequence[Drain]
    now: datetime

    @classmethod
    def read(cls, queue: OperatorQueue) -> InForce:
        """Ask the database."""
        controls = queue.controls
        return cls(controls.pauses(), effective(controls.resizes()), controls.drains(), queue.now())

    def paused(self) -> list[dict[str, Any]]:
        """Return the pauses for a listing in JSON."""
        return list(map(asdict, self.pauses))

    def of_hosts(self) -> list[dict[str, Any]]:
        """Return the resizes and drains for a listing in JSON."""
        sizes = [{"kind": "resize", **asdict(each)} for each in self.resizes]
        return [*sizes, *({"kind": "drain", **asdict(each)} for each in self.drains)]

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been decided."""
        return not (self.pauses or self.resizes or self.drains)

    def show(self) -> None:
        """Print what there is, pauses apart from the rest."""
        if self.pauses:
            print_pauses(list(self.pauses), self.now)
        if self.pauses and (self.resizes or self.drains):
            click.echo()
        if self.resizes or self.drains:
            self._show_of_hosts()

    def _show_of_hosts(self) -> None:
        sizes = [[f"resize {_size(each)}", *self._whom(each), ""] for each in self.resizes]
        drains = [["drain", *self._whom(each), self._reason(each)] for each in self.drains]
        print_table(("control", "host", "by", "for", "reason"), [*sizes, *drains])

    def _whom(self, control: Resize | Drain) -> list[str]:
        host = "all" if control.host == EVERYWHERE else control.host
        return [host, control.by, duration(seconds_between(control.at, self.now))]

    def _reason(self, drain: Drain) -> str:
        left = "" if drain.until is None else f"for {duration(seconds_between(self.now, drain.until))} more"
        return "; ".join(filter(None, (drain.reason, left)))


def effective(resizes: Sequence[Resize]) -> list[Resize]:
    """Leave out what a later word has replaced, and "as configured" where nothing else is said."""
    sizes = {each.host: each.workers for each in resizes}
    return [
        each
        for each in resizes
        if resize_of(each.host, resizes) == each and (each.workers, sizes.get(EVERYWHERE)) != (None, None)
    ]


def _size(resize: Resize) -> int | str:
    return "configured" if resize.workers is None else resize.workers
