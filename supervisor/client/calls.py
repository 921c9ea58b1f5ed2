"""A call to the database as a value, so that what a queue does is written once and carried out with or without `await`.

An operation is a generator: it yields calls, is sent their answers (or thrown their errors) and returns its result.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.database import Database
from pymongo.errors import PyMongoError

Answer = TypeVar("Answer")
Document = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """`database[collection].method(*arguments, **options)`; what returns a cursor is read to its end."""

    collection: str
    method: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class Sleep:
    """Nothing to ask for `seconds`, or until something changes."""

    seconds: float


@dataclass(frozen=True)
class Seen:
    """Something that whoever carries the operation out may want to know before its end."""

    document: Document


Steps = Generator[Call | Sleep | Seen, Any, Answer]
_CURSORS = ("find", "aggregate")


def _no_pause(_seconds: float) -> None:
    raise AssertionError("this operation has nothing to wait for")


def _not_told(_document: Document) -> None:
    pass


def call(collection: str, method: str, *arguments: Any, session: Any = None, **options: Any) -> Call:
    """Return a call, in `session` if there is one."""
    return Call(collection, method, arguments, options if session is None else {**options, "session": session})


class Carrier:
    """Carries an operation out step by step; `answer` and `fail` say what came of the last call."""

    def __init__(self, steps: Steps[Any]) -> None:
        self._steps = steps
        self.wanted: Call | Sleep | Seen | None = None
        self.result: Any = None
        self._go_on(lambda: next(steps))

    def answer(self, value: Any = None) -> None:
        """Hand in the answer to what was wanted, and find out what is wanted next (None: it is done)."""
        self._go_on(lambda: self._steps.send(value))

    def fail(self, error: PyMongoError) -> None:
        """Hand in that the call failed."""
        self._go_on(lambda: self._steps.throw(error))

    def _go_on(self, step: Callable[[], Call | Sleep | Seen]) -> None:
        try:
            self.wanted = step()
        except StopIteration as done:
            self.wanted, self.result = None, done.value


def carry_out(
    database: Database[Document],
    steps: Steps[Answer],
    pause: Callable[[float], object] = _no_pause,
    seen: Callable[[Document], object] = _not_told,
) -> Answer:
    """Make the calls of an operation one by one and return its result. Raises what it raises."""
    carrier = Carrier(steps)
    while (wanted := carrier.wanted) is not None:
        match wanted:
            case Sleep():
                carrier.answer(pause(wanted.seconds))
            case Seen():
                carrier.answer(seen(wanted.document))
            case Call():
                try:
                    answer = getattr(database[wanted.collection], wanted.method)(*wanted.arguments, **wanted.options)
                    if wanted.method in _CURSORS:
                        answer = answer.to_list()
                except PyMongoError as error:
                    carrier.fail(error)
                else:
                    carrier.answer(answer)
    result: Answer = carrier.result
    return result


async def carry_out_async(
    database: AsyncDatabase[Document],
    steps: Steps[Answer],
) -> Answer:
    """Do the same without blocking the event loop, for an operation without pauses."""
    carrier = Carrier(steps)
    while (wanted := carrier.wanted) is not None:
        assert isinstance(wanted, Call), "only a wait pauses"
        await answer_async(database, carrier, wanted)
    result: Answer = carrier.result
    return result


async def answer_async(database: AsyncDatabase[Document], carrier: Carrier, wanted: Call) -> None:
    """Make one call and hand in what came of it."""
    try:
        answer = getattr(database[wanted.collection], wanted.method)(*wanted.arguments, **wanted.options)
        if wanted.method != "find":  # which only makes a cursor
            answer = await answer
        if wanted.method in _CURSORS:
            answer = await answer.to_list()
    except PyMongoError as error:
        carrier.fail(error)
    else:
        carrier.answer(answer)
