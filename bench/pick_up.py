"""Pick-up on an idle system: from the return of `enqueue` to the first line of the handler.

One job at a time, each after a pause. `enqueue` returns when a majority has the job; what the supervisor does before
that counts as nothing.
"""

from __future__ import annotations

from bench.contenders import all_of, rest
from bench.measuring import Bench, Figures, Surroundings, Wanted, alternating, percentile


def measure(surroundings: Surroundings, rounds: int) -> Figures:
    """Return the median and the 99th percentile of everybody in milliseconds."""
    figures, jobs = Figures(), 50 if surroundings.quick else 200
    with all_of(surroundings, "pick_up") as contenders:
        for number in range(rounds):
            for contender in alternating(contenders, number):
                found = []
                for _ in range(jobs):
                    rest()
                    found.append(max(0.0, contender.pick_up()) * 1000)
                figures.add(f"{contender.name} p50", percentile(found, 0.5), "ms")
                figures.add(f"{contender.name} p99", percentile(found, 0.99), "ms")
    return figures


BENCH = Bench(
    "pick_up",
    "from the return of enqueue to the handler's first line, idle",
    measure,
    wanted=(Wanted("ours p50", 5), Wanted("ours p99", 20)),
    rounds=3,
    quick_rounds=1,
)
