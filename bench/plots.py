"""Plots as SVG: one horizontal bar per contender, with a line from the least to the most.

Written by hand: bars are all that is needed, and a plotting library would be larger than everything else here, and
change its output from version to version, which the test that compares the page would see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from bench import report
from bench.measuring import spread

WIDTH, LABEL, ROW, BAR, TOP = 720, 190, 28, 16, 40
VALUE = 130
"""Room to the right of the longest bar, for its figure."""
Document = dict[str, Any]
OURS, OTHERS, LIMIT = "#1f6feb", "#8b949e", "#57ab5a"
COLOURS = {"ours": OURS, "raw": LIMIT, "ledger": LIMIT, "ideal": LIMIT}


def comparable(bench: Mapping[str, Any]) -> Mapping[str, Document]:
    """Return the figures in the unit of the first one: only those can stand beside each other as bars."""
    figures: Mapping[str, Document] = bench["figures"]
    unit = next(iter(figures.values()))["unit"]
    return {name: figure for name, figure in figures.items() if figure["unit"] == unit}


def bench(measured: Document) -> str:
    """Return the plot of a bench."""
    figures = {name: figure["values"] for name, figure in comparable(measured).items()}
    unit = next(iter(measured["figures"].values()))["unit"]
    return bars(f"{measured['about']} ({unit})", figures, unit)


def bars(title: str, figures: Mapping[str, Sequence[float]], unit: str) -> str:
    """Return bars of the medians."""
    most = max(max(values) for values in figures.values()) or 1.0
    scale = (WIDTH - LABEL - VALUE) / most
    height = TOP + ROW * len(figures) + 8
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
            f'font-family="sans-serif" font-size="13" role="img" aria-label="{escape(title)}">'
        ),
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="15" font-weight="bold" fill="#1f2328">{escape(title)}</text>',
    ]
    for number, (name, values) in enumerate(figures.items()):
        lines += _bar(TOP + ROW * number, name, values, unit, scale)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _bar(y: int, name: str, values: Sequence[float], unit: str, scale: float) -> list[str]:
    median, least, most = spread(values)
    middle, baseline = y + BAR / 2, y + BAR - 3
    colour = COLOURS.get(name.split(maxsplit=1)[0], OTHERS)
    shown, _ = report.shown(unit, values)
    at = LABEL + max(median, most) * scale + 8
    return [
        f'<text x="{LABEL - 8}" y="{baseline}" text-anchor="end" fill="#1f2328">{escape(name)}</text>',
        f'<rect x="{LABEL}" y="{y}" width="{max(1.0, median * scale):.1f}" height="{BAR}" fill="{colour}"/>',
        (
            f'<line x1="{LABEL + least * scale:.1f}" x2="{LABEL + most * scale:.1f}" y1="{middle:g}" y2="{middle:g}" '
            'stroke="#1f2328"/>'
        ),
        f'<text x="{at:.1f}" y="{baseline}" fill="#1f2328">{escape(f"{shown} {unit}")}</text>',
    ]
