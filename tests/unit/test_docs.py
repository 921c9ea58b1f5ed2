"""The pages written by hand: links lead somewhere, and the tests, modules and packages they name exist."""

import ast
import functools
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
EXPLANATION = ROOT / "docs" / "explanation"
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
WIDTH = 120
MACHINE_PATHS = ["/" + name + "/" for name in ("work", "root")]
"""Put together, or this file would offend."""


def prose(page: Path) -> str:
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(prose(page)))
    return {heading.strip().replace(" ", "-") for heading in plain}


def broken_links(page: Path) -> list[str]:
    broken = []
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            broken.append(target)
    return broken


@functools.cache
def defined_tests() -> set[str]:
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def table_rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page):
    assert broken_links(page) == []


def test_a_broken_link_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A `b`, c\n[a](other.md) [b](#a-b-c) [c](#d) [d](https://example.org/x)\n```\n[e](f)\n```\n")
    assert broken_links(page) == ["other.md", "#d"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_test_that_is_named_exists(page):
    # of a file of tests, the name stands before ".py"
    named = set(re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8")))
    assert named - defined_tests() == set()


def test_every_failure_mode_names_a_test():
    page = (EXPLANATION / "failure-modes.md").read_text(encoding="utf-8")
    rows = [row for row in table_rows(page) if not row.startswith(("| fault |", "| without |", "|---"))]
    assert len(rows) > 40
    assert [row for row in rows if "`test_" not in row] == []


def test_the_architecture_names_every_module_and_no_other():
    page = (EXPLANATION / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:supervisor|handlers)/[\w/]+\.py)`", page))
    modules = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "supervisor").rglob("*.py")
        if path.name != "__init__.py" or path.parent.name == "supervisor"  # the others only say what their room is for
    }
    assert modules - named == set(), "not told in docs/explanation/architecture.md"
    assert {name for name in named if not (ROOT / name).is_file()} == set(), "told, and not there"


def test_every_dependency_is_explained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in extras.values() for line in extra)]
    wanted = {re.split(r"[\[<>=~; ]", line)[0] for line in lines}
    rows = table_rows((EXPLANATION / "dependencies.md").read_text(encoding="utf-8"))
    told = {name for row in rows for name in re.findall(r"`([\w.-]+)`", row.rpartition("|")[0].rpartition("|")[0])}
    assert wanted - {project["name"]} - told == set()


def test_every_decision_is_listed_and_has_its_three_parts():
    folder = ROOT / "docs" / "decisions"
    pages = sorted(folder.glob("[0-9]*.md"))
    listed = (folder / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in pages if page.name not in listed] == []
    for page in pages:
        headings = HEADING.findall(prose(page))
        assert headings[0].startswith(f"{int(page.name[:4])}. "), page.name
        assert headings[1:] == ["Context", "Decision", "Consequences"], page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_of_prose_are_wrapped(page):
    if page.parent.name == "reference":
        pytest.skip("written by the code")
    wrapped = [line for line in prose(page).splitlines() if not line.startswith(("|", "    "))]
    long = [line for line in wrapped if len(line) > WIDTH]
    assert long == []


def test_no_file_names_a_path_of_the_machine_it_was_written_on():
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout")
    offenders = []
    for name in filter(None, listed.decode().split("\0")):
        path = ROOT / name
        data = path.read_bytes() if path.is_file() else b""
        if b"\0" not in data and any(machine.encode() in data for machine in MACHINE_PATHS):
            offenders.append(name)
    assert offenders == []
