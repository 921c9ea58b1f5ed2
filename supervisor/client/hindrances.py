"""What keeps single supervisors from claiming a job: the part of `why` that their heartbeats answer. Pure."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence

from supervisor.client.gate_usage import limit_reached
from supervisor.client.reasons import IN_THE_QUEUE, NEAREST_FIRST, Code, Document, Facts, Reason, said_by
from supervisor.core.fleet import EVERYWHERE, drain_of
from supervisor.core.pieces import parts
from supervisor.core.slots import SlotState

_MOST_NAMED = 3
_TEXTS = {
    Code.FREE: "a slot is free on {hosts}: it is claimed any moment",
    Code.BUSY: "all slots on {hosts} are busy ({busy} running)",
    Code.NO_WORKER_READY: "no worker is ready on {hosts} (slots: {slots})",
    Code.CAPPED: "max_running = {cap} of {handler} is reached on {hosts}",
    Code.STARTING: "the supervisor on {hosts} is still starting",
    Code.NO_WORKERS: "workers = 0 on {hosts}",
    Code.DRAINING: "the supervisor on {hosts} is stopping and claims nothing",
    Code.UNCLAIMED: "pool.claim leaves {handler} out on {hosts}",
    Code.UNREGISTERED: "{handler} is not registered on {hosts}",
}
_COMMANDS = {
    Code.BUSY: "status",
    Code.NO_WORKER_READY: "status",
    Code.STARTING: "status",
    Code.DRAINING: "status",
    Code.UNREGISTERED: "check",
}


def by_supervisor(facts: Facts) -> list[Reason]:
    """Return a reason for each kind of hindrance, the nearest to a claim first, naming the supervisors that have it."""
    found: dict[Code, list[Document]] = {}
    for each in facts.alive:
        found.setdefault(hindrance(each, facts), []).append(each)
    return [_say(code, facts, found[code]) for code in NEAREST_FIRST if code in found]


def hindrance(supervisor: Document, facts: Facts) -> Code:
    """Return the first thing that keeps a supervisor from claiming the job; FREE for nothing."""
    handler = facts.handler
    entries = {entry["handler"]: entry for entry in _entries(supervisor)}
    if entries and handler not in entries:
        return Code.UNREGISTERED
    entry = entries.get(handler, {"claimed": True})  # of an older version, which does not say
    states = Counter(str(slot.get("state")) for slot in parts(supervisor, "slots"))
    needs_worker = not entry.get("coroutine")
    checks = (
        (Code.UNCLAIMED, not entry.get("claimed")),
        (Code.DRAINED, drain_of(str(supervisor.get("host")), facts.drains) is not None),
        (Code.DRAINING, supervisor.get("phase") == "draining"),
        (Code.NO_WORKERS, needs_worker and not supervisor.get("workers")),
        (Code.STARTING, supervisor.get("phase") == "starting"),
        (Code.CAPPED, not _has_room(entry)),
        (Code.LIMITED, limit_reached(entry, facts.usage, facts.now) is not None),
        (Code.FREE, states[SlotState.IDLE] > 0 or not needs_worker),
        (Code.BUSY, states[SlotState.BUSY] > 0),
    )
    return next((code for code, holds in checks if holds), Code.NO_WORKER_READY)


def rivals(facts: Facts) -> list[str]:
    """Return the handlers whose jobs compete with this one for the same slots, its own among them.

    Paused and capped ones do not: their jobs are passed over. Nor do coroutines and what needs a worker compete with
    each other. Where no slot is to be had anyway, only its own.
    """
    open_to_it = [_entries(each) for each in facts.alive if hindrance(each, facts) in IN_THE_QUEUE]
    own = {bool(entry.get("coroutine")) for entries in open_to_it for entry in entries
           if entry["handler"] == facts.handler}  # fmt: skip
    names = {entry["handler"] for entries in open_to_it for entry in entries
             if _has_room(entry) and bool(entry.get("coroutine")) in own}  # fmt: skip
    return sorted({facts.handler, *(names - {pause.handler for pause in facts.pauses})})


def _say(code: Code, facts: Facts, supervisors: Sequence[Document]) -> Reason:
    states = Counter(str(slot.get("state")) for each in supervisors for slot in parts(each, "slots"))
    caps = {str(entry.get("max_running")) for each in supervisors for entry in _entries(each)
            if entry["handler"] == facts.handler}  # fmt: skip
    text = _TEXTS.get(code, "").format(
        handler=facts.handler,
        hosts=_listed(sorted({str(each.get("host")) for each in supervisors})),
        busy=states[SlotState.BUSY],
        slots=", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none yet",
        cap=" or ".join(sorted(caps)),
    )
    if code is Code.DRAINED:
        return _drained(facts, supervisors)
    if code is Code.LIMITED:
        entry = next(entry for entry in _entries(supervisors[0]) if entry["handler"] == facts.handler)
        return Reason(code, f"of {facts.handler}, {limit_reached(entry, facts.usage, facts.now)}", "status")
    if code is Code.FREE and any(_is_coroutine(facts.handler, each) for each in supervisors):
        text = text.replace("a slot is free on", "there is room in the event loop on")
    if code is Code.NO_WORKERS and any(each.get("workers_from") == "control" for each in supervisors):
        return Reason(code, f"{text}, by a resize", "resize configured")
    if code is Code.UNREGISTERED and len(supervisors) == len(facts.alive):
        text = f"{facts.handler} is registered on no running supervisor{_meant(facts)}"
    return Reason(code, text, _COMMANDS.get(code))


def _drained(facts: Facts, supervisors: Sequence[Document]) -> Reason:
    found = {str(each.get("host")): drain_of(str(each.get("host")), facts.drains) for each in supervisors}
    hosts, drain = _listed(sorted(found)), next(filter(None, found.values()))
    everywhere = drain.host == EVERYWHERE
    text = f"{'every host' if everywhere else hosts} is drained {said_by(drain.by, drain.at, drain.reason, facts.now)}"
    return Reason(Code.DRAINED, text, "undrain" if everywhere else f"undrain --host {drain.host}")


def _meant(facts: Facts) -> str:
    """Name the handler that may have been meant, or those that there are."""
    names = sorted({entry["handler"] for each in facts.alive for entry in _entries(each)})
    close = difflib.get_close_matches(facts.handler, names, 1)
    return f"; was {close[0]} meant?" if close else f"; they have {_listed(names)}"


def _entries(supervisor: Document) -> list[Document]:
    """Return what a heartbeat says of its handlers."""
    return [entry for entry in parts(supervisor, "handlers") if isinstance(entry.get("handler"), str)]


def _is_coroutine(handler: str, supervisor: Document) -> bool:
    return any(entry["handler"] == handler and entry.get("coroutine") for entry in _entries(supervisor))


def _has_room(entry: Document) -> bool:
    cap, running = entry.get("max_running"), entry.get("running")
    reached = isinstance(cap, int) and isinstance(running, int) and running >= cap
    return bool(entry.get("claimed")) and not reached


def _listed(names: Sequence[str]) -> str:
    more = [f"{len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
    return ", ".join([*names[:_MOST_NAMED], *more])
