"""The list of safeguards that `make mutants` takes out one by one."""

import pytest

from tests.mutants import MUTANTS, ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.safeguard)
def test_the_safeguard_stands_where_the_list_says_and_its_test_exists(mutant):
    assert (ROOT / mutant.file).read_text("utf-8").count(mutant.old) == 1
    file, _, name = mutant.test.partition("::")
    assert f"def {name}" in (ROOT / file).read_text("utf-8")


def test_the_page_of_failure_modes_names_each_safeguard():
    page = (ROOT / "docs" / "explanation" / "failure-modes.md").read_text("utf-8")
    assert [mutant.safeguard for mutant in MUTANTS if f"| {mutant.safeguard} | `test_" not in page] == []
