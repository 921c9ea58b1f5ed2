"""What the keys do: from a state and a key to the next state, and what is to be done in the database. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from supervisor.cli.top.rows import Row
from supervisor.client.documents import id_text
from supervisor.core.fleet import MOST_WORKERS

UP, DOWN, PAGE_UP, PAGE_DOWN, TAB, ESCAPE, ENTER = "up", "down", "page up", "page down", "tab", "escape", "enter"
KEYS = "arrows select   p pause   c cancel   s stack   + - workers   ? help   q quit"
HELP = """\
arrows, j, k     select a supervisor, a handler or a slot
tab              go to the next table
p                pause the selected handler, or the one that the selected slot runs; resume a paused one
c                cancel the job of the selected slot, after y
s                Python stack of the job of the selected slot, which goes on meanwhile
+, -             one worker more or fewer on the host of the selected supervisor or slot
?                this page
q                quit; close a page, as escape does

per min          attempts that ended per minute: in the last one, and on average over five
bad              attempts of the last five minutes that did not end well
wait/max         how long jobs had been due when they were claimed: on average, and the longest
run/max          how long they ran: on average, and the longest
cpu              per cent of one core, subprocesses included
memory           of the worker itself

Figures come from heartbeats, every two seconds. What a key has changed shows with the next ones.""".splitlines()
_FAR = 10


class Verb(StrEnum):
    """What is asked for with a key."""

    PAUSE = "pause"
    """Or resume, where it is paused."""
    CANCEL = "cancel"
    RESIZE = "resize"
    STACK = "stack"


@dataclass(frozen=True)
class Action:
    """Something to be done in the database, to a handler, to a job (`{_id, …}`), or to `host`: that many `workers`."""

    verb: Verb
    handler: str = ""
    job: Mapping[str, Any] = field(default_factory=dict)
    host: str = ""
    workers: int = 0


@dataclass(frozen=True)
class Page:
    """A text in place of the tables; `first` is the line at its top."""

    title: str
    lines: Sequence[str]
    first: int = 0


@dataclass(frozen=True)
class State:
    """Where the user is."""

    selected: tuple[str, ...] = ()
    """The key of a row; of one that is gone or of none, the first row counts."""
    message: str = ""
    asks: Action | None = None
    """Done if the next key is y."""
    page: Page | None = None
    wanted: Mapping[str, int] = field(default_factory=dict)
    """Workers that were asked for, by host, until a heartbeat has them."""
    is_over: bool = False


def press(state: State, key: str, rows: Sequence[Row]) -> tuple[State, Action | None]:
    """Return what a key makes of the state, and what is to be done; `rows` are those of all tables, in order."""
    if state.page is not None:
        return _in_page(state, state.page, key), None
    if state.asks is not None:
        answered = replace(state, asks=None, message="" if key == "y" else "nothing was cancelled")
        return answered, state.asks if key == "y" else None
    state = replace(state, message="")
    if key == "q":
        return replace(state, is_over=True), None
    if key == "?":
        return replace(state, page=Page("Help", HELP)), None
    row = rows[selected_index(state, rows)] if rows else None
    if row is None or key in _MOVES:
        return (state if row is None else _move(state, _MOVES[key], rows)), None
    return _act(state, key, row)


def seen(state: State, rows: Sequence[Row]) -> State:
    """Return the state after a new look: workers that a heartbeat has are no longer on their way."""
    there = {row.host: row.workers for row in rows if row.host is not None}
    return replace(state, wanted={host: n for host, n in state.wanted.items() if there.get(host) != n})


def selected_index(state: State, rows: Sequence[Row]) -> int:
    """Return which row is selected."""
    return next((index for index, row in enumerate(rows) if row.key == state.selected), 0)


_MOVES = {UP: -1, "k": -1, DOWN: 1, "j": 1, PAGE_UP: -_FAR, PAGE_DOWN: _FAR, TAB: 0}


def _move(state: State, step: int, rows: Sequence[Row]) -> State:
    index = selected_index(state, rows)
    if step:
        index = max(0, min(len(rows) - 1, index + step))
    else:  # to the first row of another table, which rows are sorted by
        tables = [row.key[0] for row in rows]
        index = next((other for other in range(index, len(rows)) if tables[other] != tables[index]), 0)
    return replace(state, selected=rows[index].key)


def _act(state: State, key: str, row: Row) -> tuple[State, Action | None]:
    match key:
        case "p" if row.handler is not None:
            return state, Action(Verb.PAUSE, row.handler)
        case "c" if row.job is not None:
            cancel = Action(Verb.CANCEL, row.handler or "", row.job)
            asked = f"cancel {row.handler} {id_text(row.job['_id'])}? y/n"
            return replace(state, asks=cancel, message=asked), None
        case "s" if row.job is not None:
            return replace(state, message="asking for the stack …"), Action(Verb.STACK, row.handler or "", row.job)
        case "+" | "-" if row.host is not None and row.workers is not None:
            step = 1 if key == "+" else -1
            workers = min(MOST_WORKERS, max(0, state.wanted.get(row.host, row.workers) + step))
            wanted = {**state.wanted, row.host: workers}
            return replace(state, wanted=wanted), Action(Verb.RESIZE, host=row.host, workers=workers)
    return replace(state, message=_NEEDS.get(key, "")), None


_NEEDS = {
    "p": "select a handler, or a slot that runs a job",
    "c": "select a slot that runs a job",
    "s": "select a slot that runs a job",
    "+": "select a supervisor or a slot",
    "-": "select a supervisor or a slot",
}


def _in_page(state: State, page: Page, key: str) -> State:
    if key in _MOVES and key != TAB:
        first = max(0, min(len(page.lines) - 1, page.first + _MOVES[key]))
        return replace(state, page=replace(page, first=first))
    return replace(state, page=None) if key in ("q", "?", ESCAPE, ENTER) else state
