"""The loop: keys in, looks in, screens out. Whatever asks the database does so in threads, so that keys never wait."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from queue import Empty, SimpleQueue

from pymongo.errors import PyMongoError
from rich.text import Text

from supervisor.cli.printing import clean, printable
from supervisor.cli.running import ask_about
from supervisor.cli.stacks import of_the_handler
from supervisor.cli.top.look import Look, Lookout
from supervisor.cli.top.rows import Row, Section, sections, summary
from supervisor.cli.top.state import Action, Page, State, Verb, press, seen
from supervisor.cli.top.terminal import Terminal
from supervisor.cli.top.view import Bar, frame
from supervisor.client.documents import id_text
from supervisor.client.operator import OperatorQueue
from supervisor.errors import SupervisorError
from supervisor.store.controls import EVERY, STACK
from supervisor.store.patience import first_line

LOOK_EVERY_S = 1.0
KEYS_EVERY_S = 0.1
News = Look | Page | str | PyMongoError
"""What a thread has to say: a look, a page to show, a message, or why a look failed."""


class Show:
    """Runs until somebody has seen enough."""

    def __init__(self, queue: OperatorQueue, name: str) -> None:
        self._queue = queue
        self._name = name
        self._news: SimpleQueue[News] = SimpleQueue()
        self._look_now = threading.Event()
        self._state = State(message="looking …")
        self._look: Look | None = None
        self._sections: list[Section] = []
        self._silent = ""

    def run(self) -> None:
        """Show what is going on until q or Ctrl-C."""
        self._in_a_thread(self._keep_looking)
        with contextlib.suppress(KeyboardInterrupt), Terminal() as terminal:
            drawn = None
            while not self._state.is_over:
                self._take_news()
                screen = (self._state, self._look, self._silent, terminal.size())
                if screen != drawn:
                    terminal.draw(self._lines(terminal.size()))
                    drawn = screen
                for key in terminal.keys(KEYS_EVERY_S):
                    self._press(key)

    def _lines(self, size: tuple[int, int]) -> list[Text]:
        clock = self._look.now.strftime("%H:%M:%S UTC") if self._look else ""
        title = f"{self._name}: {summary(self._look)}" if self._look else self._name
        return frame(Bar(self._silent or title, clock, is_alarm=bool(self._silent)), self._sections, self._state, size)

    def _rows(self) -> list[Row]:
        return [row for section in self._sections for row in section.rows]

    def _press(self, key: str) -> None:
        self._state, action = press(self._state, key, self._rows())
        if action is not None:
            self._in_a_thread(lambda: self._news.put(perform(self._queue, action)), self._look_now.set)

    def _take_news(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                match self._news.get_nowait():
                    case Look() as look:
                        self._look, self._sections, self._silent = look, sections(look), ""
                        message = "" if self._state.message == "looking …" else self._state.message
                        self._state = replace(seen(self._state, self._rows()), message=message)
                    case Page() as page:
                        self._state = replace(self._state, page=page, message="")
                    case str() as message:
                        self._state = replace(self._state, message=message)
                    case PyMongoError() as error:
                        self._silent = f"the database does not answer: {clean(first_line(error))}"

    def _keep_looking(self) -> None:
        lookout = Lookout(self._queue)
        while True:
            self._look_now.clear()
            try:
                self._news.put(lookout.look())
            except PyMongoError as error:
                self._news.put(error)
            self._look_now.wait(LOOK_EVERY_S)

    @staticmethod
    def _in_a_thread(*steps: Callable[[], object]) -> None:
        """Take steps beside the loop; a thread that hangs does not keep the program from ending."""
        threading.Thread(target=lambda: [step() for step in steps], daemon=True).start()


def perform(queue: OperatorQueue, action: Action) -> Page | str:
    """Do what a key asks for, and return what to show of it."""
    try:
        match action.verb:
            case Verb.PAUSE:
                return _pause_or_resume(queue, action.handler)
            case Verb.CANCEL:
                return f"{id_text(action.job['_id'])}: {_CANCELLED[queue.cancel(action.job['_id'])]}"
            case Verb.RESIZE:
                queue.controls.resize(action.workers, action.host)
                return f"{clean(action.host)} is to keep {action.workers} workers"
            case Verb.STACK:
                return _stack(queue, action)
    except SupervisorError as error:
        return clean(error)
    except PyMongoError as error:
        return f"not done, the database does not answer: {clean(first_line(error))}"


_CANCELLED = {"cancelled": "cancelled", "processing": "its supervisor has been asked to stop it"}


def _pause_or_resume(queue: OperatorQueue, handler: str) -> str:
    paused = {pause.handler for pause in queue.controls.pauses()}
    if handler in paused:
        queue.controls.resume(handler)
        return f"{clean(handler)} is resumed"
    if EVERY in paused:
        return "all handlers are paused; to go on: python -m supervisor resume --all"
    queue.controls.pause(handler, "in top")
    return f"{clean(handler)} is paused; p resumes it"


def _stack(queue: OperatorQueue, action: Action) -> Page:
    job = queue.get(action.job["_id"], small=True)
    found = ask_about(queue, job, STACK).get("stack")
    title = f"Stack of {clean(action.handler)} {clean(id_text(job['_id']))}"
    return Page(title, printable(of_the_handler(found)).strip().splitlines() if found else ["no answer; try again"])
