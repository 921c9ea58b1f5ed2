"""After 100,000 jobs: is the supervisor slower, and has it grown?

The jobs stay in the collection, as a week of them would. The rate is taken at the start and at the end, over the same
number of jobs; memory is the supervisor's own, since workers are replaced on the way.
"""

from __future__ import annotations

import psutil

from bench import work
from bench.contenders import connected, running
from bench.measuring import Bench, Figures, Ratio, Surroundings

AT_ONCE = 5000


def measure(surroundings: Surroundings, rounds: int) -> Figures:
    """Return seconds for the same jobs, and megabytes, at the start and at the end."""
    figures, jobs = Figures(), 10_000 if surroundings.quick else 100_000
    for number in range(rounds):
        database = f"endurance_{number}"
        with (
            running(surroundings, database) as supervisor,
            connected(surroundings.uri, database, keeps=True) as contender,
        ):
            process, payloads = psutil.Process(supervisor.pid), [{}] * AT_ONCE
            contender.run(work.noop, payloads)
            seconds, megabytes = [], [process.memory_info().rss / (1 << 20)]
            for _ in range(jobs // AT_ONCE):
                seconds.append(contender.run(work.noop, payloads))
                megabytes.append(process.memory_info().rss / (1 << 20))
            figures.add("first", seconds[0], "s")
            figures.add("last", seconds[-1], "s")
            figures.add("RSS at first", megabytes[0], "MB")
            figures.add("RSS at last", megabytes[-1], "MB")
    return figures


BENCH = Bench(
    "endurance",
    f"{AT_ONCE:,} no-op jobs before and after 100,000 others",
    measure,
    ratios=(Ratio("last", "first", at_most=1.05), Ratio("RSS at last", "RSS at first", at_most=1.05)),
    rounds=1,
    in_quick=False,
)
