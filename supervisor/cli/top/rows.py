"""The rows of the screen, from a look: supervisors, the queue by handler, and what the slots run. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supervisor.cli.parsing import PROGRAM
from supervisor.cli.printing import clean
from supervisor.cli.top.look import Look
from supervisor.client.backlog import Backlog
from supervisor.client.documents import id_text, is_alive
from supervisor.core.durations import duration, seconds_between
from supervisor.core.pieces import part, parts
from supervisor.core.slots import SlotState
from supervisor.store.controls import EVERY

Document = Mapping[str, Any]

ALARM, ODD, QUIET = "bold red", "yellow", "dim"
_ENDED_WELL = ("completed", "interrupted", "cancelled")


@dataclass(frozen=True)
class Column:
    """A title, whether cells stand on the right, the width of a screen from which on it is shown, and its own.

    With a least width of its own it does not move when a figure gets longer.
    """

    title: str
    right: bool = False
    from_width: int = 0
    least: int = 0


@dataclass(frozen=True)
class Row:
    """A line, and what the keys act on when it is selected."""

    key: tuple[str, ...]
    """Stays the same from look to look."""
    cells: Sequence[str]
    style: str = ""
    handler: str | None = None
    host: str | None = None
    workers: int | None = None
    """The wanted number on `host`."""
    job: Document | None = None
    """`{_id, status, lease}` of the running job."""


@dataclass(frozen=True)
class Section:
    """A table; `flexible` is the column that gives way when the screen is narrow, `empty` what stands for no rows."""

    columns: Sequence[Column]
    flexible: int
    rows: Sequence[Row]
    empty: str


SUPERVISORS = (
    Column("SUPERVISORS"), Column("phase"), Column("workers", right=True), Column("busy", right=True),
    Column("load", right=True), Column("mem free", right=True, from_width=90),
    Column("ended/min", right=True), Column("heartbeat", right=True),
)  # fmt: skip
HANDLERS = (
    Column("HANDLERS"), Column("pending", right=True), Column("later", right=True, from_width=90),
    Column("running", right=True), Column("failed", right=True), Column("oldest", right=True),
    Column("per min", right=True), Column("bad", right=True, from_width=90),
    Column("wait/max", right=True, least=11), Column("run/max", right=True, from_width=90, least=11),
)  # fmt: skip
SLOTS = (
    Column("SLOTS"), Column("handler"), Column("job"), Column("try", right=True, from_width=90),
    Column("for", right=True, least=5), Column("cpu", right=True, least=4), Column("memory", right=True, least=7),
    Column("progress", from_width=90),
)  # fmt: skip


def sections(look: Look) -> list[Section]:
    """Return the three tables of the screen."""
    return [
        Section(
            SUPERVISORS,
            0,
            [_supervisor(look, each) for each in look.supervisors],
            f"none is running; to start one: {PROGRAM}",
        ),
        Section(HANDLERS, 0, list(_handlers(look)), "nothing waits, runs or has failed"),
        Section(SLOTS, 1, list(_slots(look)), "none"),
    ]


def summary(look: Look) -> str:
    """Say in a line how much there is to do and who does it."""
    slots = [slot for each in look.alive for slot in parts(each, "slots")]
    busy = sum(slot.get("state") == SlotState.BUSY for slot in slots)
    pending = "too many to count" if look.backlogs is None else sum(each.due for each in look.backlogs.values())
    number = len(look.alive)
    alive = "no supervisor" if not number else "1 supervisor" if number == 1 else f"{number} supervisors"
    return f"{alive}, {busy} of {len(slots)} slots busy, {pending} pending"


def _supervisor(look: Look, each: Document) -> Row:
    alive, machine, slots = is_alive(each), part(each, "machine"), parts(each, "slots")
    busy, workers = sum(slot.get("state") == SlotState.BUSY for slot in slots), each.get("workers")
    phase = "drained" if each.get("drained") else str(each.get("phase"))
    style = ALARM if not alive else ODD if phase != "running" or not workers else ""
    free = machine.get("memory_available_mb")
    ended = sum(_ended(entry) for entry in _recent(each, 1))
    cells = (
        _name(look, each),
        phase if alive else "gone?",
        f"{workers}",
        f"{busy}",
        f"{_number(machine.get('load_1m')):.1f}/{machine.get('cores')}" if machine else "",
        f"{free / 1024:.1f} GB" if isinstance(free, int) else "",
        f"{ended}",
        duration(each.get("heartbeat_age_s")),
    )
    wanted = workers if isinstance(workers, int) else None
    return Row(("supervisor", str(each.get("_id"))), tuple(map(clean, cells)), style,
               host=str(each.get("host")), workers=wanted)  # fmt: skip


def _handlers(look: Look) -> Iterator[Row]:
    """Yield a row for each handler that there is something to say about."""
    recent = {entry["handler"] for each in look.alive for entry in parts(each, "recent") if _is_named(entry)}
    paused = {pause.handler for pause in look.pauses}
    backlogs = look.backlogs or {}
    for handler in sorted({*backlogs, *recent, *(paused - {EVERY})}):
        backlog = backlogs.get(handler, Backlog(handler))
        if backlog != Backlog(handler) or handler in recent or handler in paused:
            yield _handler(look, backlog, is_paused=bool({handler, EVERY} & paused))


def _handler(look: Look, backlog: Backlog, *, is_paused: bool) -> Row:
    minute, five = (_merged(look, backlog.handler, minutes) for minutes in (1, 5))
    counted = look.backlogs is not None
    cells = (
        f"{backlog.handler} (paused)" if is_paused else backlog.handler,
        f"{backlog.due}" if counted else "many",
        f"{backlog.later}" if backlog.later else "",
        f"{backlog.running}" if counted else "",
        f"{backlog.failed}" if counted else "",
        duration(seconds_between(backlog.oldest, look.now)),
        f"{minute['per_min']:.0f}/{five['per_min']:.0f}",
        f"{five['bad']}" if five["bad"] else "",
        _mean_and_max(minute, five, "wait_s"),
        _mean_and_max(minute, five, "run_s"),
    )
    style = ODD if is_paused else ALARM if five["bad"] > five["ended"] / 2 else ""
    return Row(("handler", backlog.handler), tuple(map(clean, cells)), style, handler=backlog.handler)


def _slots(look: Look) -> Iterator[Row]:
    """Yield a row for each slot, and for each job that runs as a coroutine in the supervisor's event loop."""
    for each in look.alive:
        yield from (_slot(look, each, slot, "slot") for slot in parts(each, "slots"))
        yield from (_slot(look, each, job, "loop") for job in parts(each, "coroutines"))


