"""Jobs of 20 ms of CPU: what is left of a plain pool's speed."""

from __future__ import annotations

from bench import work
from bench.contenders import all_of
from bench.measuring import Bench, Figures, Ratio, Surroundings, alternating


def measure(surroundings: Surroundings, rounds: int) -> Figures:
    """Return the wall seconds of everybody."""
    figures, jobs = Figures(), 100 if surroundings.quick else 500
    with all_of(surroundings, "cpu20") as contenders:
        for number in range(rounds):
            for contender in alternating(contenders, number):
                figures.add(contender.name, contender.run(work.spins, [{"ms": 20}] * jobs), "s")
    return figures


BENCH = Bench("cpu20", "jobs of 20 ms of CPU, wall time", measure, ratios=(Ratio("raw", "ours", at_least=0.95),))
