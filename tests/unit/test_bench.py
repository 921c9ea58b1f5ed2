"""The arithmetic of the benches."""

import pytest

from bench import __main__ as command
from bench import machine, report
from bench.long_tail import adverse
from bench.measuring import (
    Bench,
    BenchError,
    Figures,
    Ratio,
    Surroundings,
    Wanted,
    alternating,
    checked_out,
    percentile,
)


def never(_surroundings: Surroundings, _rounds: int) -> Figures:
    raise AssertionError


def test_a_ratio_is_taken_within_each_round():
    figures = Figures()
    for raw, ours in ((100.0, 50.0), (400.0, 100.0)):
        figures.add("raw", raw, "jobs/s")
        figures.add("ours", ours, "jobs/s")
    bench = Bench("x", "x", never, ratios=(Ratio("ours", "raw", at_least=0.8),))
    kept = report.document(bench, figures)
    assert kept["ratios"]["ours / raw"] == {"values": [0.5, 0.25], "wanted": ">= 0.8"}
    assert "missed" in report.table({"x": kept})


def test_another_revision_is_compared_with_ours():
    figures = Figures()
    figures.add("ours p50", 2.0, "ms")
    figures.add("before p50", 4.0, "ms")
    kept = report.document(Bench("x", "x", never, wanted=(Wanted("ours p50", 5),)), figures)
    assert kept["ratios"] == {"ours p50 / before p50": {"values": [0.5], "wanted": ""}}
    assert kept["figures"]["ours p50"]["wanted"] == "<= 5"


def test_no_contender_is_always_first():
    assert [list(alternating("abc", number)) for number in range(2)] == [["a", "b", "c"], ["c", "b", "a"]]


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 51), (0.99, 100), (1.0, 100)])
def test_a_percentile_is_a_value_that_was_measured(share, expected):
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_the_long_tail_has_short_jobs_behind_every_long_one():
    jobs = [job["ms"] for job in adverse(5)]
    long_ones = [position for position, ms in enumerate(jobs) if ms == max(jobs)]
    assert len(long_ones) == 5
    assert all(jobs[position + 1] == min(jobs) for position in long_ones)


def test_a_peer_has_the_ratios_that_ours_has():
    figures = Figures()
    for name, seconds in (("raw", 1.0), ("ours", 1.25), ("rq", 2.0)):
        figures.add(name, seconds, "s")
    ratios = (Ratio("raw", "ours", at_least=0.95), Ratio("ours", "ledger"), Ratio("ours p50", "raw"))
    kept = report.document(Bench("x", "x", never, ratios=ratios), figures, ["rq"])
    assert kept["ratios"] == {
        "raw / ours": {"values": [0.8], "wanted": ">= 0.95"},
        "raw / rq": {"values": [0.5], "wanted": ""},
    }


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--only", "noop,warp"], "unknown: warp (there are: noop, cpu20, "),
        (["--peers", "redis"], "unknown: redis (there are: celery, "),
        (["--rounds", "0"], "'0' is no number of at least 1"),
        (["--json", "/nowhere/at/all.json"], "there is no folder /nowhere/at"),
        (["--json", "pyproject.toml"], "pyproject.toml is there, and holds no results of this program"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_runs(arguments, reason, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    monkeypatch.chdir(machine.ROOT)
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err


def test_an_unknown_revision_is_named(tmp_path):
    with pytest.raises(BenchError, match=r"--before no-such-thing: .*no-such-thing"):
        checked_out("no-such-thing", tmp_path)
