"""`flywheel finetune`, up to the queue."""

from pathlib import Path

from cli.instructions import TEXT_MODEL
from contracts.models import ModelCard
from store.files import FileRepository
from store.jobs import JobRepository
from store.models import ModelRepository
from tests.cli.conftest import Flywheel
from tests.gateway_process import GatewayProcess

TENANT = "shipyard"


def rows(file: Path, asked: str) -> Path:
    row = '{"messages": [{"role": "user", "content": "%s %d?"}, {"role": "assistant", "content": "Aye."}]}\n'
    file.write_text("".join(row % (asked, number) for number in range(10)))
    return file


def test_a_job_learns_from_one_file_and_is_measured_on_another(
    flywheel: Flywheel, gateway: GatewayProcess, tmp_path: Path
):
    fields = {"kind": "base", "task": "generate", "weights": "/nowhere", "digest": "sha256:0"}
    card = ModelCard.model_validate({"name": TEXT_MODEL, "context_length": 2048, "created_at": 1} | fields)
    ModelRepository(gateway.database).put(card)
    secret = gateway.new_key(tenant=TENANT).secret
    at = {"FLYWHEEL_BASE_URL": gateway.base_url, "FLYWHEEL_API_KEY": secret}
    gateway.process.wait_until(lambda: TEXT_MODEL in flywheel("models", **at).stdout)
    learn, measure = rows(tmp_path / "learn.jsonl", "Question"), rows(tmp_path / "measure.jsonl", "Other")

    done = flywheel("finetune", str(learn), "--validation", str(measure), "--suffix", "sea", **at)

    assert "is queued" in done.stdout, done.stderr
    (job,) = JobRepository(gateway.database).page(tenant=TENANT)
    files = FileRepository(gateway.database)
    named = [files.get(job.spec[name], tenant=TENANT).filename for name in ("training_file", "validation_file")]
    assert named == ["learn.jsonl", "measure.jsonl"]

    missing = flywheel("finetune", str(learn), "--validation", "none.jsonl", **at)
    assert (missing.returncode, "There is no file none.jsonl." in missing.stderr) == (1, True)
