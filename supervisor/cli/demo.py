"""`demo`: the main job from start to end, on a page of the project's own or on a file of the user's."""

from __future__ import annotations

import contextlib
import signal
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import click
from bson import ObjectId

from supervisor import logs
from supervisor.cli.demo_report import print_entities, print_text, print_warnings, word_accuracy
from supervisor.cli.demo_supervisor import DATABASE, DemoSupervisor, demo_supervisor
from supervisor.cli.enqueue import refuse_unless_completed
from supervisor.cli.parsing import command
from supervisor.cli.progress import Bars
from supervisor.cli.session import WAIT_S, Session, pass_session
from supervisor.client.operator import OperatorQueue
from supervisor.client.queue import EMBEDDED
from supervisor.errors import SupervisorError, UsageError
from supervisor.registry import REGISTRY, import_modules

Document = dict[str, Any]

START_S = 30.0
"""How long the embedded database may take to start; a new one has to make its files first."""
_LOOK_S = 2.0
_FOLLOWER: Document = {"handler": "ner", "payload": {}}


@command("demo", "demo\ndemo scan.pdf")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@pass_session
def demo(session: Session, file: Path | None) -> None:
    """Read a page and find what is in it.

    Starts a private database and a supervisor with two workers, reads the text of FILE (PDF, PNG, JPEG or TIFF; a
    sample page if none is given), finds the entities in it, shows both, and stops what it started. With --mongo or
    --data-dir that database is used, under the name `demo`, and what was made stays there.
    """
    logs.configure("error", "auto")
    failures = import_modules(["handlers"])
    if "ocr" not in REGISTRY.handlers:
        raise SupervisorError("; ".join(["there is no handler 'ocr' here", *(f.reason for f in failures)]))
    with _stopping_cleanly(), _document(file) as (path, known_text):
        _show(session, path, known_text)


@contextlib.contextmanager
def _stopping_cleanly() -> Iterator[None]:
    """Take TERM for a Ctrl-C, so that what was started is stopped."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _document(file: Path | None) -> Iterator[tuple[Path, str | None]]:
    """Return the document to read, and its text if that is known."""
    if file is not None:
        _refuse_unreadable(file)
        yield file, None
        return
    try:
        from handlers._ocr.sample import make_sample  # noqa: PLC0415 - its libraries may be missing
    except ImportError as error:
        raise SupervisorError(f"no sample page ({error}); pip install 'mongo-job-supervisor[ocr]'") from None
    with tempfile.TemporaryDirectory(prefix="supervisor-demo-") as folder:
        path = Path(folder, "sample.png")
        yield path, make_sample(path)


def _refuse_unreadable(file: Path) -> None:
    try:
        if not file.is_file():
            raise UsageError(f"{file}: there is no such file")
        file.open("rb").close()
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from None


def _show(session: Session, path: Path, known_text: str | None) -> None:
    click.echo("Starting a database and a supervisor with 2 workers …" if session.mongo is None
               else "Starting a supervisor with 2 workers …")  # fmt: skip
    with (
        demo_supervisor(session.data_dir, session.mongo) as (supervisor, data_dir),
        OperatorQueue.connect(
            session.mongo or EMBEDDED,
            DATABASE,
            registry=REGISTRY,
            wait_s=WAIT_S if session.mongo else START_S,
            data_dir=data_dir,
        ) as queue,
    ):
        supervisor.wait_until_ready(queue)
        click.echo(f"Reading {'the sample page' if known_text else path}")
        read, found = _work(queue, supervisor, path)
        texts = queue.result(read) or {}
        print_text(texts, read)
        if known_text:
            click.echo(
                f"Of the sample's known words, {word_accuracy(known_text, texts['text']):.1%} were read right.\n"
            )
        refuse_unless_completed(found)
        entities = queue.result(found) or {}
        print_entities(entities)
        print_warnings([*texts.get("warnings", ()), *entities.get("warnings", ())])


def _work(queue: OperatorQueue, supervisor: DemoSupervisor, path: Path) -> tuple[Document, Document]:
    """Upload, read, find; return the two ended jobs. Raises JobFailedError if the first did not complete."""
    file_id = ObjectId()
    queue.upload(path, file_id)
    job_id = queue.enqueue("ocr", {"source": {"file_id": file_id}}, then=[_FOLLOWER], max_attempts=1)
    with Bars.for_a_show() as bars:
        bars.expect("ocr", "waiting")
        bars.expect("ner", "waiting for the text")
        read = _follow(queue, supervisor, job_id, bars)
        refuse_unless_completed(read)
        return read, _follow(queue, supervisor, read["children"][0], bars)


def _follow(queue: OperatorQueue, supervisor: DemoSupervisor, job_id: Any, bars: Bars) -> Document:
    """Show a job's progress until it has ended; a supervisor that ends before it is an error, not a long wait."""

    def show(job: Mapping[str, Any]) -> None:
        bars.show(job)

    while True:
        with contextlib.suppress(TimeoutError):
            ended = queue.wait(job_id, _LOOK_S, show)
            bars.show(ended)
            return ended
        supervisor.check()
