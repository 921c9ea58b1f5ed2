"""The page docs/how-to/enqueue-from-anywhere.md: its examples as they stand there, against a real supervisor."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from handlers._ocr.sample import make_sample
from tests.support.pages import blocks
from tests.support.supervising import Jobs, RunningSupervisor, StartSupervisor
from tests.support.until import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PAGE = "docs/how-to/enqueue-from-anywhere.md"
URI = re.compile(r"mongodb://db\.example/[^\"]*")
INSTALL_S = 200
HANDLERS = """
from pydantic import BaseModel
from supervisor import handler

class Text(BaseModel):
    text: str

@handler("count")
def count(payload: Text) -> dict:
    return {"words": len(payload.text.split())}

@handler("report")
def report(payload: dict) -> dict:
    return {"of": str(payload["batch_id"]), "to": payload["to"]}
"""


@pytest.fixture
def supervisor(start: StartSupervisor, tmp_path: Path) -> RunningSupervisor:
    """A supervisor with the handlers that the page speaks of."""
    folder = tmp_path / "supervisor-0"
    folder.mkdir()
    (folder / "my_handlers.py").write_text(HANDLERS)
    return start(pool={"modules": ["my_handlers", "handlers.ocr", "handlers.ner"]})


def block(language: str, word: str, uri: str, database: str) -> str:
    """Return the block that has `word`, with the database of the test in it."""
    (found,) = [each for each in blocks(PAGE, language) if word in each]
    return URI.sub(uri, found).replace('"supervisor"', f'"{database}"').replace("use supervisor", f"use {database}")


def npm_installed(package: str, folder: Path) -> Path:
    """Install a package of Node.js into a folder."""
    if shutil.which("npm") is None:
        pytest.skip("there is no Node.js with npm here")
    (folder / "package.json").write_text("{}")
    command = ["npm", "install", package, "--no-audit", "--no-fund"]
    subprocess.run(command, cwd=folder, check=True, timeout=INSTALL_S, capture_output=True)
    return folder


def test_no_block_of_code_goes_untried() -> None:
    tried = (
        ["use supervisor", "errInfo", "MONGODB_URI"],
        ["print(jobs.find_one", "upload(Path", "enqueue_many", "on_end="],
    )
    for language, words in zip(("js", "python"), tried, strict=True):
        assert [next((word for word in words if word in each), each) for each in blocks(PAGE, language)] == words


def test_the_example_for_node_js_runs_as_it_stands_there(
    supervisor: RunningSupervisor, mongo_uri: str, database_name: str, tmp_path: Path
) -> None:
    folder = npm_installed("mongodb@6", tmp_path)
    (folder / "app.mjs").write_text(block("js", "MONGODB_URI", mongo_uri, database_name))
    environ = {**os.environ, "MONGODB_URI": mongo_uri}
    done = subprocess.run(
        ["node", "app.mjs"], cwd=folder, env=environ, timeout=60, capture_output=True, text=True, check=True
    )
    assert "status: 'completed'" in done.stdout
    assert "result: { words: 6 }" in done.stdout


def test_the_examples_for_mongosh_run_as_they_stand_there(
    supervisor: RunningSupervisor, jobs: Jobs, mongo_uri: str, database_name: str, tmp_path: Path
) -> None:
    shell = npm_installed("mongosh", tmp_path) / "node_modules" / ".bin" / "mongosh"
    typed = "".join(block("js", word, mongo_uri, database_name) for word in ("use supervisor", "errInfo"))
    done = subprocess.run(
        [shell, "--quiet", mongo_uri], input=typed, timeout=60, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("acknowledged: true") == 2
    assert "propertyName: 'run_at'" in done.stdout, "what is wrong with the third"
    until(lambda: jobs.collection.count_documents({"status": "completed", "result.words": 2}) == 1, 30)
    assert [job["priority"] for job in jobs.collection.find({"status": "pending"})] == [5]


def test_the_examples_in_python_run_as_they_stand_there(
    supervisor: RunningSupervisor, jobs: Jobs, mongo_uri: str, database_name: str, tmp_path: Path
) -> None:
    make_sample(tmp_path / "scan.pdf")
    without, with_a_queue = (
        block("python", word, mongo_uri, database_name) for word in ("print(jobs.find_one", "upload(Path")
    )
    # the page's queue has the default database
    with_a_queue = with_a_queue.replace(f'"{mongo_uri}"', f'"{mongo_uri}", "{database_name}"')
    later = [block("python", word, mongo_uri, database_name) for word in ("enqueue_many", "on_end=")]
    inside = "".join(f"    {line}\n" for line in ["file_ids = [file_id] * 2", *"\n".join(later).splitlines()])
    program = tmp_path / "program.py"
    program.write_text(without + with_a_queue + inside)
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, timeout=120, capture_output=True, text=True, check=True
    )
    assert "'status': '" in done.stdout
    assert "processing 0 of 2" in done.stdout
    jobs.wait_for_all(120)
    report = until(lambda: jobs.collection.find_one({"handler": "report", "status": "completed"}), 60, "the report")
    assert report["result"] == {"of": str(report["payload"]["batch_id"]), "to": "ann@example.com"}
    assert jobs.collection.count_documents({"handler": "ner", "status": "completed"}) == 1
    assert jobs.collection.count_documents({"handler": "ocr", "status": "completed", "priority": 1}) == 2
