"""The checks of `make validate-deploy` find what is wrong; that they pass on what is here, the other tests say."""

import os
from pathlib import Path

import pytest
import yaml

from deploy.checks import policies
from deploy.checks.compose import FILE, ComposeRefused, config
from deploy.checks.outcome import Outcome
from deploy.checks.validate import DOCKERFILES, hadolint, report, run_tests


def changed(folder: Path, service: str, field: str, value: object) -> Path:
    compose = yaml.safe_load(FILE.read_text())
    compose["services"][service][field] = value
    file = folder / "docker-compose.yml"
    file.write_text(yaml.safe_dump(compose))
    return file


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("imagee", "x", "imagee"),
        ("volumes", ["./deploy/nowhere:/x:ro"], "nowhere"),
        ("depends_on", ["nobody"], "nobody"),
    ],
)
def test_a_wrong_compose_file_is_refused(tmp_path: Path, field: str, value: object, told: str) -> None:
    with pytest.raises(ComposeRefused, match=told):
        config([], file=changed(tmp_path, "gateway", field, value))


def test_hadolint_finds_what_is_wrong_and_nothing_in_ours(tmp_path: Path) -> None:
    wrong = tmp_path / "Dockerfile"
    wrong.write_text("FROM python:3.11-slim\nRUN cd /tmp\n")
    assert any("DL3003" in fault for fault in hadolint([wrong]).faults)
    assert hadolint(DOCKERFILES).passed


def test_policies_find_a_privileged_container_and_an_exemption_that_nothing_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a program that reports as checkov does, whose environment the tests do not install."""
    checkov = tmp_path / "checkov"
    checkov.write_text(
        """#!/bin/sh
echo '{"summary": {"passed": 7}, "results": {"failed_checks": [
 {"check_id": "CKV_K8S_16", "check_name": "privileged", "resource": "Deployment.f.engine", "file_path": "/base.yaml"},
 {"check_id": "CKV_K8S_8", "check_name": "liveness", "resource": "Deployment.f.engine", "file_path": "/base.yaml"}]}}'
"""
    )
    checkov.chmod(0o755)
    monkeypatch.setattr(policies, "CHECKOV", checkov)
    needed = policies.Exemption("CKV_K8S_8", r"\.engine$", "watches itself")
    stale = policies.Exemption("CKV_K8S_8", r"\.gateway$", "nobody needs it")
    outcome = policies.check(tmp_path, [], exemptions=(needed, stale))
    assert outcome.faults == (
        "base.yaml: Deployment.f.engine: CKV_K8S_16: privileged",
        "exemption of CKV_K8S_8 (nobody needs it): nothing needs it",
    )


def test_what_cannot_be_checked_is_told_and_not_passed_off_as_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(policies, "CHECKOV", Path(os.devnull) / "checkov")
    left_out = policies.check(Path(), [])
    assert report([("checkov", left_out, 0.1)]) == 0
    told = capsys.readouterr().out
    assert "left out" in told
    assert "policies" in told


def test_a_fault_is_told_and_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = [("one", Outcome("3 files"), 0.1), ("two", Outcome("4 files", ("b.yaml: [x] is wrong",)), 0.2)]
    assert report(outcomes) == 1
    told = capsys.readouterr().out
    assert "two: b.yaml: [x] is wrong" in told
    assert [line.split()[-2] for line in told.splitlines()[1:3]] == ["passed", "FAILED"]


def test_a_file_without_tests_is_a_fault() -> None:
    assert not run_tests("rendered.py").passed
