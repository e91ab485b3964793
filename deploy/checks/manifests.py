"""Everything that can be applied to a cluster: every kustomization, and the chart with every file of k8s/values."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from deploy.checks.outcome import Outcome, lines, run
from deploy.checks.render import ENVIRONMENT, KUSTOMIZATIONS, REPOSITORY, RenderFailed, helm, kustomize, lint

VALUES = REPOSITORY / "k8s/values"
NO_FAULT = ("without a schema: ",)


def value_files() -> list[Path]:
    return sorted(VALUES.glob("*.yaml"))


def values(file: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(file.read_text())
    return read


def write_kustomizations(source: Path, folder: Path) -> tuple[list[Path], list[str]]:
    """The files, one a kustomization of `source`, which has its secrets; and what kustomize refuses."""
    return _write(folder, {name: lambda name=name: kustomize(name, folder=source) for name in KUSTOMIZATIONS})


def write_charts(folder: Path) -> tuple[list[Path], list[str]]:
    """The files, one a file of values; and what Helm refuses or warns of."""
    renderings = {
        f"chart-{each.stem}": lambda each=each: yaml.safe_dump_all(helm(values(each))) for each in value_files()
    }
    files, faults = _write(folder, renderings)
    faults += [f"{each.name}: {warning}" for each in value_files() for warning in lint(values(each))]
    return files, faults


def _write(folder: Path, renderings: Mapping[str, Callable[[], str]]) -> tuple[list[Path], list[str]]:
    files, faults = [], []
    for name, render in renderings.items():
        file = folder / f"{name.replace('/', '-')}.yaml"
        try:
            file.write_text(render())
        except RenderFailed as error:
            faults.append(f"{name}: {error}")
        else:
            files.append(file)
    return files, faults


def check_schemas(files: list[Path]) -> Outcome:
    """By the schemas of Kubernetes and of the operators; see schemas.py."""
    done = run([ENVIRONMENT / "python", "-m", "deploy.checks.schemas", *files])
    told = done.stdout.splitlines()
    counted = [int(line.split()[-2]) for line in told if line.endswith(" manifests")]
    faults = tuple(line for line in told if not line.endswith(" manifests") and not line.startswith(NO_FAULT))
    if len(counted) != len(files):
        faults += lines(done)
    without = "".join(f", no schema for {line.split(': ')[1]}" for line in told if line.startswith(NO_FAULT))
    return Outcome(f"{sum(counted)} manifests{without}", faults)
