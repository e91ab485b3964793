"""/v1/fine_tuning/jobs: OpenAI's fine-tuning API. A job is a row in SQL; Celery carries its id to a worker."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from contracts.datasets import read_rows
from contracts.errors import InvalidTrainingFile, InvalidValue, NotFound
from contracts.files import StoredFile
from contracts.fine_tuning import FineTuningSpec, SupervisedHyperparameters, family_of, parse_spec
from contracts.graders import RewardModelGrader
from contracts.jobs import Job, JobError, JobStatus
from contracts.keys import ApiKey
from gateway.api.access import JobsKey
from gateway.api.fine_tuning_methods import SPECS, Method, SupervisedMethod
from gateway.api.job_creation import JobCreation
from gateway.api.job_quota import JobQuota
from gateway.api.paging import After, Limit, Page
from gateway.routing.models import ModelDirectory
from store.artifacts import ArtifactStore
from store.files import FileRepository
from store.jobs import JobRepository

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["Fine-tuning"])
FINE_TUNING = "finetune."
"""What the families of this API begin with. Other jobs have other routes."""


class CreateJob(BaseModel):
    """OpenAI's request. `hyperparameters` is the older way to write `method.supervised.hyperparameters`."""

    model_config = ConfigDict(extra="forbid")

    model: str
    training_file: str
    validation_file: str | None = None
    hyperparameters: SupervisedHyperparameters | None = None
    method: Method | None = None
    suffix: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")] | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    priority: Annotated[int, Field(ge=0, le=100, description="Jobs with a lower number run first.")] = 0

    def chosen_method(self) -> Method:
        if self.method is not None:
            return self.method
        return Method(supervised=SupervisedMethod(hyperparameters=self.hyperparameters or SupervisedHyperparameters()))


class JobObject(BaseModel):
    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    model: str
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    fine_tuned_model: str | None
    organization_id: str
    status: JobStatus
    training_file: str
    validation_file: str | None
    result_files: list[str] = []
    trained_tokens: int | None
    error: JobError | None
    seed: int
    hyperparameters: dict[str, Any]
    method: Method

    @classmethod
    def of(cls, job: Job) -> "JobObject":
        spec = parse_spec(job.spec)
        return cls(
            id=job.id,
            model=spec.base_model,
            created_at=job.created_at,
            finished_at=job.finished_at,
            estimated_finish=job.estimated_finish_at,
            fine_tuned_model=job.result_model,
            organization_id=job.tenant,
            status=job.status,
            training_file=spec.training_file,
            validation_file=spec.validation_file,
            trained_tokens=job.trained_tokens,
            error=job.error,
            seed=spec.seed,
            hyperparameters=spec.hyperparameters.model_dump(),
            method=Method.of(spec),
        )


class FineTuningService:
    """Synchronous but for `create`; the routes call it in threads."""

    def __init__(
        self,
        jobs: JobRepository,
        files: FileRepository,
        artifacts: ArtifactStore,
        directory: ModelDirectory,
        creation: JobCreation,
        quota: JobQuota,
    ) -> None:
        self._jobs = jobs
        self._files = files
        self._artifacts = artifacts
        self._directory = directory
        self._creation = creation
        self._quota = quota

    def create(self, wanted: CreateJob, key: ApiKey) -> Job:
        """Raises ModelNotFound, InvalidValue, InsufficientQuota, ServiceUnavailable (the job then counts as failed)."""
        method = wanted.chosen_method()
        spec_type = SPECS[method.type]
        card = self._directory.require(wanted.model, key)
        if card.kind == "adapter" or card.task != spec_type.base_task:
            what = f"The model `{wanted.model}` cannot be fine-tuned by the method `{method.type}`."
            raise InvalidValue(what, param="model")
        fields = method.chosen_fields()
        self._require_reward_model(fields.get("grader"), key)
        for name in ("training_file", "validation_file", "general_file"):
            wanted_file = fields.get(name) or getattr(wanted, name, None)
            if wanted_file is not None:
                file = self._require_file(wanted_file, spec_type, key, param=name)
                fields |= {name: file.id, f"{name}_digest": file.digest}
        spec = spec_type.model_validate(
            {"base_model": card.name, "suffix": wanted.suffix, "seed": wanted.seed or 0, **fields}
        )
        self._quota.check(spec, card, key)
        job = self._creation.create(
            family_of(method.type),
            tenant=key.tenant,
            spec=spec.model_dump(mode="json", by_alias=True),
            needs_gpu=spec.needs_gpu,
            priority=wanted.priority,
        )
        self._creation.enqueue(job)
        return job

    def _require_file(self, file_id: str, spec: type[FineTuningSpec], key: ApiKey, *, param: str) -> StoredFile:
        """Looks at the first row: the whole file was checked when it was uploaded."""
        file = self._files.get(file_id, tenant=key.tenant)
        if file is None:
            raise InvalidValue(f"No such file: `{file_id}`.", param=param)
        try:
            kind, _ = read_rows(self._artifacts.lines(file.artifact), filename=file.filename)
        except FileNotFoundError:
            raise InvalidValue(f"The content of the file `{file_id}` is gone. Upload it again.", param=param) from None
        if kind not in spec.rows:
            wanted = " or ".join(sorted(spec.rows))
            reason = f"The file `{file_id}` has rows of the kind {kind}; this method needs {wanted}."
            raise InvalidTrainingFile(reason, param=param)
        return file

    def _require_reward_model(self, grader: Any, key: ApiKey) -> None:
        if isinstance(grader, RewardModelGrader) and self._directory.require(grader.model, key).task != "classify":
            reason = f"The model `{grader.model}` does not classify texts, so it cannot be a reward model."
            raise InvalidValue(reason, param="method.reinforcement.grader.model")

    def require(self, job_id: str, key: ApiKey) -> Job:
        job = self._jobs.get(job_id)
        if job is None or job.tenant != key.tenant or not job.family.startswith(FINE_TUNING):
            raise NotFound(f"No such fine-tuning job: `{job_id}`.", param="fine_tuning_job_id")
        return job

    def page(self, key: ApiKey, *, after: str | None, limit: int) -> list[Job]:
        return self._jobs.page(tenant=key.tenant, family=FINE_TUNING, after=after, limit=limit)


def _service(request: Request) -> FineTuningService:
    service: FineTuningService = request.app.state.fine_tuning_service
    return service


Service = Annotated[FineTuningService, Depends(_service)]


@router.post("", summary="Create a fine-tuning job.")
async def create_job(wanted: CreateJob, key: JobsKey, service: Service) -> JobObject:
    return JobObject.of(await asyncio.to_thread(service.create, wanted, key))


@router.get("", summary="List fine-tuning jobs, newest first.")
async def list_jobs(key: JobsKey, service: Service, after: After = None, limit: Limit = 20) -> Page[JobObject]:
    jobs = await asyncio.to_thread(service.page, key, after=after, limit=limit + 1)
    return Page.of([JobObject.of(job) for job in jobs], limit)


@router.get("/{job_id}", summary="Retrieve a fine-tuning job.")
async def retrieve_job(job_id: str, key: JobsKey, service: Service) -> JobObject:
    return JobObject.of(await asyncio.to_thread(service.require, job_id, key))
