"""When a worker has served long enough."""

import pytest

from supervisor.pool.lifetime import LOOK_EVERY_JOBS, SETTLED_AFTER_JOBS, Lifetime
from supervisor.process_tree import Footprint


def served(lifetime: Lifetime, jobs: int, footprint=lambda _: Footprint(50, 10, 2), job_s: float = 1.0) -> int | None:
    """Run so many jobs; return the one after which the worker was done, None if it goes on."""
    for job in range(1, jobs + 1):
        lifetime.look(job, job * job_s, lambda job=job: footprint(job))
        if lifetime.is_over(job):
            return job
    return None


@pytest.mark.parametrize(("jitter", "ends"), [(1.0, 1000), (0.9, 900), (1.1, 1100)])
def test_it_ends_after_so_many_jobs_a_little_sooner_or_later(jitter, ends):
    assert served(Lifetime(1000, 0, jitter), 2000) == ends


def test_without_limits_it_never_ends():
    assert served(Lifetime(0, 0, 1.0), 5000, lambda job: Footprint(50.0 * job, 10, 2)) is None


def test_one_job_at_most_is_one_job_whatever_the_jitter():
    assert served(Lifetime(1, 0, 0.4), 5) == 1


def test_what_a_worker_loads_in_its_first_jobs_is_no_growth():
    assert (
        served(Lifetime(0, 100, 1.0), 500, lambda job: Footprint(200.0 * min(job, SETTLED_AFTER_JOBS), 10, 2)) is None
    )


@pytest.mark.parametrize(
    ("footprint", "reason"),
    [
        (lambda job: Footprint(50.0 + 20 * job, 10, 2), "its memory has grown by 100 MB (pool.max_growth_mb)"),
        (lambda job: Footprint(50, 10 * job, 2), "its jobs have left 250 files open"),
        (lambda job: Footprint(50, 10, 11 * job), "its jobs have left 55 threads running"),
    ],
)
def test_what_it_gathers_later_ends_it_and_is_named(footprint, reason):
    lifetime = Lifetime(0, 99, 1.0)
    ended = served(lifetime, 500, footprint)
    assert ended is not None
    assert ended % LOOK_EVERY_JOBS == 0
    assert lifetime.outgrown == reason


@pytest.mark.parametrize(
    ("footprint", "job_s", "looks"),
    [
        (lambda _: Footprint(50, 10, 2), 0.001, 12),
        (lambda _: Footprint(50, 10, 2), 1.0, 199),
        (lambda job: Footprint(50 + job, 10, 2), 0.001, 199),
    ],
    ids=["steady", "steady, and its jobs are long", "it grows"],
)
def test_while_it_is_steady_it_is_not_looked_at_after_every_few_very_short_jobs(footprint, job_s, looks):
    seen = []
    served(Lifetime(0, 0, 1.0), 1000, lambda job: seen.append(job) or footprint(job), job_s)
    assert len(seen) == pytest.approx(looks, rel=0.25)


def test_a_worker_that_is_gone_is_judged_by_nothing():
    assert served(Lifetime(0, 1, 1.0), 100, lambda _: None) is None


def test_other_limits_apply_to_a_worker_that_serves_already():
    lifetime = Lifetime(1000, 0, 0.9)
    assert served(lifetime, 300) is None
    lifetime.limit(200, 0)
    assert lifetime.is_over(300)
    lifetime.limit(0, 0)
    assert not lifetime.is_over(300)
