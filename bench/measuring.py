"""What every bench has in common: its shape, medians and spread, and the order of contenders.

A bench measures its contenders beside each other, round by round, and hands back one value per round for each figure.
A ratio is taken within a round, where both sides saw the same machine, and its median is what counts.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class BenchError(Exception):
    """A bench that cannot measure; the message says why and what to do."""


@dataclass(frozen=True)
class Surroundings:
    """What a bench finds: a database, a folder of its own, and what was asked for on the command line."""

    uri: str
    folder: Path
    quick: bool = False
    peers: Sequence[str] = ()
    before: Path | None = None
    """A folder with another revision of `supervisor/`, as one more contender."""


@dataclass
class Figures:
    """Named measurements: a unit, and one value per round."""

    units: dict[str, str] = field(default_factory=dict)
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float, unit: str) -> None:
        """Add a round's value of a figure, and show it: a run takes minutes."""
        print(f"  {name:<30}{value:>12.5g} {unit}", file=sys.stderr, flush=True)
        self.units[name] = unit
        self.values.setdefault(name, []).append(value)


@dataclass(frozen=True)
class Ratio:
    """A figure over another one of the same round, and what is wanted of it."""

    over: str
    under: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def name(self) -> str:
        """Return how it is called in tables."""
        return f"{self.over} / {self.under}"

    @property
    def wanted(self) -> str:
        """Return what is wanted, in words; nothing where nothing is."""
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return "" if self.at_most is None else f"<= {self.at_most:g}"

    def of(self, values: Mapping[str, Sequence[float]]) -> list[float]:
        """Return the ratio in each round."""
        return [over / under for over, under in zip(values[self.over], values[self.under], strict=True)]


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a figure by itself."""

    figure: str
    at_most: float


@dataclass(frozen=True)
class Bench:
    """One bench: what it is about, how it measures, and what its figures are set against."""

    name: str
    about: str
    measure: Callable[[Surroundings, int], Figures]
    ratios: tuple[Ratio, ...] = ()
    wanted: tuple[Wanted, ...] = ()
    rounds: int = 5
    quick_rounds: int = 2
    in_quick: bool = True
    """Whether the quick run has it."""


def alternating(contenders: Sequence[T], round_number: int) -> Iterable[T]:
    """Return the contenders in the order of this round: turned round every other time, so that none is always first."""
    return contenders if round_number % 2 == 0 else list(reversed(contenders))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, the least and the most."""
    return statistics.median(values), min(values), max(values)


def checked_out(revision: str, into: Path) -> Path:
    """Put `supervisor/` of another revision into a folder, for a contender that runs it."""
    archive = subprocess.run(
        ["git", "archive", revision, "supervisor"], capture_output=True, check=False, cwd=Path(__file__).parent.parent
    )
    if archive.returncode:
        raise BenchError(f"--before {revision}: {archive.stderr.decode().strip()}")
    folder = Path(tempfile.mkdtemp(prefix="before-", dir=into))
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    return folder
