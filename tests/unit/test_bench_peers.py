"""The files of peers: all of one shape, read without being imported."""

import pytest

from bench.peers import running, servers

NAMED = {path.stem for path in running.HERE.glob("*.py")} - {"__init__", "noted", "producer", "running", "servers"}


def test_every_peer_has_a_file():
    assert set(running.NAMES) == NAMED


@pytest.mark.parametrize("name", running.NAMES)
def test_a_peer_says_what_it_needs(name):
    constants = running.literals(running.HERE / f"{name}.py")
    assert constants["SERVER"] in servers.RUNNING
    assert (
        f"bench.peers.{name}" in constants["WORKER"] or name == "rq"
    )  # RQ's workers are told by the job what to import
    assert all("==" in package or ">=" in package or package == "taskiq-redis" for package in constants["PACKAGES"])
    source = (running.HERE / f"{name}.py").read_text()
    assert "def enqueue(name, payload):" in source
