"""One of everything that a tenant leaves behind in the database and the artifact store."""

import hashlib
import io
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import MetaData, create_engine, select

from contracts.captures import Capture, CapturedTurn, Feedback
from contracts.eval_schedules import AlertRule, NewSchedule, Timing
from contracts.evals import (
    RUN_FAMILY,
    DataSourceConfig,
    EvalRunSpec,
    FileContentRow,
    FileContentSource,
    ItemResult,
    JsonlSource,
    OutputItem,
    ReferencedMessages,
    SampledSource,
)
from contracts.files import StoredFile, StoredUpload, UploadPart
from contracts.fine_tuning import SupervisedSpec
from contracts.graders import StringCheckGrader
from contracts.identifiers import new_id
from contracts.jobs import Job
from contracts.limits import Limits
from contracts.models import ModelCard
from contracts.releases import Policy
from store.aliases import AliasRepository
from store.artifacts import ArtifactStore
from store.captures import CaptureRepository, hash_user
from store.database import Database
from store.eval_schedules import EvalScheduleRepository
from store.evals import EvalRepository
from store.feedback import FeedbackRepository
from store.files import FileRepository
from store.job_checkpoints import CheckpointRepository
from store.jobs import JobRepository
from store.keys import KeyRepository, NewApiKey
from store.releases import ReleaseRepository
from store.tenants import TenantRepository
from store.uploads import UploadRepository

BASE = "smollm2-135m-instruct"
ROWS = b'{"messages": [{"role": "user", "content": "Ahoy?"}, {"role": "assistant", "content": "Aye."}]}\n' * 10


@dataclass(frozen=True)
class TenantData:
    tenant: str
    key: NewApiKey
    file: StoredFile
    model: ModelCard
    job: Job
    """Has a checkpoint, and a worker that holds it."""
    user: str
    alias: str

    def secrets_of(self) -> tuple[str, ...]:
        """None of these may be found anywhere once the tenant is erased."""
        return (self.tenant, self.key.key.id, self.file.id, self.model.name, self.job.id)


def make_tenant_data(
    database: Database, artifacts: ArtifactStore, folder: Path, *, tenant: str, pepper: str
) -> TenantData:
    key = KeyRepository(database, pepper).create(tenant=tenant, name="web", scopes=["inference", "jobs", "admin"])
    TenantRepository(database).set_limits(tenant, Limits(requests_per_minute=6000))
    file = add_file(database, artifacts, tenant)
    _upload(database, artifacts, tenant)
    model = _model(database, artifacts, folder / tenant / "model", file)
    job = _job(database, artifacts, folder / tenant / "state", file)
    user = "anna"
    for number, name in enumerate((user, "ben")):
        _judged_capture(database, tenant, key.key.id, f"chatcmpl-{tenant}-{number}", hash_user(name, tenant, pepper))
    alias = AliasRepository(database).create("assistant", owner=tenant, model=BASE)
    ReleaseRepository(database).start(alias, candidate=model.name, policy=Policy(), tenant=tenant, actor=key.key.id)
    _evaluation(database, tenant, key.key.id)
    return TenantData(tenant, key, file, model, job, user, alias.name)


def rows_of(database_url: str) -> dict[str, list[str]]:
    """Every row of every table, as text."""
    engine = create_engine(database_url)
    metadata = MetaData()
    with engine.connect() as connection:
        metadata.reflect(connection)
        found = {
            name: sorted(json.dumps(dict(row), sort_keys=True) for row in connection.execute(select(table)).mappings())
            for name, table in metadata.tables.items()
        }
    engine.dispose()
    return found


def add_file(database: Database, artifacts: ArtifactStore, tenant: str) -> StoredFile:
    file_id = new_id("file")
    file = StoredFile(
        id=file_id,
        tenant=tenant,
        filename="ships.jsonl",
        purpose="fine-tune",
        bytes=len(ROWS),
        digest=f"sha256:{hashlib.sha256(ROWS).hexdigest()}",
        artifact=f"files/{file_id}",
        created_at=int(time.time()),
    )
    artifacts.write(file.artifact, io.BytesIO(ROWS))
    FileRepository(database).add(file)
    return file


def _upload(database: Database, artifacts: ArtifactStore, tenant: str) -> None:
    uploads, now = UploadRepository(database), int(time.time())
    upload = StoredUpload(
        id=new_id("upload"),
        tenant=tenant,
        filename="half.jsonl",
        purpose="fine-tune",
        bytes=2 * len(ROWS),
        status="pending",
        created_at=now,
        expires_at=now + 3600,
    )
    part = UploadPart(id=new_id("part"), upload=upload.id, bytes=len(ROWS), created_at=now)
    artifacts.write(f"uploads/{upload.id}/{part.id}", io.BytesIO(ROWS))
    uploads.add(upload)
    uploads.add_part(part)


