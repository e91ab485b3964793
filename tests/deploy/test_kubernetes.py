from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.checks.settings_names import variables
from tests.processes import ROOT

BASE, TRAINERS = ROOT / "k8s/base", ROOT / "k8s/trainers"
SERVICES = ("gateway", "engine", "worker", "releases")


def kustomization(folder: Path = BASE) -> dict[str, Any]:
    return yaml.safe_load((folder / "kustomization.yaml").read_text())


def manifests(*folders: Path) -> list[dict[str, Any]]:
    """Of all folders if none is named."""
    files = [folder / name for folder in folders or (BASE, TRAINERS) for name in kustomization(folder)["resources"]]
    return [manifest for file in files if file.is_file() for manifest in yaml.safe_load_all(file.open())]


def environment(name: str) -> dict[str, str]:
    lines = (BASE / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for manifest in manifests():
        if manifest["kind"] in {"Deployment", "StatefulSet", "Job"}:
            yield manifest["metadata"]["name"], manifest["spec"]["template"]["spec"]


ALL_PODS = [pytest.param(pod, id=name) for name, pod in pods()]


def test_every_variable_is_a_setting() -> None:
    named = {*environment("settings.env"), *environment("secrets.env")} - {"HF_HOME"}
    for _, pod in pods():
        named |= {variable["name"] for variable in pod["containers"][0].get("env", [])} - {"HOME"}
    assert "FLYWHEEL_GATEWAY__HOST" in named
    assert named <= set(variables())


def test_trainers_are_as_many_as_their_worker_expects_and_meet_at_the_first_one() -> None:
    service, trainers = manifests(TRAINERS)
    (container,) = trainers["spec"]["template"]["spec"]["containers"]
    settings = {variable["name"]: variable["value"] for variable in container["env"]}
    assert int(settings["FLYWHEEL_WORKER__MACHINES"]) == trainers["spec"]["replicas"]
    assert settings["FLYWHEEL_WORKER__PROCESSES"] == container["resources"]["limits"]["nvidia.com/gpu"]
    host = settings["FLYWHEEL_WORKER__MEETING_POINT"].partition(":")[0]
    assert host == f"{trainers['metadata']['name']}-0.{service['metadata']['name']}"
    mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert any(settings["FLYWHEEL_WORKER__SCRATCH_DIR"].startswith(f"{path}/") for path in mounted)
    assert kustomization(TRAINERS)["images"] == [
        image for image in kustomization()["images"] if "worker" in image["name"]
    ]


def test_the_placeholder_pepper_is_refused_by_the_gateway() -> None:
    assert len(environment("secrets.env")["FLYWHEEL_AUTH__PEPPER"]) < 32


@pytest.mark.parametrize("pod", ALL_PODS)
def test_every_pod_is_confined(pod: dict[str, Any]) -> None:
    """Pod Security Standards, "restricted", which the namespace enforces."""
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
    assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("pod", ALL_PODS)
def test_volumes_and_probes_refer_to_what_there_is(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    claims = {manifest["metadata"]["name"] for manifest in manifests() if manifest["kind"] == "PersistentVolumeClaim"}
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
    assert mounted <= {*volumes, "data"}
    assert {v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v} <= claims
    ports = {port["name"] for port in container.get("ports", [])}
    probes = [container[probe] for probe in container if probe.endswith("Probe")]
    assert {probe["httpGet"]["port"] for probe in probes if "httpGet" in probe} <= ports


def test_services_and_workloads_select_their_own_pods() -> None:
    labels = {
        manifest["metadata"]["name"]: manifest["spec"]["template"]["metadata"]["labels"]
        for manifest in manifests()
        if "template" in manifest.get("spec", {})
    }
    for manifest in manifests():
        if manifest["kind"] == "Service":
            assert labels[manifest["metadata"]["name"]].items() >= manifest["spec"]["selector"].items()
        if manifest["kind"] in {"Deployment", "StatefulSet"}:
            assert manifest["spec"]["selector"]["matchLabels"] == labels[manifest["metadata"]["name"]]


def test_images_and_commands_are_those_of_compose() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    tags = {image["name"]: image["newTag"] for image in kustomization()["images"]}
    kubernetes = {name: pod["containers"][0] for name, pod in pods()}
    for name, there in {**{name: name for name in SERVICES}, "migrate": "flywheel-migrate"}.items():
        image = kubernetes[there]["image"]
        assert compose[name]["image"] == f"{image}:{tags[image]}"
        assert compose[name]["command"] == kubernetes[there]["command"]
    assert compose["redis"]["image"] == kubernetes["valkey"]["image"]


def test_what_runs_more_than_once_is_spread_and_not_taken_away_at_once() -> None:
    workloads = {each["metadata"]["name"]: each for each in manifests()}
    budgets = {each["metadata"]["name"]: each["spec"] for each in manifests() if each["kind"] == "PodDisruptionBudget"}
    assert set(budgets) == {"gateway", "engine", "releases"}
    for name, budget in budgets.items():
        assert budget["selector"]["matchLabels"] == {"app.kubernetes.io/name": name}
        (pod,) = [pod for each, pod in pods() if each == name]
        (spread,) = pod["topologySpreadConstraints"]
        assert spread["labelSelector"]["matchLabels"] == {"app.kubernetes.io/name": name}
    (scaler,) = [each["spec"] for each in manifests() if each["kind"] == "HorizontalPodAutoscaler"]
    assert scaler["scaleTargetRef"]["name"] in workloads
    assert scaler["minReplicas"] == 2
