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
BEFORE = HERE / "results" / "before.json"
"""The same before any of the changes that are about speed."""
CHANGES = HERE / "changes.toml"
WORDS = HERE / "performance.md"
PAGES = HERE.parent / "docs" / "explanation"
PAGE = PAGES / "performance.md"
Document = dict[str, Any]
EMPTY: Document = {"figures": {}, "ratios": {}}
ALSO = {"ours / ledger"}
"""What is shown of before and now although nothing is wanted of it."""


def main() -> None:
    """Write the page and its plots."""
    for path, text in made().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


def made() -> dict[Path, str]:
    """Return every file of the page, with its text."""
    results, before = (json.loads(path.read_text(encoding="utf-8")) for path in (RESULTS, BEFORE))
    changes = tomllib.loads(CHANGES.read_text(encoding="utf-8")).get("change", [])
    drawn = {PAGES / "performance" / f"{name}.svg": plots.bench(results["benches"][name]) for name in _plotted(results)}
    text = WORDS.read_text(encoding="utf-8")
    parts = {
        "machine": _machine(results["machine"]),
        "figures": "\n".join(_figures(results["benches"])),
        "runs": "\n".join(_runs(results["benches"])),
        "plots": "\n\n".join(_plot(name, results["benches"][name]) for name in _plotted(results)),
        "progress": "\n".join(_progress(before["benches"], results["benches"])),
        "changes": "\n".join(_changes(changes)),
    }
    for name, part in parts.items():
        text = text.replace("{{" + name + "}}", part)
    return {PAGE: text, **drawn}


def _plotted(results: Document) -> list[str]:
    return [name for name, bench in results["benches"].items() if len(plots.comparable(bench)) > 1]


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
    yield "| bench | about | rounds | date | revision | load average before and after | |"
    yield "|---|---|---|---|---|---|---|"
    for name, bench in benches.items():
        load = " and ".join(f"{average:g}" for average in bench["load_average"])
        rounds = f"{max(len(figure['values']) for figure in bench['figures'].values())}{', quick' * bench['quick']}"
        columns = (name, bench["about"], rounds, bench["date"], bench["revision"], load, bench["note"])
        yield "| " + " | ".join(columns) + " |"


def _plot(name: str, bench: Document) -> str:
    return f"![{bench['about']}](performance/{name}.svg)"


def _progress(before: Mapping[str, Document], now: Mapping[str, Document]) -> Iterator[str]:
    """Return what is wanted, then and now."""
    yield "| bench | figure | wanted | before | now |"
    yield "|---|---|---|---|---|"
    for name, bench in now.items():
        then = {figure: (unit, values) for figure, unit, values, _ in report.rows(before.get(name, EMPTY))}
        for figure, unit, values, wanted in report.rows(bench):
            if (wanted or figure in ALSO) and figure in then:
                medians = " | ".join(
                    f"{report.shown(*each)[0]} {unit}".strip() for each in (then[figure], (unit, values))
                )
                yield f"| {name} | {figure} | {wanted} | {medians} |".replace("  ", " ")


def _changes(changes: list[Document]) -> Iterator[str]:
    yield "| change | figure | before | after | kept | |"
    yield "|---|---|---|---|---|---|"
    for change in changes:
        kept = "yes" if change["kept"] else "no"
        columns = (change["what"], change["figure"], change["before"], change["after"], kept, change.get("note", ""))
        yield "| " + " | ".join(str(column) for column in columns) + " |"


if __name__ == "__main__":
    main()
