"""checkov's policies for manifests and Dockerfiles, and the exceptions that we make, each with its reason.

checkov has an environment of its own, `policies`. An exception that nothing needs any more is a fault too.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.checks.outcome import Outcome, lines, run
from deploy.checks.render import REPOSITORY

CHECKOV = REPOSITORY / ".flywheel/envs/policies/bin/checkov"


@dataclass(frozen=True, slots=True)
class Exemption:
    """Of the resources whose names match: `Deployment.flywheel.engine`, or a file's path for a Dockerfile."""

    policy: str
    resources: str
    reason: str


EXEMPTIONS = (
    Exemption(
        "CKV_K8S_8",
        r"\.(engine|worker|releases|trainers|cli)$",
        "each watches itself, and ends if it must",
    ),
    Exemption("CKV_K8S_8", r"\.postgresql$", "for trying out; a slow recovery must not be cut off"),
    Exemption("CKV_K8S_9", r"\.(worker|releases|trainers|cli)$", "serves nothing, so nobody asks whether it is ready"),
    Exemption("CKV_K8S_11", r"", "a CPU limit slows a pod down while the node is idle; requests share it out"),
    Exemption("CKV_K8S_15", r"", "a tag is a version and never moves, so pulling again brings nothing"),
    Exemption("CKV_K8S_35", r"", "namespaces hold our pods alone, and Kustomize renames the Secret when it changes"),
    Exemption("CKV_K8S_40", r"\.(valkey|postgresql)$", "the images of others have users of their own"),
    Exemption("CKV_K8S_43", r"", "deploy/pin_images.py writes digests where a registry can be reached"),
    Exemption("CKV_DOCKER_2", r"", "health is asked for by docker-compose.yml and Kubernetes, which know ports"),
)


@dataclass(frozen=True, slots=True)
class Finding:
    policy: str
    about: str
    resource: str
    file: str

    def __str__(self) -> str:
        return f"{self.file}: {self.resource}: {self.policy}: {self.about}"


def check(manifests: Path, dockerfiles: list[Path], *, exemptions: tuple[Exemption, ...] = EXEMPTIONS) -> Outcome:
    """`manifests` is a folder of rendered ones."""
    if not CHECKOV.exists():
        return Outcome("", left_out="checkov is not installed; `python3.11 cli/bootstrap.py policies`")
    passed, findings, used = 0, list[Finding](), set[Exemption]()
    for framework, path in (("kubernetes", ["-d", manifests]), *(("dockerfile", ["-f", each]) for each in dockerfiles)):
        done = run([CHECKOV, *path, "--framework", framework, "--skip-download", "--compact", "-o", "json"])
        try:
            report = json.loads(done.stdout)
        except ValueError:
            return Outcome("", lines(done) or ("checkov told nothing",))
        passed += report["summary"]["passed"]
        for finding in _failed(report):
            covering = [each for each in exemptions if _covers(each, finding)]
            used.update(covering)
            if not covering:
                findings.append(finding)
    stale = [f"exemption of {each.policy} ({each.reason}): nothing needs it" for each in exemptions if each not in used]
    return Outcome(f"{passed} kept, {len(used)} kinds of exceptions", (*map(str, findings), *stale))


def _failed(report: dict[str, Any]) -> Iterator[Finding]:
    for each in report["results"]["failed_checks"]:
        yield Finding(each["check_id"], each["check_name"], each["resource"], each["file_path"].strip("/"))


def _covers(exemption: Exemption, finding: Finding) -> bool:
    return exemption.policy == finding.policy and re.search(exemption.resources, finding.resource) is not None
