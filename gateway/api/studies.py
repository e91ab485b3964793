"""/v1/flywheel/studies: variants of a model, measured by serving each, and which of them to take."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.datasets import RowKind, read_rows
from contracts.errors import Conflict, InvalidRequest, InvalidTrainingFile, InvalidValue, NotFound
from contracts.files import StoredFile
from contracts.invalidation import Invalidation
from contracts.jobs import FINAL_STATUSES, Job, JobError, JobStatus
from contracts.keys import ApiKey
from contracts.models import ModelCard
from contracts.studies import (
    REPORT_FIELD,
    REPORT_FILES,
    REPORT_FOLDER,
    STUDY_FAMILY,
    VARIANT_FIELD,
    Recommendation,
    StudyPlan,
    StudyReport,
    StudySpec,
    VariantResult,
    WithAdapter,
)
from gateway.api.access import JobsKey
from gateway.api.job_creation import JobCreation
from gateway.api.job_lifecycle import SSE_HEADERS, EventObject, JobLifecycle
from gateway.api.paging import After, Limit, Page
from gateway.routing.models import ModelDirectory
from store.artifacts import ArtifactStore
from store.files import FileRepository
from store.jobs import JobRepository
from store.models import ModelRepository
from store.news import publish_news

router = APIRouter(prefix="/v1/flywheel/studies", tags=["Studies"])
FILE_ROWS: dict[str, frozenset[RowKind]] = {
    "conversations_file": frozenset({"chat"}),
    "text_file": frozenset({"text"}),
    "training_file": frozenset({"chat", "text"}),
}
"""What rows each of a study's files may have."""
EVENT_PAGE = 500
TEXT_TASK = "generate"


class StudyObject(BaseModel):
    """`variants` grows while the study runs; `report` is there at its end."""

    id: str
    object: Literal["study"] = "study"
    model: str
    status: JobStatus
    created_at: int
    finished_at: int | None
    recommended_model: str | None
    error: JobError | None
    plan: StudyPlan

    @classmethod
    def of(cls, job: Job) -> "StudyObject":
        plan = StudyPlan.model_validate({name: job.spec[name] for name in StudyPlan.model_fields if name in job.spec})
        return cls(
            id=job.id,
            model=plan.model,
            status=job.status,
            created_at=job.created_at,
            finished_at=job.finished_at,
            recommended_model=job.result_model,
            error=job.error,
            plan=plan,
        )


class StudyDetails(StudyObject):
    variants: list[VariantResult]
    frontier: list[str]
    recommendation: Recommendation | None
    report: StudyReport | None


class KeepVariant(BaseModel):
    model_config = ConfigDict(extra="forbid")

    variant: str


class KeptVariant(BaseModel):
    """The variant's model is in the registry; an engine starts at its first request."""

    id: str
    object: Literal["model"] = "model"
    variant: str
    digest: str
    metrics: dict[str, float]


