"""What the supervisor costs a page of OCR: the same code through it and in a plain process pool, side by side.

    python -m bench.ocr_overhead [--pages 12] [--rounds 3]

Prints the wall time of each and their ratio, per round and as medians. Both have two workers with warm engines and
read the same page; jobs are inserted beforehand, as they would be at night.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pymongo import MongoClient

from supervisor.context import JobContext
from supervisor.embedded.mongo import EmbeddedMongo
from supervisor.pool.forkserver import thread_limits

WORKERS = 2
CONFIG = """
[mongo]
uri = "{uri}"
database = "bench"
[pool]
workers = {workers}
[handlers.ocr.settings]
roots = ["{root}"]
[log]
level = "warning"
"""


class NoLink:
    """The plain pool's stand-in for the supervisor: hears of progress and keeps nothing."""

    def report_progress(self, done: float, total: float | None, message: str | None) -> None:
        """Take a report."""


def read_page(path: str) -> int:
    """Run the `ocr` handler's own code on one page; return the number of characters."""
    from handlers.ocr import ocr  # noqa: PLC0415 - in the worker
    from supervisor.registry import REGISTRY  # noqa: PLC0415

    settings = MappingProxyType({"roots": [str(Path(path).parent)]})
    link: Any = NoLink()
    job = JobContext(id=0, attempt=1, handler="ocr", token=1, link=link, settings=settings)
    payload = REGISTRY.get("ocr").parse_payload({"source": {"path": path}})
    return int(ocr(payload, job)["chars"])


def plain_pool(pool: ProcessPoolExecutor, path: str, pages: int) -> float:
    """Return the wall seconds of `pages` pages in a plain pool."""
    started = time.perf_counter()
    for future in [pool.submit(read_page, path) for _ in range(pages)]:
        assert future.result() > 0
    return time.perf_counter() - started


def through_the_supervisor(jobs: Any, path: str, pages: int) -> float:
    """Return the wall seconds from the insertion of `pages` jobs to the end of the last."""
    documents = [{"handler": "ocr", "status": "pending", "payload": {"source": {"path": path}}} for _ in range(pages)]
    ended = [{"$match": {"updateDescription.updatedFields.status": {"$in": ["completed", "failed"]}}}]
    # a change stream costs nothing while it waits; a poll would take CPU from the workers it measures
    with jobs.watch([*ended, {"$project": {"_id": 1}}]) as stream:
        started = time.perf_counter()
        ids = jobs.insert_many(documents).inserted_ids
        for _ in ids:
            stream.next()
        elapsed = time.perf_counter() - started
    failed = jobs.count_documents({"_id": {"$in": ids}, "status": {"$ne": "completed"}})
    assert failed == 0, f"{failed} jobs failed: {jobs.find_one({'_id': {'$in': ids}, 'status': 'failed'})}"
    return elapsed


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    from handlers._ocr.sample import make_sample  # noqa: PLC0415

    os.environ.update(thread_limits(1, os.environ))
    with tempfile.TemporaryDirectory() as folder, EmbeddedMongo(Path(folder) / "mongodb") as mongo:
        page = Path(folder) / "page.png"
        make_sample(page)
        config = Path(folder) / "config.toml"
        config.write_text(CONFIG.format(uri=mongo.uri, workers=WORKERS, root=folder))
        supervisor = subprocess.Popen([sys.executable, "-m", "supervisor", "--config", str(config)])
        context = multiprocessing.get_context("forkserver")
        try:
            with MongoClient[Any](mongo.uri) as client, ProcessPoolExecutor(WORKERS, mp_context=context) as pool:
                measure(pool, client["bench"]["jobs"], str(page), arguments.pages, arguments.rounds)
        finally:
            supervisor.send_signal(signal.SIGTERM)
            supervisor.wait(60)


def measure(pool: ProcessPoolExecutor, jobs: Any, page: str, pages: int, rounds: int) -> None:
    """Run both in turn, `rounds` times after a warm-up, and print each round and the medians."""
    plain_pool(pool, page, WORKERS)
    through_the_supervisor(jobs, page, WORKERS)
    print(f"{pages} pages, {WORKERS} workers; wall seconds")
    print(f"{'round':>8} {'plain pool':>12} {'supervisor':>12} {'ratio':>8}")
    rows = []
    for number in range(1, rounds + 1):
        plain, ours = plain_pool(pool, page, pages), through_the_supervisor(jobs, page, pages)
        rows.append((plain, ours, ours / plain))
        print(f"{number:>8} {plain:>12.2f} {ours:>12.2f} {ours / plain:>8.3f}")
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    print(f"{'median':>8} {medians[0]:>12.2f} {medians[1]:>12.2f} {medians[2]:>8.3f}")


if __name__ == "__main__":
    main()
