"""A mix with a long tail, in an order that is bad for who takes jobs ahead: short ones teach that the handler is short,
and then every long one has short ones right behind it, which should not wait for it.

The ideal is what no order can beat: the work divided by the workers.
"""

from __future__ import annotations

from bench import work
from bench.contenders import WORKERS, all_of
from bench.measuring import Bench, Figures, Ratio, Surroundings, alternating

SHORT_MS, LONG_MS = 5, 300


def adverse(long_jobs: int) -> list[dict[str, int]]:
    """Return the payloads, in order."""
    short, long_ = {"ms": SHORT_MS}, {"ms": LONG_MS}
    lesson = [short] * 60
    traps = [job for number in range(long_jobs) for job in (long_, *[short] * (8 + 5 * (number % 3)))]
    return [*lesson, *traps, *[short] * 120]


def measure(surroundings: Surroundings, rounds: int) -> Figures:
    """Return the makespan of everybody, and the ideal."""
    figures, payloads = Figures(), adverse(4 if surroundings.quick else 14)
    ideal = sum(payload["ms"] for payload in payloads) / 1000 / WORKERS
    with all_of(surroundings, "long_tail") as contenders:
        for number in range(rounds):
            figures.add("ideal", ideal, "s")
            for contender in alternating(contenders, number):
                figures.add(contender.name, contender.run(work.spins, payloads), "s")
    return figures


BENCH = Bench(
    "long_tail",
    "short and long jobs in an adverse order, makespan",
    measure,
    ratios=(Ratio("ours", "ideal", at_most=1.05), Ratio("raw", "ideal"), Ratio("ours", "raw")),
)