class StudyService:
    """Studies of the key's tenant. Synchronous but for what announces; the routes call it in threads."""

    def __init__(
        self,
        jobs: JobRepository,
        lifecycle: JobLifecycle,
        creation: JobCreation,
        files: FileRepository,
        artifacts: ArtifactStore,
        directory: ModelDirectory,
        models: ModelRepository,
        redis: Redis,
    ) -> None:
        self._jobs = jobs
        self.lifecycle = lifecycle
        self._creation = creation
        self._files = files
        self._artifacts = artifacts
        self._directory = directory
        self._models = models
        self._redis = redis

    def create(self, plan: StudyPlan, key: ApiKey) -> Job:
        """Raises ModelNotFound, InvalidValue, InvalidTrainingFile, ServiceUnavailable."""
        card = self._directory.require(plan.model, key)
        if card.kind == "adapter" or card.task != TEXT_TASK:
            what = "is an adapter; study its base, with the adapter in a variant" if card.kind == "adapter" else None
            reason = what or "does not generate text"
            raise InvalidValue(f"The model `{plan.model}` {reason}.", param="model")
        for place, variant in enumerate(plan.variants):
            if isinstance(variant, WithAdapter):
                self._require_adapter(variant, card, key, param=f"variants.{place}.adapter")
        digests = {
            field: self._require_file(file_id, field, key).digest
            for field in FILE_ROWS
            if (file_id := getattr(plan, field)) is not None
        }
        spec = StudySpec(**plan.model_dump(exclude={"model"}), model=card.name, file_digests=digests)
        job = self._creation.create(STUDY_FAMILY, tenant=key.tenant, spec=spec.model_dump(mode="json"))
        self._creation.enqueue(job)
        return job

    def require(self, study_id: str, key: ApiKey) -> Job:
        """Raises NotFound."""
        job = self._jobs.get(study_id)
        if job is None or job.tenant != key.tenant or job.family != STUDY_FAMILY:
            raise NotFound(f"No such study: `{study_id}`.", param="study_id")
        return job

    def require_unfinished(self, study_id: str, key: ApiKey) -> Job:
        """One that was cancelled may be cancelled again. Raises NotFound, InvalidRequest."""
        job = self.require(study_id, key)
        if job.status in FINAL_STATUSES - {"cancelled"}:
            raise InvalidRequest(f"The study has already ended: it {job.status}.", param="study_id")
        return job

    def page(self, key: ApiKey, *, after: str | None, limit: int) -> list[Job]:
        return self._jobs.page(tenant=key.tenant, family=STUDY_FAMILY, after=after, limit=limit)

    def describe(self, study_id: str, key: ApiKey) -> StudyDetails:
        """With what its events tell of variants so far. Raises NotFound."""
        job = self.require(study_id, key)
        report, variants = None, dict[str, VariantResult]()
        for data in self._told(job):
            if VARIANT_FIELD in data:
                result = VariantResult.model_validate(data[VARIANT_FIELD])
                variants[result.name] = result
            if REPORT_FIELD in data:
                report = StudyReport.model_validate(data[REPORT_FIELD])
        return StudyDetails(
            **StudyObject.of(job).model_dump(),
            variants=list(variants.values()) if report is None else list(report.variants),
            frontier=[] if report is None else list(report.frontier),
            recommendation=None if report is None else report.recommendation,
            report=report,
        )

    def report_file(self, study_id: str, form: str, key: ApiKey) -> tuple[Iterator[bytes], str]:
        """The file's content and its type. Raises NotFound, also for a study that has not ended well."""
        report = self._require_report(study_id, key)
        name, media_type = REPORT_FILES[form]
        path = f"{report.artifact}/{REPORT_FOLDER}/{name}"
        if not self._artifacts.files(path):
            raise NotFound("The report's files are gone.", param="study_id")
        return self._artifacts.read(path), media_type

    async def keep(self, study_id: str, variant: str, key: ApiKey) -> ModelCard:
        """Puts a variant's model into the registry, where the recommended one is already.

        Raises NotFound, InvalidValue, Conflict.
        """
        card = await asyncio.to_thread(self._put, study_id, variant, key)
        await self._directory.refresh()
        with suppress(RedisError):  # gateways look by themselves every few seconds
            await publish_news(self._redis, Invalidation(kind="model", id=card.name))
        return card

    def _put(self, study_id: str, variant: str, key: ApiKey) -> ModelCard:
        report = self._require_report(study_id, key)
        found = report.variant(variant)
        if found is None:
            raise InvalidValue(f"The study has no variant `{variant}`.", param="variant")
        if found.card is None:
            kept = ", ".join(one.name for one in report.variants if one.card is not None) or "none"
            reason = f"The weights of `{variant}` were not kept: it is not on the frontier. There are {kept}."
            raise InvalidValue(reason, param="variant")
        if not self._artifacts.files(found.card.weights):
            raise Conflict(f"The weights of `{variant}` were deleted.", param="variant")
        self._models.put(found.card)
        return found.card

    def _require_report(self, study_id: str, key: ApiKey) -> StudyReport:
        report = self.describe(study_id, key).report
        if report is None:
            raise NotFound("The study has no report; it has not ended, or not well.", param="study_id")
        return report

    def _told(self, job: Job) -> Iterator[dict[str, Any]]:
        """The data of its metrics, oldest first."""
        cursor = 0
        while page := self._jobs.events_since(job.id, cursor, limit=EVENT_PAGE):
            for numbered in page:
                cursor = numbered.sequence
                if numbered.event.type == "metrics":
                    yield numbered.event.data

    def _require_adapter(self, variant: WithAdapter, base: ModelCard, key: ApiKey, *, param: str) -> None:
        adapter = self._directory.find(variant.adapter)
        visible = adapter in self._directory.visible_to(key)
        if adapter is None or not visible or adapter.kind != "adapter" or adapter.parent != base.name:
            raise InvalidValue(f"`{variant.adapter}` is no adapter of `{base.name}`.", param=param)

    def _require_file(self, file_id: str, field: str, key: ApiKey) -> StoredFile:
        """Looks at the first row: the whole file was checked when it was uploaded."""
        file = self._files.get(file_id, tenant=key.tenant)
        if file is None:
            raise InvalidValue(f"No such file: `{file_id}`.", param=field)
        try:
            kind, _ = read_rows(self._artifacts.lines(file.artifact), filename=file.filename)
        except FileNotFoundError:
            raise InvalidValue(f"The content of the file `{file_id}` is gone. Upload it again.", param=field) from None
        if kind not in FILE_ROWS[field]:
            wanted = " or ".join(sorted(FILE_ROWS[field]))
            reason = f"The file `{file_id}` has rows of the kind {kind}; a {field} needs {wanted}."
            raise InvalidTrainingFile(reason, param=field)
        return file


