"""What deploy/ says fits the program that it deploys: commands, paths, users, names and periods."""

import json
import re
import shlex
from pathlib import Path

import pytest

from supervisor import __version__
from supervisor.cli.main import cli
from supervisor.config.settings import Settings
from supervisor.engine import stop_limit_s
from supervisor.registry import REGISTRY, import_modules
from tests.support.deployment import (
    DEPLOY,
    KEDA,
    SUPERVISOR,
    UNIT,
    compose,
    container,
    last_stage,
    manifests,
    pod,
    settings,
    systemd_unit,
)

CONFIG_IN_COMPOSE = DEPLOY / "config" / "config.toml"


@pytest.fixture
def config_in_kubernetes(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(manifests(SUPERVISOR)["ConfigMap"]["data"]["config.toml"])
    return path


def commands_in_probes() -> list[list[str]]:
    (healthcheck,) = last_stage("HEALTHCHECK")
    probes = [probe for name, probe in container().items() if name.endswith("Probe")]
    assert len(probes) == 3
    (hook,) = re.findall("python .*", container()["lifecycle"]["preStop"]["exec"]["command"][-1])
    return [
        json.loads(healthcheck.partition("CMD ")[2]),
        *(probe["exec"]["command"] for probe in probes),
        shlex.split(hook),
    ]


def seconds(duration: str) -> int:
    assert duration.endswith("s")
    return int(duration[:-1])


def fits(grace_s: float, configured: Settings) -> bool:
    return grace_s >= stop_limit_s(configured)


def test_the_configuration_in_compose_is_valid_and_drains_within_the_grace_period() -> None:
    grace_s = seconds(compose()["services"]["supervisor"]["stop_grace_period"])
    assert fits(grace_s, settings(CONFIG_IN_COMPOSE))


def test_the_configuration_in_kubernetes_is_valid_and_drains_within_the_grace_period(
    config_in_kubernetes: Path,
) -> None:
    assert fits(pod()["terminationGracePeriodSeconds"], settings(config_in_kubernetes))


def test_both_configurations_say_the_same(config_in_kubernetes: Path) -> None:
    assert settings(config_in_kubernetes) == settings(CONFIG_IN_COMPOSE)


def test_what_the_probes_call_exists() -> None:
    for command in commands_in_probes():
        assert command[:3] == ["python", "-m", "supervisor"]
        assert cli.commands[command[3]].make_context(command[3], command[4:]), "it refuses what it does not know"


def test_the_program_runs_as_the_only_child_of_an_init() -> None:
    (entrypoint,) = last_stage("ENTRYPOINT")
    assert json.loads(entrypoint) == ["tini", "--", "python", "-m", "supervisor"]


def test_nobody_is_root() -> None:
    (user,) = last_stage("USER")
    uid, gid = (int(part) for part in user.split(":"))
    assert uid > 0
    assert f"--uid {uid} " in " ".join(last_stage("RUN"))
    context = pod()["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["runAsNonRoot"]) == (uid, gid, True)
    assert compose()["services"]["supervisor"]["user"] == f"${{SUPERVISOR_USER:-{uid}}}:{gid}"


def test_the_pod_fits_the_restricted_pod_security_standard() -> None:
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    said = container()["securityContext"]
    assert (said["allowPrivilegeEscalation"], said["capabilities"]) == (False, {"drop": ["ALL"]})
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod())
    allowed = {"configMap", "emptyDir"}
    assert {kind for volume in pod()["volumes"] for kind in volume if kind != "name"} <= allowed


def test_the_last_stage_installs_nothing_that_builds_and_no_database() -> None:
    installed = " ".join(last_stage("RUN"))
    assert not {"pip", "python3-pip", "python3-venv", "gcc", "build-essential", "curl", "git"} & set(installed.split())
    assert [words for words in last_stage("COPY") if words.startswith("--from=build ")] == [
        "--from=build /opt/supervisor /opt/supervisor"
    ]


def test_the_configuration_is_mounted_as_the_directory_where_the_program_runs() -> None:
    (directory,) = last_stage("WORKDIR")
    assert compose()["services"]["supervisor"]["volumes"] == [f"./{CONFIG_IN_COMPOSE.parent.name}:{directory}:ro"]
    assert f"deploy/config/config.toml {directory}/config.toml" in last_stage("COPY")
    (mount,) = [mount for mount in container()["volumeMounts"] if mount["name"] == "config"]
    assert mount["mountPath"] == directory
    assert "subPath" not in mount, "it would never change"


def test_what_is_written_at_run_time_has_a_place_on_a_read_only_root() -> None:
    supervisor = compose()["services"]["supervisor"]
    assert supervisor["read_only"] is True
    assert container()["securityContext"]["readOnlyRootFilesystem"] is True
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}
    writable = {mount["mountPath"] for mount in container()["volumeMounts"] if "emptyDir" in volumes[mount["name"]]}
    assert writable == set(supervisor["tmpfs"]) == {"/tmp"}


def test_the_names_in_the_manifests_lead_to_each_other() -> None:
    deployment, scaled = manifests(SUPERVISOR)["Deployment"], manifests(KEDA)["ScaledObject"]["spec"]
    template = deployment["spec"]["template"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert {mount["name"] for mount in container()["volumeMounts"]} == {volume["name"] for volume in pod()["volumes"]}
    (config,) = [volume["configMap"]["name"] for volume in pod()["volumes"] if "configMap" in volume]
    assert config == manifests(SUPERVISOR)["ConfigMap"]["metadata"]["name"]
    assert scaled["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    (trigger,) = scaled["triggers"]
    authentication = manifests(KEDA)["TriggerAuthentication"]
    assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
    (uri,) = authentication["spec"]["secretTargetRef"]
    (variable,) = container()["env"]
    assert variable["name"] == "SUPERVISOR_MONGO__URI"
    assert variable["valueFrom"]["secretKeyRef"] == {"name": uri["name"], "key": uri["key"]}


def test_keda_counts_the_jobs_that_these_pods_run(config_in_kubernetes: Path) -> None:
    configured = settings(config_in_kubernetes)
    (trigger,) = manifests(KEDA)["ScaledObject"]["spec"]["triggers"]
    metadata = trigger["metadata"]
    assert (metadata["dbName"], metadata["collection"]) == (configured.mongo.database, configured.mongo.collection)
    assert import_modules(configured.pool.modules) == []
    mine = {
        name for name, spec in REGISTRY.handlers.items() if spec.module.partition(".")[0] in configured.pool.modules
    }
    assert set(json.loads(metadata["query"])["handler"]["$in"]) == mine


def test_the_image_in_kubernetes_is_of_this_version() -> None:
    assert container()["image"] == f"mongo-job-supervisor:{__version__}"


def test_the_unit_is_what_the_program_would_print() -> None:
    assert UNIT.read_text() == systemd_unit(), "python -m tests.support.deployment writes it anew"
