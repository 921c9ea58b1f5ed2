"""A call to the database as a value, so that what a queue does is written once and carried out with or without `await`.

An operation is a generator: it yields calls, is sent their answers (or thrown their errors) and returns its result.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.database import Database
from pymongo.errors import BulkWriteError, PyMongoError

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


@dataclass(frozen=True)
class InTurn:
    """Calls of which the next is taken, and sent, while the one before is under way.

    The answer is a list of what came of each, which may be an error. After one that is no BulkWriteError no more are
    made.
    """

    calls: Iterator[Call]
    under_way: int
    """How many at a time."""


@dataclass(frozen=True)
class Breath:
    """Nothing to ask, in the middle of much work: an event loop has others who wait for their turn."""


Wanted = Call | InTurn | Sleep | Seen | Breath
Steps = Generator[Wanted, Any, Answer]
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
        self.wanted: Wanted | None = None
        self.result: Any = None
        self._go_on(lambda: next(steps))

    def answer(self, value: Any = None) -> None:
        """Hand in the answer to what was wanted, and find out what is wanted next (None: it is done)."""
        self._go_on(lambda: self._steps.send(value))

    def fail(self, error: PyMongoError) -> None:
        """Hand in that the call failed."""
        self._go_on(lambda: self._steps.throw(error))

    def _go_on(self, step: Callable[[], Wanted]) -> None:
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
            case Breath():
                carrier.answer()
            case InTurn():
                carrier.answer(_make_in_turn(database, wanted))
            case Call():
                try:
                    answer = _make(database, wanted)
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
        assert isinstance(wanted, Call | InTurn | Breath), "only a wait pauses"
        await answer_async(database, carrier, wanted)
    result: Answer = carrier.result
    return result


async def answer_async(database: AsyncDatabase[Document], carrier: Carrier, wanted: Call | InTurn | Breath) -> None:
    """Make one call, or several at the same time, and hand in what came of it."""
    if isinstance(wanted, Breath):
        await asyncio.sleep(0)
        carrier.answer()
        return
    if isinstance(wanted, InTurn):
        carrier.answer(await _make_in_turn_async(database, wanted))
        return
    answer = await _make_or_fail_async(database, wanted)
    if isinstance(answer, PyMongoError):
        carrier.fail(answer)
    else:
        carrier.answer(answer)


def _make(database: Database[Document], wanted: Call) -> Any:
    answer = getattr(database[wanted.collection], wanted.method)(*wanted.arguments, **wanted.options)
    return answer.to_list() if wanted.method in _CURSORS else answer


def _make_or_fail(database: Database[Document], wanted: Call) -> Any:
    """Make a call; return its error instead of raising it."""
    try:
        return _make(database, wanted)
    except PyMongoError as error:
        return error


def _make_in_turn(database: Database[Document], wanted: InTurn) -> list[Any]:
    answers: list[Any] = []
    sent: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(wanted.under_way) as threads:
        for each in wanted.calls:
            if len(sent) == wanted.under_way:
                answers.append(sent.popleft().result())
                if _ends_it(answers[-1]):
                    break
            # in a copy of our context: the deadline of `pymongo.timeout` is kept in it
            sent.append(threads.submit(copy_context().run, _make_or_fail, database, each))
        return [*answers, *(each.result() for each in sent)]


async def _make_in_turn_async(database: AsyncDatabase[Document], wanted: InTurn) -> list[Any]:
    answers: list[Any] = []
    sent: deque[asyncio.Task[Any]] = deque()
    try:
        for each in wanted.calls:
            if len(sent) == wanted.under_way:
                answers.append(await sent[0])
                sent.popleft()
                if _ends_it(answers[-1]):
                    break
            sent.append(asyncio.create_task(_make_or_fail_async(database, each)))
            await asyncio.sleep(0)  # it is sent before the next is made
        return [*answers, *[await each for each in sent]]
    finally:
        for task in sent:
            task.cancel()


def _ends_it(answer: Any) -> bool:
    return isinstance(answer, PyMongoError) and not isinstance(answer, BulkWriteError)


async def _make_or_fail_async(database: AsyncDatabase[Document], wanted: Call) -> Any:
    try:
        answer = getattr(database[wanted.collection], wanted.method)(*wanted.arguments, **wanted.options)
        if wanted.method != "find":  # which only makes a cursor
            answer = await answer
        return await answer.to_list() if wanted.method in _CURSORS else answer
    except PyMongoError as error:
        return error