def _spec(file: StoredFile, suffix: str) -> dict[str, Any]:
    spec = SupervisedSpec(
        base_model=BASE,
        training_file=file.id,
        training_file_digest=file.digest,
        suffix=suffix,
        seed=1,
    )
    return spec.model_dump(mode="json")


def _model(database: Database, artifacts: ArtifactStore, folder: Path, file: StoredFile) -> ModelCard:
    jobs, tenant = JobRepository(database), file.tenant
    job = jobs.create(family="finetune.supervised", tenant=tenant, spec=_spec(file, "ship"), trace_context={})
    taken = jobs.acquire(job.id, lease_s=30)
    assert taken is not None
    weights = f"models/{job.id}/{taken[1]}"
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(tenant.encode() * 1000)
    (folder / "adapter_config.json").write_text("{}")
    card = ModelCard(
        name=f"ft:{BASE}:{tenant}:ship:{job.id[-8:]}",
        kind="adapter",
        task="generate",
        parent=BASE,
        tenant=tenant,
        weights=weights,
        digest=artifacts.upload_folder(folder, weights),
        job=job.id,
        metrics={"train_loss": 0.1 + 0.2},
        context_length=2048,
        created_at=int(time.time()),
    )
    jobs.finish(job.id, taken[1], "succeeded", message="Done.", result_model=card.name, model=card)
    return card


def _job(database: Database, artifacts: ArtifactStore, folder: Path, file: StoredFile) -> Job:
    jobs, tenant = JobRepository(database), file.tenant
    job = jobs.create(family="finetune.supervised", tenant=tenant, spec=_spec(file, "law"), trace_context={})
    taken = jobs.acquire(job.id, lease_s=30)
    assert taken is not None
    folder.mkdir(parents=True)
    (folder / "optimizer.pt").write_bytes(b"state")
    artifact = f"checkpoints/{job.id}/{taken[1]}/5"
    checkpoints = CheckpointRepository(database)
    digest = artifacts.upload_folder(folder, artifact)
    checkpoints.add(job.id, taken[1], step=5, artifact=artifact, digest=digest, bytes=5, metrics={"step": 5.0})
    return taken[0]


def _evaluation(database: Database, tenant: str, key_id: str) -> None:
    evals, jobs, run_id = EvalRepository(database), JobRepository(database), new_id("evalrun")
    config = DataSourceConfig(type="custom", item_schema={"type": "object"})
    check = StringCheckGrader(
        type="string_check", name="says aye", input="{{ sample.output_text }}", reference="Aye", operation="like"
    )
    made = evals.create(tenant=tenant, name="manners", config=config, criteria=[check], metadata={"of": tenant})
    rows = FileContentSource(type="file_content", content=(FileContentRow(item={"question": "¿Ahoy?"}),))
    spec = EvalRunSpec(run=run_id, creator=key_id).model_dump(mode="json")
    job = jobs.create(family=RUN_FAMILY, tenant=tenant, spec=spec, trace_context={})
    source = JsonlSource(type="jsonl", source=rows)
    evals.add_run(run_id, of=made, job=job.id, name="first", data_source=source, baseline=None, metadata={})
    taken = jobs.acquire(job.id, lease_s=30)
    assert taken is not None
    item = OutputItem(
        id=new_id("outputitem"),
        run=run_id,
        position=0,
        status="pass",
        item={"question": "¿Ahoy?"},
        sample={"output_text": "Aye."},
        results=(ItemResult(name="says aye", type="string_check", score=1.0, passed=True),),
        created_at=int(time.time()),
    )
    evals.add_items([item], job=job.id, fence=taken[1])
    asked = SampledSource(
        type="completions",
        source=rows,
        model=BASE,
        input_messages=ReferencedMessages(type="item_reference", item_reference="item.messages"),
    )
    schedule = NewSchedule(
        name="nightly",
        timing=Timing(cron="0 4 * * *"),
        data_source=asked,
        baseline="first",
        criteria=None,
        alert=AlertRule(),
    )
    now = int(time.time())
    EvalScheduleRepository(database).create(made.id, schedule, tenant=tenant, creator=key_id, now=now)
    jobs.finish(job.id, taken[1], "succeeded", message="Done.")


def _judged_capture(database: Database, tenant: str, key_id: str, response_id: str, user_hash: str) -> None:
    about: dict[str, Any] = {"response_id": response_id, "tenant": tenant, "key": key_id, "model": BASE}
    now = int(time.time())
    capture = Capture(
        id=new_id("capture"),
        route="/v1/chat/completions",
        messages=[CapturedTurn(role="user", content="¿Qué es un «flywheel»?")],
        answer="A wheel.\n",
        user_hash=user_hash,
        redacted={"email": 1},
        duration_s=0.1,
        created_at=now,
        **about,
    )
    CaptureRepository(database).add([capture])
    feedback = Feedback(id=new_id("feedback"), rating="down", correction="Yes.", tags=["tone"], created_at=now, **about)
    FeedbackRepository(database).put(feedback)
