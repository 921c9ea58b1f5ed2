"""When a job's progress is written: real time, and a write that takes a moment."""

import asyncio
import time

import pytest

from supervisor.progress import EVERY_S, SOON_S, ProgressWriter
from tests.support.until import until_async


class Writes:
    """Takes reports, and remembers those whose write has come to its end."""

    def __init__(self, takes_s=0.0):
        self.takes_s = takes_s
        self.begun, self.done = [], []

    async def write(self, report):
        self.begun.append(report["done"])
        await asyncio.sleep(self.takes_s)
        self.done.append(report["done"])


async def test_a_report_that_comes_with_the_end_is_left_to_the_record():
    writes = Writes()
    progress = ProgressWriter(writes.write)
    progress.take({"done": 1, "total": 1})
    assert await progress.close() == {"done": 1, "total": 1, "message": None}
    await asyncio.sleep(2 * SOON_S)
    assert writes.begun == []


async def test_of_many_reports_the_newest_is_written_now_and_then():
    writes = Writes()
    progress = ProgressWriter(writes.write)
    begun = time.monotonic()
    for done in range(60):
        progress.take({"done": done})
        await asyncio.sleep(EVERY_S / 25)
    await until_async(lambda: 59 in writes.done)
    assert len(writes.done) <= 1 + (time.monotonic() - begun) / EVERY_S
    assert writes.done == sorted(writes.done)
    await progress.close()


async def test_a_report_is_written_once():
    writes = Writes()
    progress = ProgressWriter(writes.write)
    progress.take({"done": 1})
    await asyncio.sleep(SOON_S + 2.5 * EVERY_S)
    assert writes.done == [1]
    progress.take({"done": 2})
    await until_async(lambda: writes.done == [1, 2])
    await progress.close()


async def test_a_write_that_is_under_way_comes_to_its_end_and_is_the_last():
    writes = Writes(takes_s=0.2)
    progress = ProgressWriter(writes.write)
    progress.take({"done": 1})
    await until_async(lambda: writes.begun)
    progress.take({"done": 2})
    await progress.close()
    assert writes.done == [1]
    await asyncio.sleep(EVERY_S + 0.2)
    assert writes.begun == [1]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({}, {"done": None, "total": None, "message": None}),
        ({"done": "many", "total": [2], "message": 7}, {"done": None, "total": None, "message": "7"}),
        ({"done": 1.5, "total": 2, "message": "x" * 600}, {"done": 1.5, "total": 2, "message": "x" * 500}),
    ],
)
async def test_whatever_a_worker_has_said_can_be_stored(said, kept):
    progress = ProgressWriter(Writes().write)
    progress.take(said)
    assert await progress.close() == kept
