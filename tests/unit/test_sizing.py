"""Who spoke last about the number of workers: file, resize or signal."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from supervisor.config.cores import usable_cores
from supervisor.config.settings import Settings
from supervisor.core.fleet import CONFIG, Resize
from supervisor.live import Live
from supervisor.pool.forkserver import ForkServer
from supervisor.pool.limits import PoolLimits
from supervisor.pool.pool import WorkerPool
from supervisor.sizing import Sizing
from tests.support.jobs import half

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SIX, SEVEN = Resize("*", 6, at=NOON), Resize("a", 7, at=NOON + timedelta(hours=1))
NOTE = Resize("a", None, CONFIG, NOON + timedelta(minutes=1))
Step = Callable[[Sizing], object]


def file(workers: int) -> Step:
    return lambda sizing: sizing.configure(workers, "file", edited=True)


def other_key(workers: int) -> Step:
    return lambda sizing: sizing.configure(workers, "file")


def read(resize: Resize | None) -> Step:
    return lambda sizing: sizing.heed(resize)


def step(by: int) -> Step:
    return lambda sizing: sizing.step(by)


def sized(*steps: Step) -> tuple[int, str]:
    """What is wanted after `steps` of a supervisor that is configured to 4, and where that comes from."""
    live = Live(Settings(), {})
    pool = WorkerPool(ForkServer(Path()), PoolLimits(), half)
    sizing = Sizing(live, pool, lambda: None)
    sizing.configure(4, "environment")
    for each in steps:
        each(sizing)
    return pool.desired, live.workers_from


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        ([], (0, "default")),
        ([read(None)], (4, "environment")),
        ([read(SIX)], (6, "control")),
        ([read(Resize("*", None, at=NOON))], (4, "environment")),
        ([read(SIX), read(None)], (4, "environment")),
        ([read(SIX), read(SEVEN)], (7, "control")),
        ([read(SIX), other_key(4)], (6, "control")),
        ([read(SIX), file(3)], (3, "file")),
        ([read(SIX), file(3), read(SIX)], (3, "file")),
        ([read(SIX), file(3), read(NOTE), read(NOTE)], (3, "file")),
        ([read(SIX), file(3), read(NOTE), read(SIX)], (6, "control")),
        ([read(SIX), file(3), read(SEVEN)], (7, "control")),
        ([file(3), read(SIX)], (3, "file")),
        ([file(3), read(None), read(SIX)], (6, "control")),
        ([read(None), file(3), read(SIX)], (6, "control")),
        ([read(None), step(1)], (5, "signal")),
        ([read(None), step(-9), step(1)], (1, "signal")),
        ([step(1), read(None)], (5, "signal")),
        ([read(SIX), step(1), read(SIX), other_key(4)], (7, "signal")),
        ([read(SIX), step(1), read(SEVEN)], (7, "control")),
        ([read(SIX), step(1), file(3)], (3, "file")),
        ([read(SIX), file(3), step(1), read(NOTE)], (4, "signal")),
        ([read(SIX), step(1), read(None)], (4, "environment")),
    ],
)  # fmt: skip
def test_the_last_word_holds(steps, wanted):
    assert sized(*steps) == wanted


def test_auto_is_the_usable_cores():
    assert sized(read(Resize("*", "auto", at=NOON))) == (usable_cores(), "control")


def test_an_overruled_resize_is_to_be_noted_until_it_is():
    live, pool = Live(Settings(), {}), WorkerPool(ForkServer(Path()), PoolLimits(), half)
    sizing = Sizing(live, pool, lambda: None)
    sizing.configure(4, "file")
    assert not sizing.heed(SIX)
    sizing.configure(3, "file", edited=True)
    assert sizing.heed(SIX)
    assert sizing.heed(SIX), "the note could not be written"
    assert not sizing.heed(NOTE)
    sizing.configure(2, "file", edited=True)
    assert not sizing.heed(NOTE), "nothing is overruled"


def test_only_what_changes_something_is_told(tmp_path: Path) -> None:
    live, told = Live(Settings(), {}), []
    sizing = Sizing(live, WorkerPool(ForkServer(tmp_path), PoolLimits(), half), lambda: told.append(live.workers_from))
    for each in (other_key(4), read(None), read(None), read(SIX), read(SIX), step(0), step(0)):
        each(sizing)
    assert told == ["file", "control", "signal"]
