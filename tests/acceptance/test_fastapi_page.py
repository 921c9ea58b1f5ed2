"""The page docs/how-to/fastapi.md: its files as they stand there, and all of its commands typed line by line."""

import re
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from handlers._ocr.sample import make_sample
from tests.support.mongo import RunningMongod
from tests.support.pages import Shell, answered, blocks, typed
from tests.support.supervising import ROOT
from tests.support.until import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PAGE = "docs/how-to/fastapi.md"
URI = re.compile(r"mongodb://db\.example/[^\"]*")
PYTHON = {
    "APPLICATION": "router(queue, token=",
    "HANDLERS": "@handler(",
    "ENDPOINT": "/register",
    "LOGIN": "Depends(logged_in)",
    "DEPENDENCY": "queue_of",
}
"""The blocks in Python, by words of theirs; the last one runs in tests/integration/test_web_pages.py."""
LOOKS = re.compile(r"^(api /(jobs/\$job|batches/\$batch|health|metrics)|grep|python -m supervisor schedules)")
"""Commands that change nothing, and are given again until they show what the page says."""
COOKIE = """
from fastapi import Cookie, Depends, HTTPException


async def logged_in(login: str = Cookie("")):
    if login != "ada":
        raise HTTPException(401)
"""


def python(name: str) -> str:
    (found,) = [block for block in blocks(PAGE, "python") if PYTHON[name] in block]
    return found


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
        return found


@pytest.fixture
def shell(mongod: RunningMongod, tmp_path: Path) -> Iterator[Shell]:
    """A terminal in the folder with the three files of the page."""
    (config,) = blocks(PAGE, "toml")
    files = {
        "config.toml": config,
        "my_handlers.py": python("HANDLERS"),
        "app.py": python("APPLICATION") + python("ENDPOINT"),
        "app_with_login.py": without_router(python("APPLICATION")) + python("ENDPOINT") + COOKIE + python("LOGIN"),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(URI.sub(mongod.uri, text))
    make_sample(tmp_path / "scan.pdf")
    with closing(Shell(tmp_path, {"PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"})) as made:
        yield made
    with mongod.client() as client:
        client.drop_database("supervisor")


def without_router(application: str) -> str:
    return "".join(line for line in application.splitlines(keepends=True) if "include_router" not in line)


def test_a_session_with_the_application_goes_as_the_page_says(shell: Shell, port: int) -> None:
    for command, answer in typed(PAGE):
        typed_here = command.replace("8000", str(port))
        answered(typed_here, answer, shell, again=bool(LOOKS.search(command)))


def test_a_browser_shows_progress_as_the_page_says(shell: Shell, port: int, browser: Any) -> None:
    address = f"http://127.0.0.1:{port}"
    shell("python -m supervisor >supervisor.log 2>&1 &")
    shell(f"python -m uvicorn app_with_login:app --port {port} >uvicorn.log 2>&1 &")
    ready = f"curl -s {address}/api/health/ready"
    until(lambda: "ok" in shell(ready), 60, "the application to answer")
    assert shell(f"curl -s -o /dev/null -w '%{{http_code}}' {address}/api/jobs") == "401", "without a login"
    shell("seq 30 >thirty.txt")
    upload = f"curl -s -b login=ada {address}/api/jobs/upload -F handler=read_document -F file=@thirty.txt"
    job_id = shell(f"{upload} | cut -d '\"' -f 4").strip()
    assert ObjectId.is_valid(job_id), job_id
    browser.context.add_cookies([{"name": "login", "value": "ada", "url": address}])
    browser.goto(f"{address}/api/health/live")
    (script,) = blocks(PAGE, "js")
    seen = browser.evaluate(
        "([jobId, script]) => new Promise((resolve, reject) => {"
        " setTimeout(() => reject(new Error('nothing has ended')), 60000);"
        " const shown = []; const show = (progress) => shown.push(progress.done);"
        " const done = (job) => resolve([shown, job.status]); eval(script); })",
        [job_id, script],
    )
    assert seen[1] == "completed"
    assert seen[0][-1] == 30


def test_no_block_of_the_page_goes_untried() -> None:
    tried = [*blocks(PAGE, "console"), *blocks(PAGE, "toml"), *blocks(PAGE, "js"), *map(python, PYTHON)]
    assert sorted(blocks(PAGE)) == sorted(tried)
