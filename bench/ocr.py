"""Pages of OCR: the `ocr` handler's own code through a supervisor and in a plain pool, on the same page.

Both have two workers with warm engines.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.contenders import WORKERS, OurSupervisor, PlainPool, connected, plain_pool, running
from bench.measuring import Bench, Figures, Ratio, Surroundings, alternating
from supervisor.context import JobContext


class NoLink:
    """The plain pool's stand-in for the supervisor: hears of progress and keeps nothing."""

    def report_progress(self, done: float, total: float | None, message: str | None) -> None:
        """Take a report."""


def ocr(payload: dict[str, Any]) -> int:
    """Run the `ocr` handler's own code on one page; return the number of characters."""
    from handlers.ocr import ocr as read  # noqa: PLC0415 - in the worker
    from supervisor.registry import REGISTRY  # noqa: PLC0415

    settings = MappingProxyType({"roots": [str(Path(payload["source"]["path"]).parent)]})
    link: Any = NoLink()
    job = JobContext(id=0, attempt=1, handler="ocr", token=1, link=link, settings=settings)
    chars = int(read(REGISTRY.get("ocr").parse_payload(payload), job)["chars"])
    assert chars > 0, "nothing was read"
    return chars


def measure(surroundings: Surroundings, rounds: int) -> Figures:
    """Return the wall seconds of both."""
    from handlers._ocr.sample import make_sample  # noqa: PLC0415 - the extra `ocr` is needed from here on

    page = surroundings.folder / "page.png"
    make_sample(page)
    figures, payloads = Figures(), [{"source": {"path": str(page)}}] * (4 if surroundings.quick else 20)
    tables: dict[str, Any] = {
        "pool": {"modules": ["handlers"]},
        "handlers.ocr.settings": {"roots": [str(surroundings.folder)]},
    }
    with (
        plain_pool() as plain,
        running(surroundings, "ocr", **tables),
        connected(surroundings.uri, "ocr") as supervisor,
    ):
        contenders: list[PlainPool | OurSupervisor] = [plain, supervisor]
        for contender in contenders:
            contender.run(ocr, payloads[:WORKERS])
        for number in range(rounds):
            for contender in alternating(contenders, number):
                figures.add(contender.name, contender.run(ocr, payloads), "s")
    return figures


BENCH = Bench(
    "ocr",
    "pages of OCR, wall time",
    measure,
    ratios=(Ratio("raw", "ours", at_least=0.98),),
    rounds=9,  # a round varies by more than what is to be seen
    quick_rounds=1,
)
