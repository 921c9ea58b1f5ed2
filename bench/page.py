"""The page of figures and plots, made from the kept results: `python -m bench.page` writes it, a test compares it.

The words stand in `performance.md` beside this file, with a marker where each table and plot goes.
"""

from __future__ import annotations

import json
import statistics
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench import plots, report

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "measured.json"
CHANGES = HERE / "changes.toml"
WORDS = HERE / "performance.md"
PAGES = HERE.parent / "docs" / "explanation"
PAGE = PAGES / "performance.md"
Document = dict[str, Any]


def main() -> None:
    """Write the page and its plots."""
    for path, text in made().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


def made() -> dict[Path, str]:
    """Return every file of the page, with its text."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    changes = tomllib.loads(CHANGES.read_text(encoding="utf-8")).get("change", [])
    drawn = {PAGES / "performance" / f"{name}.svg": plots.bench(results["benches"][name]) for name in _plotted(results)}
    text = WORDS.read_text(encoding="utf-8")
    parts = {
        "machine": _machine(results["machine"]),
        "figures": "\n".join(_figures(results["benches"])),
        "runs": "\n".join(_runs(results["benches"])),
        "plots": "\n\n".join(_plot(name, results["benches"][name]) for name in _plotted(results)),
        "changes": "\n".join(_changes(changes)),
    }
    for name, part in parts.items():
        text = text.replace("{{" + name + "}}", part)
    return {PAGE: text, **drawn}


def _plotted(results: Document) -> list[str]:
    return [name for name, bench in results["benches"].items() if plots.comparable(bench)]


def _machine(machine: Mapping[str, Any]) -> str:
    return (
        f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gb']:g} GB, {machine['kernel']}, "
        f"Python {machine['python']}, MongoDB {machine['mongodb']}, pymongo {machine['pymongo']}."
    )


def _figures(benches: Mapping[str, Document]) -> Iterator[str]:
    yield "| bench | figure | median | least to most | wanted | met |"
    yield "|---|---|---|---|---|---|"
    for name, bench in benches.items():
        for figure, unit, values, wanted in report.rows(bench):
            median, span = report.shown(unit, values)
            met = "" if not wanted else "yes" if report.holds(wanted, statistics.median(values)) else "**no**"
            yield f"| {name} | {figure} | {median} {unit} | {span} | {wanted} | {met} |".replace("  ", " ")


def _runs(benches: Mapping[str, Document]) -> Iterator[str]:
    yield "| bench | about | date | revision | load average before and after |"
    yield "|---|---|---|---|---|"
    for name, bench in benches.items():
        begun, ended = bench["load_average"]
        yield f"| {name} | {bench['about']} | {bench['date']} | {bench['revision']} | {begun:g}, {ended:g} |"


def _plot(name: str, bench: Document) -> str:
    return f"![{bench['about']}](performance/{name}.svg)"


def _changes(changes: list[Document]) -> Iterator[str]:
    yield "| change | figure | before | after | kept | |"
    yield "|---|---|---|---|---|---|"
    for change in changes:
        kept = "yes" if change["kept"] else "no"
        columns = (change["what"], change["figure"], change["before"], change["after"], kept, change.get("note", ""))
        yield "| " + " | ".join(str(column) for column in columns) + " |"


if __name__ == "__main__":
    main()
