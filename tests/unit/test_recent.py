"""The figures of the last minutes, and the CPU rate of a running job, under a clock that the tests set."""

import pytest

from supervisor.core.outcome import ErrorKind, Usage
from supervisor.pool.attempt import CpuRate
from supervisor.recent import Recent
from tests.support.jobs import change, job, raised, returned


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def recent(clock):
    return Recent(clock)


def note(recent, handler="ocr", wait_s=1.0, run_s=2.0, *, failed=False):
    usage = Usage(run_s=run_s)
    outcome = raised(ErrorKind.PERMANENT, usage=usage) if failed else returned({}, usage=usage)
    recent.note(change(job(handler=handler, wait_s=wait_s), outcome))


def told(recent, handler="ocr"):
    return {each["minutes"]: each for each in recent.report() if each["handler"] == handler}


def test_ends_are_counted_by_outcome_with_mean_and_longest_wait_and_run(recent):
    note(recent, wait_s=1.0, run_s=0.5)
    note(recent, wait_s=2.0, run_s=3.5)
    note(recent, wait_s=6.0, run_s=2.0, failed=True)
    assert told(recent)[1] == {
        "handler": "ocr", "minutes": 1, "ended": {"completed": 2, "permanent": 1},
        "wait_s": {"mean": 3.0, "max": 6.0}, "run_s": {"mean": 2.0, "max": 3.5},
    }  # fmt: skip


def test_each_window_holds_what_ended_in_it(recent, clock):
    for _ in range(8):
        note(recent)
        clock.now += 45
    ended = {minutes: each["ended"]["completed"] for minutes, each in told(recent).items()}
    assert ended == {1: 1, 5: 6}


def test_handlers_are_told_apart_and_forgotten_when_nothing_ends_for_long(recent, clock):
    note(recent, "ocr")
    clock.now += 250
    note(recent, "ner")
    assert [(each["handler"], each["minutes"]) for each in recent.report()] == [("ner", 1), ("ner", 5), ("ocr", 5)]
    clock.now += 301
    assert recent.report() == []


def test_many_ends_take_no_more_room_than_few(recent, clock):
    for _ in range(3000):
        note(recent)
        clock.now += 1
    assert len(recent._buckets) <= 31
    assert told(recent)[5]["ended"]["completed"] == pytest.approx(300, abs=10)


def test_the_cpu_rate_is_that_of_the_last_second_or_so():
    rate = CpuRate()
    looks = [
        (0.0, 0.0, None),
        (0.1, 0.3, None),
        (1.0, 1.0, 100.0),
        (1.5, 1.1, 100.0),
        (3.0, 1.5, 25.0),
        (4.0, 5.5, 400),
    ]
    for now, cpu_s, percent in looks:
        rate.see(cpu_s, now)
        assert rate.percent == percent


def test_a_tree_that_has_lost_a_member_has_no_negative_rate():
    rate = CpuRate()
    rate.see(9.0, 0.0)
    rate.see(2.0, 1.0)
    assert rate.percent == 0
