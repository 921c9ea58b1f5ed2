"""What was measured, as a document to keep and as a table to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.measuring import Bench, Figures, Ratio, spread

Document = dict[str, Any]
OURS, LEDGER = "ours", "ledger"
"""The ledger is the limit of a queue in MongoDB, and none of others."""


def document(bench: Bench, figures: Figures, peers: Sequence[str] = ()) -> Document:
    """Return what is kept of a bench: every value of every round, and what is wanted."""
    wanted: Mapping[str, float] = {each.figure: each.at_most for each in bench.wanted}
    measured = {
        name: {"unit": figures.units[name], "values": [float(f"{value:.5g}") for value in values]}
        | ({"wanted": f"<= {wanted[name]:g}"} if name in wanted else {})
        for name, values in figures.values.items()
    }
    progress = [Ratio(each.replace("before", "ours"), each) for each in figures.values if each.startswith("before")]
    against = [
        each for each in bench.ratios if OURS in (each.over, each.under) and LEDGER not in (each.over, each.under)
    ]
    others = [Ratio(_instead(each.over, peer), _instead(each.under, peer)) for each in against for peer in peers]
    ratios = {
        ratio.name: {"values": [round(value, 4) for value in ratio.of(figures.values)], "wanted": ratio.wanted}
        for ratio in (*bench.ratios, *progress, *others)
        # not all of them take part in every run, and nothing is a multiple of 0
        if ratio.over in figures.values and all(figures.values.get(ratio.under, [0]))
    }
    return {"about": bench.about, "figures": measured, "ratios": ratios}


def _instead(side: str, name: str) -> str:
    """Return the same side of a ratio for another contender."""
    return name if side == OURS else side


def table(benches: Mapping[str, Document]) -> str:
    """Return the table: for each bench its figures and ratios, as median (least to most)."""
    wide = 2 + max(len(row[0]) for bench in benches.values() for row in rows(bench))
    lines = [f"{'bench':<12}{'figure':<{wide}}{'median':>16}  {'least to most':<22}{'wanted':<10}"]
    for name, bench in benches.items():
        lines.append("-" * len(lines[0]))
        for number, (figure, unit, values, wanted) in enumerate(rows(bench)):
            median, span = shown(unit, values)
            measured = f"{median} {unit}".rstrip()
            missed = " missed" if wanted and not holds(wanted, spread(values)[0]) else ""
            first = "" if number else name
            lines.append(f"{first:<12}{figure:<{wide}}{measured:>16}  {span:<22}{wanted:<7}{missed}".rstrip())
    return "\n".join(lines)


def rows(bench: Mapping[str, Any]) -> Iterator[tuple[str, str, list[float], str]]:
    """Return the name, unit, values and what is wanted of every figure and ratio of a bench."""
    for name, figure in bench["figures"].items():
        yield name, figure["unit"], figure["values"], figure.get("wanted", "")
    for name, ratio in bench["ratios"].items():
        yield name, "", ratio["values"], ratio["wanted"]


def shown(unit: str, values: Sequence[float]) -> tuple[str, str]:
    """Return the median and the spread as people read them; no spread of a single value."""
    median, least, most = (f"{value:,.{_digits(unit, value)}f}" for value in spread(values))
    return median, f"{least} to {most}" if len(values) > 1 else ""


def holds(wanted: str, value: float) -> bool:
    """Tell whether a value is as wanted: `>= 0.8` or `<= 5`."""
    relation, limit = wanted.split()
    return value >= float(limit) if relation == ">=" else value <= float(limit)


def _digits(unit: str, value: float) -> int:
    """Return how many digits after the point say something."""
    if not unit:
        return 3
    return 0 if value >= 100 else 1 if value >= 10 else 2