def _service(request: Request) -> StudyService:
    service: StudyService = request.app.state.study_service
    return service


Service = Annotated[StudyService, Depends(_service)]
Stream = Annotated[bool, Query(description="Stream the events as they come, oldest first, until the study has ended.")]
Form = Annotated[Literal["json", "html", "svg", "png"], Query(description="svg and png are the picture alone.")]


@router.post("", summary="Create a study.")
async def create_study(plan: StudyPlan, key: JobsKey, service: Service) -> StudyObject:
    return StudyObject.of(await asyncio.to_thread(service.create, plan, key))


@router.get("", summary="List studies, newest first.")
async def list_studies(key: JobsKey, service: Service, after: After = None, limit: Limit = 20) -> Page[StudyObject]:
    jobs = await asyncio.to_thread(service.page, key, after=after, limit=limit + 1)
    return Page.of([StudyObject.of(job) for job in jobs], limit)


@router.get("/{study_id}", summary="Retrieve a study with what is known of its variants.")
async def retrieve_study(study_id: str, key: JobsKey, service: Service) -> StudyDetails:
    return await asyncio.to_thread(service.describe, study_id, key)


@router.post("/{study_id}/cancel", summary="Cancel a study.")
async def cancel_study(study_id: str, key: JobsKey, service: Service) -> StudyObject:
    await asyncio.to_thread(service.require_unfinished, study_id, key)
    return StudyObject.of(await service.lifecycle.cancel(study_id, key))


@router.post("/{study_id}/pause", summary="Pause a study; it keeps the variants that are finished.")
async def pause_study(study_id: str, key: JobsKey, service: Service) -> StudyObject:
    await asyncio.to_thread(service.require_unfinished, study_id, key)
    return StudyObject.of(await service.lifecycle.pause(study_id, key))


@router.post("/{study_id}/resume", summary="Resume a paused study.")
async def resume_study(study_id: str, key: JobsKey, service: Service) -> StudyObject:
    job = await asyncio.to_thread(service.require, study_id, key)
    if job.status != "paused":
        raise InvalidRequest(f"Only a paused study can be resumed; this one is {job.status}.", param="study_id")
    return StudyObject.of(await service.lifecycle.resume(study_id, key))


@router.get(
    "/{study_id}/events",
    summary="List a study's events, newest first, or stream them.",
    response_model=Page[EventObject],
)
async def list_study_events(
    study_id: str, key: JobsKey, service: Service, after: After = None, limit: Limit = 20, stream: Stream = False
) -> Page[EventObject] | StreamingResponse:
    await asyncio.to_thread(service.require, study_id, key)
    if stream:
        events = await service.lifecycle.stream(study_id, key, after=after)
        return StreamingResponse(events, media_type="text/event-stream", headers=SSE_HEADERS)
    found = await asyncio.to_thread(service.lifecycle.events, study_id, key, after=after, limit=limit + 1)
    return Page.of(found, limit)


@router.get("/{study_id}/report", summary="The report of a study that has ended.", response_class=StreamingResponse)
async def retrieve_report(study_id: str, key: JobsKey, service: Service, form: Form = "html") -> StreamingResponse:
    content, media_type = await asyncio.to_thread(service.report_file, study_id, form, key)
    return StreamingResponse(content, media_type=media_type)


@router.post("/{study_id}/models", summary="Register the model of a variant that is on the frontier.")
async def keep_variant(study_id: str, wanted: KeepVariant, key: JobsKey, service: Service) -> KeptVariant:
    card = await service.keep(study_id, wanted.variant, key)
    return KeptVariant(id=card.name, variant=wanted.variant, digest=card.digest, metrics=card.metrics)
