"""`make validate-deploy`: everything about deployment that can be proven without a container engine or a cluster.

Prints a line for each check, then what is wrong; ends with 1 if anything is.
"""

import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from cli.tables import make_table, print_table
from cli.terminal import console
from deploy.checks import compose, manifests, policies
from deploy.checks.outcome import Outcome, lines, run
from deploy.checks.render import ENVIRONMENT, REPOSITORY, with_secrets
from tests.debian import NotToBeHad, program

OBSERVABILITY = REPOSITORY / "deploy/observability"
DOCKERFILES = (REPOSITORY / "deploy/Dockerfile",)

Check = tuple[str, Callable[[], Outcome]]


def hadolint(files: Iterable[Path] = DOCKERFILES) -> Outcome:
    files = list(files)
    return Outcome(f"{len(files)} Dockerfile", lines(run([ENVIRONMENT / "hadolint", *files])))


def alert_rules() -> Outcome:
    try:
        promtool = program("promtool")
    except NotToBeHad as error:
        return Outcome("", left_out=str(error))
    valid = run([*promtool, "check", "config", "prometheus.yml"], folder=OBSERVABILITY)
    with tempfile.TemporaryDirectory() as folder:
        series = Path(folder) / "alerts.yml"
        text = (REPOSITORY / "tests/deploy/alerts.yml").read_text()
        series.write_text(text.replace("rules/", f"{OBSERVABILITY}/rules/"))
        fire = run([*promtool, "test", "rules", series])
    rules = re.findall(r"(\d+) rules found", valid.stdout + valid.stderr)
    return Outcome(
        f"{sum(map(int, rules))} rules, {text.count('- name: ')} made-up histories", lines(valid) + lines(fire)
    )


def run_tests(*files: str) -> Outcome:
    """Of tests/deploy."""
    paths = [REPOSITORY / "tests/deploy" / file for file in files]
    done = run([sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *paths])
    counted = re.search(r"(\d+) passed", done.stdout)
    failed = tuple(line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR")))
    return Outcome(f"{counted[1] if counted else 0} tests", failed or lines(done))


def checks(folder: Path) -> list[Check]:
    """In their order; later ones use what earlier ones render into `folder`."""
    rendered, charts = folder / "rendered", folder / "charts"
    for each in (rendered, charts):
        each.mkdir()
    files: list[Path] = []

    def overlays() -> Outcome:
        made, faults = manifests.write_kustomizations(with_secrets(folder), rendered)
        files.extend(made)
        return Outcome(f"{len(made)} kustomizations", tuple(faults))

    def chart() -> Outcome:
        made, faults = manifests.write_charts(rendered)
        files.extend(made)
        return Outcome(f"{len(made)} files of values", tuple(faults))

    return [
        ("docker compose config", compose.check),
        ("hadolint", hadolint),
        ("kubectl kustomize", overlays),
        ("helm lint and template", chart),
        ("schemas of the API and of operators", lambda: manifests.check_schemas(files)),
        ("checkov", lambda: policies.check(rendered, list(DOCKERFILES))),
        ("promtool", alert_rules),
        ("network policies", lambda: run_tests("test_network.py")),
        (
            "how the files fit the services",
            lambda: run_tests("test_images.py", "test_kubernetes.py", "test_overlays.py"),
        ),
    ]


def report(outcomes: Iterable[tuple[str, Outcome, float]]) -> int:
    """Prints them, and what is wrong below. The exit code."""
    table = make_table("check", "what", "result", "seconds")
    wrong: list[tuple[str, str]] = []
    for name, outcome, seconds in outcomes:
        result = "left out" if outcome.left_out else "passed" if outcome.passed else "FAILED"
        table.add_row(name, outcome.left_out or outcome.checked, result, f"{seconds:.1f}")
        wrong += [(name, fault) for fault in outcome.faults]
    print_table(table)
    for name, fault in wrong:
        console().print(f"{name}: {fault}", markup=False, highlight=False)
    return 1 if wrong else 0


def timed(check: Check) -> tuple[str, Outcome, float]:
    name, run_check = check
    started_at = time.monotonic()
    outcome = run_check()
    return name, outcome, time.monotonic() - started_at


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        sys.exit(report([timed(check) for check in checks(Path(work))]))
