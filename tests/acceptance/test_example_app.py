"""The example application as its README starts it, with a real supervisor, a real uvicorn and a real browser."""

import contextlib
import os
import socket
import subprocess
import sys

import httpx
import pytest

from handlers._ocr.sample import make_sample
from tests.support.supervising import ROOT
from tests.support.until import until

pytestmark = pytest.mark.slow


@pytest.fixture
def address(mongo_uri, database_name):
    """The example, served by uvicorn."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "examples.fastapi_app.app:app", "--port", str(port)]
    environ = {**os.environ, "MONGO": mongo_uri, "DATABASE": database_name}
    process = subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    found = f"http://127.0.0.1:{port}"
    try:
        until(lambda: _answers(found), 60, "the application to answer")
        yield found
    finally:
        process.terminate()
        process.wait(20)


def _answers(address):
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{address}/api/health/ready", trust_env=False).status_code == 200
    return False


@pytest.mark.timeout(240)
def test_a_browser_uploads_a_scan_watches_it_and_reads_text_and_entities(address, browser, start, tmp_path):
    start(pool={"workers": 1, "modules": ["handlers"]})
    scan = tmp_path / "scan.png"
    make_sample(scan)
    problems = []
    browser.on("pageerror", lambda error: problems.append(str(error)))
    browser.goto(address)
    browser.set_input_files("#file", scan)
    browser.click("#send")
    browser.wait_for_function("document.getElementById('status').textContent === 'Done'")
    assert "Invoice" in browser.inner_text("#text")
    assert "DATE" in browser.inner_text("#entities")
    if folder := os.environ.get("SCREENSHOTS"):
        browser.screenshot(path=f"{folder}/fastapi_app.png", full_page=True)
    # what is no scan is refused by name
    (tmp_path / "notes.txt").write_text("no scan")
    browser.set_input_files("#file", tmp_path / "notes.txt")
    browser.click("#send")
    browser.wait_for_selector("#status.error")
    assert "file: is 'text/plain', must be one of application/pdf" in browser.inner_text("#status")
    assert problems == []
    for metric in ('jobs_total{status="completed"', 'job_duration_seconds_count{handler="ocr"'):
        until(lambda sought=metric: sought in metrics(address), what=metric)


def metrics(address):
    return httpx.get(f"{address}/api/metrics", trust_env=False).text
