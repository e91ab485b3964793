"""The family `evaluate.release`, as far as it goes without an engine. With real ones: tests/end_to_end."""

import hashlib
import json
from io import BytesIO

import pytest

from contracts.files import StoredFile
from contracts.jobs import Job
from contracts.releases import EVALUATION_FAMILY, EvaluationSpec
from store.files import FileRepository
from tests.workers.conftest import Workshop
from workers.evaluate.release import evaluate_release

ROW = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Aye"}]}
CONTENT = b"".join(json.dumps(ROW).encode() + b"\n" for _ in range(10))


def job_on(workshop: Workshop, content: bytes, *, digest_of: bytes | None = None) -> Job:
    digest = f"sha256:{hashlib.sha256(content if digest_of is None else digest_of).hexdigest()}"
    workshop.artifacts.write("files/held-out", BytesIO(content))
    file = StoredFile(
        id="file-1",
        tenant="acme",
        filename="held-out.jsonl",
        purpose="fine-tune",
        bytes=len(content),
        digest=digest,
        artifact="files/held-out",
        created_at=1,
    )
    FileRepository(workshop.database).add(file)
    spec = EvaluationSpec(stable="old", candidate="new", file="file-1", file_digest=digest, confidence=0.95)
    return workshop.jobs.create(
        family=EVALUATION_FAMILY, tenant="acme", spec=spec.model_dump(mode="json"), trace_context={}
    )


@pytest.mark.parametrize(
    ("content", "digest_of", "code"),
    [
        (CONTENT, None, "model_not_found"),
        (CONTENT, b"something else", "file_changed"),
        (CONTENT[:100], None, "invalid_file"),
    ],
)
def test_what_cannot_be_evaluated_fails_in_words(
    workshop: Workshop, content: bytes, digest_of: bytes | None, code: str
):
    job = job_on(workshop, content, digest_of=digest_of)
    workshop.run(job, evaluate_release)
    assert workshop.now(job).error.code == code
