"""The files in deploy/, as their readers read them.

`python -m tests.support.deployment` writes the systemd unit anew.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from supervisor.cli.systemd_unit import START_MARGIN_S
from supervisor.cli.unit_file import NOTIFY, PARENT, Service, unit
from supervisor.config.loading import Overrides, load
from supervisor.config.settings import Settings
from supervisor.engine import stop_limit_s
from tests.support.supervising import ROOT

DEPLOY = ROOT / "deploy"
DOCKERFILE = DEPLOY / "Dockerfile"
COMPOSE = DEPLOY / "docker-compose.yml"
SUPERVISOR = DEPLOY / "kubernetes" / "supervisor.yaml"
KEDA = DEPLOY / "kubernetes" / "keda.yaml"
UNIT = DEPLOY / f"{PARENT}.service"
URI = "mongodb://mongo:27017/?replicaSet=rs0"
Document = dict[str, Any]


@cache
def stages() -> list[list[tuple[str, str]]]:
    """Return the instructions of every stage of the Dockerfile, each with its words on one line."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    found: list[list[tuple[str, str]]] = []
    for line in filter(None, lines):
        name, _, words = line.partition(" ")
        if name == "FROM":
            found.append([])
        if found:
            found[-1].append((name, words))
    return found


def last_stage(instruction: str) -> list[str]:
    return [words for name, words in stages()[-1] if name == instruction]


@cache
def compose() -> Document:
    return yaml.safe_load(COMPOSE.read_text())


@cache
def manifests(path: Path) -> dict[str, Document]:
    """Return the documents of a file by their kinds."""
    documents = list(yaml.safe_load_all(path.read_text()))
    by_kind = {document["kind"]: document for document in documents}
    assert len(by_kind) == len(documents)
    return by_kind


def pod() -> Document:
    return manifests(SUPERVISOR)["Deployment"]["spec"]["template"]["spec"]


def container() -> Document:
    (only,) = pod()["containers"]
    return only


def settings(config: Path) -> Settings:
    """Return the configuration as the supervisor in the container reads it; ConfigError where that refuses it."""
    return load(config, {"SUPERVISOR_MONGO__URI": URI}, Overrides()).settings


def systemd_unit() -> str:
    """Return the unit for an installation in the usual places, of a type that every systemd knows."""
    etc, defaults = Path("/etc", PARENT), Settings()
    service = Service(
        name=PARENT,
        kind=NOTIFY,
        command=(f"/opt/{PARENT}/bin/python", "-m", "supervisor", "run", "--config", f"{etc}/config.toml"),
        folder=etc,
        user=None,
        start_s=defaults.mongo.wait_s + START_MARGIN_S,
        stop_s=stop_limit_s(defaults),
        environment_file=etc / "environment",
    )
    return (
        f"# For a virtual environment in /opt/{PARENT}, configured in {etc}.\n"
        "# One for your installation is printed by: python -m supervisor systemd-unit\n"
        f"# More: docs/how-to/run-under-systemd.md\n{unit(service)}"
    )


if __name__ == "__main__":
    UNIT.write_text(systemd_unit())
