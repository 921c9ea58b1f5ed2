"""The page of figures is what its generator makes."""

from bench import page, plots


def test_the_page_of_figures_is_made_from_the_kept_results():
    differing = [path.name for path, text in page.made().items() if path.read_text(encoding="utf-8") != text]
    assert differing == [], "run: python -m bench.page"


def test_a_plot_that_no_bench_has_any_more_is_not_left_behind():
    made = {path.name for path in page.made()}
    assert {path.name for path in (page.PAGES / "performance").iterdir()} <= made


def test_bars_are_drawn_only_of_figures_in_one_unit():
    one = {"about": "a < b", "figures": {"raw": {"unit": "s", "values": [1.0]}, "ours": {"unit": "s", "values": [2.0]}}}
    assert list(plots.comparable(one)) == ["raw", "ours"]
    assert "a &lt; b (s)" in plots.bench(one)
    one["figures"]["memory"] = {"unit": "MB", "values": [3.0]}
    assert list(plots.comparable(one)) == ["raw", "ours"]
