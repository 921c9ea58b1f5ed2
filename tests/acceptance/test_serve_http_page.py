"""The page docs/how-to/serve-http.md: its configuration as it stands there, and its session typed line by line."""

import re
import socket
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from supervisor.config.loading import Overrides, load
from tests.support.pages import Shell, answered, blocks, typed
from tests.support.supervising import ROOT

pytestmark = pytest.mark.timeout(240)

PAGE = "docs/how-to/serve-http.md"
LOOKS = re.compile(r"^curl -s http://127.0.0.1:8787/(health|jobs/|metrics)")
"""Commands that change nothing, and are given again until they show what the page says."""


def test_a_session_with_the_supervisor_goes_as_the_page_says(
    tmp_path: Path, mongo_uri: str, database_name: str
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    (tmp_path / "config.toml").write_text(blocks(PAGE, "toml")[0].replace("8787", port))
    environ = {
        "SUPERVISOR_MONGO__URI": mongo_uri,
        "SUPERVISOR_MONGO__DATABASE": database_name,
        "PYTHONPATH": str(ROOT),
        "NO_PROXY": "127.0.0.1",
    }
    with closing(Shell(tmp_path, environ)) as shell:
        for command, answer in typed(PAGE):
            here, there = command.replace("8787", port), answer.replace("8787", port)
            answered(here, there, shell, again=bool(LOOKS.search(command)))


def test_the_tables_and_the_probe_of_the_page_are_valid(tmp_path: Path) -> None:
    for number, table in enumerate(blocks(PAGE, "toml")):
        path = tmp_path / f"{number}.toml"
        path.write_text(table.replace("…", "a-token"))
        assert load(path, {}, Overrides()).settings.http.enabled
    (probe,) = blocks(PAGE, "yaml")
    assert yaml.safe_load(probe)["livenessProbe"]["httpGet"] == {"path": "/health/live", "port": 8787}
