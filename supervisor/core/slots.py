"""What the pool does next with its slots: the desired number against what is there. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class SlotState(StrEnum):
    """Where a slot is: its worker is being started, waits, runs a job, is being ended, or failed to start."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    STOPPING = "stopping"
    BACKOFF = "backoff"


@dataclass(frozen=True)
class SlotPlan:
    """Slots to open, to retire (a busy one after its job), and to keep after all."""

    open: tuple[int, ...] = ()
    retire: tuple[int, ...] = ()
    keep: tuple[int, ...] = ()


def plan_slots(desired: int, slots: Mapping[int, tuple[SlotState, bool]]) -> SlotPlan:
    """Return what brings `slots` (index → state, whether it is retiring) to `desired` ones.

    Idle slots go before busy ones, high indices before low ones. A retiring slot that is wanted again is kept, which
    is cheaper than a new worker; new slots take the lowest free indices.
    """
    staying = [index for index, (_, retiring) in slots.items() if not retiring]
    leaving = sorted(index for index, (_, retiring) in slots.items() if retiring)
    surplus = len(staying) - desired
    if surplus > 0:
        dispensable = sorted(staying, key=lambda index: (slots[index][0] is SlotState.BUSY, -index))
        return SlotPlan(retire=tuple(dispensable[:surplus]))
    keep = [index for index in leaving if slots[index][0] is not SlotState.STOPPING][:-surplus]
    free = (index for index in range(len(slots) + desired) if index not in slots)
    return SlotPlan(open=tuple(next(free) for _ in range(-surplus - len(keep))), keep=tuple(keep))


def start_delay(failures: int) -> float:
    """Return the seconds to wait after `failures` failed starts in a row: 0.1 doubling up to 30."""
    return min(30.0, 0.1 * 2.0 ** min(max(failures - 1, 0), 20))
