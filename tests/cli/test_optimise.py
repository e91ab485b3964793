"""`flywheel optimise` up to the queue, and `flywheel studies` on what a worker told."""

from pathlib import Path

import pytest

from cli.instructions import TEXT_MODEL
from contracts.models import ModelCard
from contracts.studies import REPORT_FIELD, VARIANT_FIELD, Constraints, StudyReport, StudySpec
from store.files import FileRepository
from store.jobs import JobRepository
from store.models import ModelRepository
from tests.cli.conftest import Flywheel
from tests.gateway_process import GatewayProcess
from tests.workers.compress.test_frontier import ALL, MEASUREMENT
from workers.compress.frontier import recommend, whole_frontier

TENANT = "shipyard"


@pytest.fixture
def at(flywheel: Flywheel, gateway: GatewayProcess) -> dict[str, str]:
    fields = {"kind": "base", "task": "generate", "weights": "/nowhere", "digest": "sha256:0"}
    card = ModelCard.model_validate({"name": TEXT_MODEL, "context_length": 2048, "created_at": 1} | fields)
    ModelRepository(gateway.database).put(card)
    where = {"FLYWHEEL_BASE_URL": gateway.base_url, "FLYWHEEL_API_KEY": gateway.new_key(tenant=TENANT).secret}
    gateway.process.wait_until(lambda: TEXT_MODEL in flywheel("models", **where).stdout)
    return where


def test_a_study_is_asked_for_with_its_constraints_and_files(
    flywheel: Flywheel, gateway: GatewayProcess, at: dict[str, str], tmp_path: Path
):
    (tmp_path / "plan.yaml").write_text(
        "constraints: {min_score: 0.3}\nvariants: [{name: w8a8, technique: quantise, scheme: w8a8}]\n"
    )
    (tmp_path / "text.txt").write_text("The wheel turns. " * 40)
    options = ["--target", "memory", "--max-ttft-ms", "200", "--text", str(tmp_path / "text.txt")]
    done = flywheel("optimise", TEXT_MODEL, *options, "--plan", str(tmp_path / "plan.yaml"), **at)
    assert "1 variants" in done.stdout, done.stdout + done.stderr
    job = JobRepository(gateway.database).get(done.stdout.split()[1])
    spec = StudySpec.model_validate(job.spec)
    assert (spec.target, spec.constraints) == ("memory", Constraints(max_ttft_ms=200, min_score=0.3))
    files = FileRepository(gateway.database)
    assert files.get(spec.conversations_file, tenant=TENANT).filename == "questions_held_out.jsonl"
    assert files.get(spec.text_file, tenant=TENANT).filename == "text.txt"

    refused = flywheel("optimise", TEXT_MODEL, "--min-score", "3", **at)
    assert (refused.returncode, "constraints.min_score" in refused.stderr) == (1, True)


def test_a_study_is_shown_while_it_runs_and_with_its_report_at_the_end(
    flywheel: Flywheel, gateway: GatewayProcess, at: dict[str, str], tmp_path: Path
):
    told = flywheel("optimise", TEXT_MODEL, **at).stdout
    jobs = JobRepository(gateway.database)
    job = jobs.get(told.split()[1])
    _, fence = jobs.acquire(job.id, lease_s=30)
    for variant in ALL[:2]:
        jobs.add_event(job.id, fence, "", type="metrics", data={VARIANT_FIELD: variant.model_dump(mode="json")})
    shown = flywheel("studies", "show", job.id, **at).stdout
    assert "baseline" in shown
    assert "The study is running." in shown

    folder = f"models/{job.id}/{fence}"
    report = StudyReport(
        model=TEXT_MODEL,
        target="latency",
        constraints=Constraints(),
        measurement=MEASUREMENT,
        machine="a machine",
        variants=tuple(ALL),
        frontier=tuple(whole_frontier(ALL)),
        recommendation=recommend(ALL, "latency", Constraints(), MEASUREMENT),
        artifact=folder,
        seconds=60,
    )
    jobs.add_event(job.id, fence, "", type="metrics", data={REPORT_FIELD: report.model_dump(mode="json")})
    for name in ("report.html", "report.json", "pareto.svg", "pareto.png"):
        with (tmp_path / name).open("wb+") as file:
            file.write(name.encode())
            file.seek(0)
            gateway.artifacts.write(f"{folder}/report/{name}", file)
    jobs.finish(job.id, fence, "succeeded", message="done")

    shown = flywheel("studies", "show", job.id, "--report", str(tmp_path / "out"), **at).stdout
    assert "fast ◀" in shown
    assert "broken: failed" in shown
    assert (tmp_path / "out" / "pareto.png").read_bytes() == b"pareto.png"
    assert "succeeded" in flywheel("studies", "list", **at).stdout
    refused = flywheel("studies", "keep", job.id, "beaten", **at)
    assert (refused.returncode, "not on the frontier" in refused.stderr) == (1, True)
