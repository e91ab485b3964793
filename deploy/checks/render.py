"""Renders what an operator applies: overlays by kustomize, the chart by Helm, both of the environment `deploy`."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
ENVIRONMENT = REPOSITORY / ".flywheel/envs/deploy/bin"
CHART = REPOSITORY / "k8s/chart"
OVERLAYS = ("local", "cpu", "gpu", "production")
KUSTOMIZATIONS = ("base", "trainers", "trainjob", "multi-node", *(f"overlays/{name}" for name in OVERLAYS))
_HELM = """
import json, sys, helm_python
values = json.load(sys.stdin)
with helm_python.Chart.load(sys.argv[1]) as chart:
    chart.validate_schema(values)
    print(json.dumps(chart.render(values, name="flywheel", namespace=sys.argv[2])))
"""
_LINT = """
import json, sys, helm_python
report = helm_python.lint(sys.argv[1], json.load(sys.stdin), strict=True, namespace="flywheel")
print(json.dumps([each["error"] for each in report["messages"] if each["severity"] >= 2] + report["errors"]))
"""

Manifest = dict[str, Any]


class RenderFailed(RuntimeError):
    """kustomize or Helm refused; the message is theirs."""


def kustomize(name: str, *, folder: Path = REPOSITORY / "k8s") -> str:
    """The manifests of a folder of k8s/. Raises RenderFailed."""
    return _run([ENVIRONMENT / "kubectl", "kustomize", folder / name])


def helm(values: Mapping[str, Any] | None = None, *, namespace: str = "flywheel") -> list[Manifest]:
    """The chart's manifests. Raises RenderFailed, also where the schema refuses the values."""
    rendered = _run([ENVIRONMENT / "python", "-c", _HELM, CHART, namespace], json.dumps(values or {}))
    return [each for text in json.loads(rendered).values() for each in manifests(text)]


def lint(values: Mapping[str, Any]) -> list[str]:
    """What `helm lint --strict` finds, warnings included. Raises RenderFailed."""
    found: list[str] = json.loads(_run([ENVIRONMENT / "python", "-c", _LINT, CHART], json.dumps(values)))
    return list(dict.fromkeys(found))


def manifests(text: str) -> list[Manifest]:
    return [each for each in yaml.safe_load_all(text) if each is not None]


def pod_template(manifest: Manifest) -> Manifest | None:
    """Of a workload, whatever its kind; None of what has no pods."""
    spec = manifest.get("spec", {})
    template: Manifest | None = spec.get("jobTemplate", {}).get("spec", spec).get("template")
    return template


def with_secrets(folder: Path) -> Path:
    """A copy of k8s/ in which an operator has filled in the secrets that no repository holds."""
    copy = folder / "k8s"
    shutil.copytree(REPOSITORY / "k8s", copy)
    shutil.copy(copy / "overlays/secrets.env.example", copy / "overlays/local/secrets.env")
    return copy


def _run(command: list[str | Path], told: str = "") -> str:
    done = subprocess.run(command, input=told, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RenderFailed(done.stderr.strip())
    return done.stdout
