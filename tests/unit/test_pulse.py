"""The claim loop's pulse: told on, but not for every one of hundreds of turns a second."""

from supervisor.pulse import EVERY_S, Pulse


def test_a_beat_is_told_to_all_at_once_and_then_once_in_a_while():
    now, told = [100.0], []
    pulse = Pulse(lambda: told.append("watchdog"), lambda: told.append("health"), now=lambda: now[0])
    for _ in range(50):
        pulse.beat()
    assert told == ["watchdog", "health"]
    now[0] += EVERY_S * 0.9
    pulse.beat()
    assert len(told) == 2
    now[0] += EVERY_S * 0.2
    pulse.beat()
    assert len(told) == 4


def test_without_a_beat_nothing_is_told():
    told = []
    Pulse(lambda: told.append(1))
    assert told == []
