"""What the manifests in k8s/ render to, for all tests of a run."""

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path

from deploy.checks.render import KUSTOMIZATIONS, Manifest, kustomize, manifests, with_secrets

WORKLOADS = ("Deployment", "StatefulSet", "Job", "TrainingRuntime", "LeaderWorkerSet")


@functools.cache
def texts() -> Mapping[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        copy = with_secrets(Path(folder))
        return {name: kustomize(name, folder=copy) for name in KUSTOMIZATIONS}


def rendered(name: str) -> list[Manifest]:
    return manifests(texts()[name])


def find(among: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = (each for each in among if each["kind"] == kind and each["metadata"]["name"] == name)
    return found


def container(workload: Manifest) -> Manifest:
    (only,) = workload["spec"]["template"]["spec"]["containers"]
    return only


def settings(among: list[Manifest], workload: Manifest) -> dict[str, str]:
    """What a workload's container reads: the shared ConfigMap, then its own values."""
    config = next(each for each in among if each["kind"] == "ConfigMap" and "settings" in each["metadata"]["name"])
    own = container(workload).get("env", [])
    return config["data"] | {each["name"]: each["value"] for each in own if "value" in each}