def _slot(look: Look, supervisor: Document, slot: Document, kind: str) -> Row:
    job_id, state, rss, cpu = (slot.get(name) for name in ("job_id", "state", "rss_mb", "cpu"))
    job = look.jobs.get(id_text(job_id), {}) if job_id is not None else {}
    host, workers = str(supervisor.get("host")), supervisor.get("workers")
    is_busy, place = job_id is not None, f"{kind} {slot.get('slot')}".replace("-", "")
    cells = (
        place if len(look.alive) == 1 else f"{_name(look, supervisor)} {place.removeprefix('slot ')}",
        str(slot.get("handler")) if is_busy else f"({state})",
        id_text(job_id) if is_busy else "",
        f"{job.get('attempt', '')}",
        duration(seconds_between(slot.get("since"), look.now)),
        f"{cpu:.0f}%" if isinstance(cpu, (int, float)) else "",
        f"{rss:.0f} MB" if isinstance(rss, (int, float)) else "",
        _progress(part(job, "progress")),
    )
    style = ALARM if state == SlotState.BACKOFF else "" if is_busy else QUIET
    known = {"_id": job_id, **job} if is_busy else None
    key = ("slot", str(supervisor.get("_id")), place)
    wanted = workers if isinstance(workers, int) else None
    handler = str(slot.get("handler")) if is_busy else None
    return Row(key, tuple(map(clean, cells)), style, handler=handler, host=host, workers=wanted, job=known)


def _name(look: Look, supervisor: Document) -> str:
    """Return the host, and the process id where there are several supervisors on it."""
    host = supervisor.get("host")
    is_alone = sum(each.get("host") == host for each in look.supervisors) == 1
    return f"{host}" if is_alone else f"{host}/{supervisor.get('pid')}"


def _progress(progress: Document) -> str:
    done, total, message = (progress.get(name) for name in ("done", "total", "message"))
    steps = "" if done is None else f"{done}/{total}" if total is not None else f"{done}"
    return " ".join(filter(None, [steps, str(message or "")]))


def _recent(supervisor: Document, minutes: int) -> list[Document]:
    return [entry for entry in parts(supervisor, "recent") if entry.get("minutes") == minutes and _is_named(entry)]


def _is_named(entry: Document) -> bool:
    return isinstance(entry.get("handler"), str)


def _merged(look: Look, handler: str, minutes: int) -> dict[str, Any]:
    """Add up what the supervisors tell of a handler: numbers, and means weighted by them.

    The rate is over the time that they have lived, where that is shorter.
    """
    entries = [entry for each in look.alive for entry in _recent(each, minutes) if entry["handler"] == handler]
    ended = sum(map(_ended, entries))
    lived_min = max((_minutes_lived(look, each) for each in look.alive), default=0.0)
    merged: dict[str, Any] = {"ended": ended, "bad": ended - sum(map(_ended_well, entries))}
    merged["per_min"] = ended / max(1, min(minutes, lived_min))
    for name in ("wait_s", "run_s"):
        values = [(part(entry, name), _ended(entry)) for entry in entries]
        merged[name] = sum(_number(value.get("mean")) * count for value, count in values) / ended if ended else None
        merged[f"{name} max"] = max((_number(value.get("max")) for value, _ in values), default=None)
    return merged


def _minutes_lived(look: Look, supervisor: Document) -> float:
    return (seconds_between(supervisor.get("started_at"), look.now) or 0.0) / 60


def _mean_and_max(minute: Document, five: Document, name: str) -> str:
    """Say the figures of the last minute; of the last five where nothing ended in it."""
    shown = minute if minute["ended"] else five
    return "/".join(filter(None, [duration(shown[name]), duration(shown[f"{name} max"])]))


def _ended(entry: Document) -> int:
    return sum(count for count in part(entry, "ended").values() if isinstance(count, int))


def _ended_well(entry: Document) -> int:
    counts = [part(entry, "ended").get(outcome) for outcome in _ENDED_WELL]
    return sum(count for count in counts if isinstance(count, int))


def _number(value: Any) -> float:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0
