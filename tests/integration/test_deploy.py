"""deploy/ before the tools and schemas of those who will read it, and KEDA's query before a real database."""

import importlib
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.support.deployment import COMPOSE, DOCKERFILE, KEDA, SUPERVISOR, manifests
from tests.support.jobs import pending

OLDEST_KUBERNETES, NEWEST_KUBERNETES = "1.30", kubernetes_validate.latest_version()
BIN = Path(sys.executable).parent


def lint(dockerfile: Path) -> str:
    hadolint = shutil.which("hadolint", path=str(BIN))
    if hadolint is None:
        pytest.skip("there is no hadolint for this machine")
    return subprocess.run([hadolint, dockerfile], capture_output=True, text=True, check=False).stdout


def test_hadolint_has_nothing_to_say() -> None:
    assert lint(DOCKERFILE) == ""


def test_hadolint_would_say_something(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text(DOCKERFILE.read_text().replace(" --no-install-recommends", ""))
    assert "DL3015" in lint(bad)


def validated_compose(path: Path) -> subprocess.CompletedProcess[str]:
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", path]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_compose_file_keeps_to_the_compose_specification() -> None:
    done = validated_compose(COMPOSE)
    assert done.returncode == 0, done.stdout


def test_a_mistake_in_a_compose_file_is_seen(tmp_path: Path) -> None:
    bad = tmp_path / "docker-compose.yml"
    bad.write_text(COMPOSE.read_text().replace("stop_grace_period", "stop_grace"))
    assert "stop_grace" in validated_compose(bad).stdout


@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, NEWEST_KUBERNETES])
def test_the_manifests_keep_to_the_schemas_of_kubernetes(version: str) -> None:
    for document in manifests(SUPERVISOR).values():
        kubernetes_validate.validate(document, version, strict=True)


def test_a_mistake_in_a_manifest_is_seen() -> None:
    text = SUPERVISOR.read_text().replace("readOnlyRootFilesystem", "readonlyRootFilesystem")
    (deployment,) = [document for document in yaml.safe_load_all(text) if document["kind"] == "Deployment"]
    with pytest.raises(kubernetes_validate.ValidationError, match="readonlyRootFilesystem"):
        kubernetes_validate.validate(deployment, NEWEST_KUBERNETES, strict=True)


def as_keda_reads_it(document: dict[str, Any]) -> dict[str, Any]:
    """Return what KEDA's types know of a document; ValidationError where it breaks them."""
    models = importlib.import_module("cloudcoil.models.keda.v1alpha1")
    model = getattr(models, document["kind"]).model_validate(document)
    return model.model_dump(by_alias=True, exclude_unset=True, mode="json")


def test_the_objects_of_keda_keep_to_its_types() -> None:
    for document in manifests(KEDA).values():
        assert as_keda_reads_it(document) == document


def test_a_mistake_in_an_object_of_keda_is_seen() -> None:
    document = yaml.safe_load(KEDA.read_text().partition("---")[2].replace("minReplicaCount", "minReplicas"))
    assert as_keda_reads_it(document) != document


async def test_keda_counts_due_and_running_jobs_of_our_handlers(jobs: Any) -> None:
    (trigger,) = manifests(KEDA)["ScaledObject"]["spec"]["triggers"]
    now = datetime.now(UTC)
    counted = [
        pending(handler="ocr"),
        pending(handler="ner", run_at=None),
        pending(handler="ner", run_at=now - timedelta(hours=1)),
        pending(handler="ocr", status="processing"),
    ]
    others = [
        pending(handler="ocr", run_at=now + timedelta(hours=1)),
        pending(handler="unknown"),
        pending(handler="ocr", status="completed"),
        pending(handler="ocr", status="failed"),
    ]
    await jobs.insert_many([*counted, *others], bypass_document_validation=True)
    assert await jobs.count_documents(json.loads(trigger["metadata"]["query"])) == len(counted)
