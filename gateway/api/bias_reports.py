"""/v1/flywheel/bias_reports: what a model does to groups of people, and what it gives away. A report is a job."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field

from contracts.bias import (
    BIAS_FAMILY,
    FOLDER_FIELD,
    PROJECTION_FILE,
    REPORT_FIELD,
    REPORT_TOLD,
    BiasReport,
    BiasSpec,
    Mitigation,
)
from contracts.errors import InvalidValue, NotFound
from contracts.jobs import Job, JobError, JobStatus
from contracts.keys import ApiKey
from gateway.api.access import JobsKey
from gateway.api.eval_runs import REPORT_FILE
from gateway.api.evaluated_models import EvaluatedModels
from gateway.api.job_creation import JobCreation
from gateway.api.job_lifecycle import JobLifecycle
from gateway.api.paging import After, Limit, Page
from store.artifacts import ArtifactStore
from store.job_results import JobResults
from store.jobs import JobRepository

router = APIRouter(prefix="/v1/flywheel/bias_reports", tags=["Evaluation"])


class CreateBiasReport(BaseModel):
    """`embedding_model`: its associations are tested too. `mitigate`: measured a second time with each of these."""

    model_config = ConfigDict(extra="forbid")

    model: str
    embedding_model: str | None = None
    mitigate: Annotated[tuple[Mitigation, ...], Field(max_length=2)] = ()


class Projection(BaseModel):
    """`basis` is orthonormal, of (axes, dimensions): v - v Bᵀ B takes its directions out of a vector v."""

    embedding_model: str
    axes: list[str]
    basis: list[list[float]]


class BiasReportObject(BaseModel):
    id: str
    object: Literal["bias_report"] = "bias_report"
    model: str
    embedding_model: str | None
    status: JobStatus
    created_at: int
    finished_at: int | None
    error: JobError | None
    results: BiasReport | None


class BiasReportService:
    """A tenant's reports. Synchronous but for `cancel`; the routes call it in threads."""

    def __init__(
        self,
        jobs: JobRepository,
        results: JobResults,
        artifacts: ArtifactStore,
        models: EvaluatedModels,
        creation: JobCreation,
        lifecycle: JobLifecycle,
    ) -> None:
        self._jobs, self._results = jobs, results
        self._artifacts, self._models = artifacts, models
        self._creation, self._lifecycle = creation, lifecycle

    def create(self, wanted: CreateBiasReport, key: ApiKey) -> BiasReportObject:
        """Raises ModelNotFound, InvalidValue, ServiceUnavailable."""
        self._models.check(wanted.model, key, task="generate", param="model")
        if wanted.embedding_model is not None:
            self._models.check(wanted.embedding_model, key, task="embed", param="embedding_model")
        elif "embeddings" in wanted.mitigate:
            raise InvalidValue("Debiasing is of an encoder: name an `embedding_model`.", param="mitigate")
        spec = BiasSpec(**wanted.model_dump(), creator=key.id)
        job = self._creation.create(BIAS_FAMILY, tenant=key.tenant, spec=spec.model_dump(mode="json"))
        self._creation.enqueue(job)
        return self._describe([job])[0]

    def page(self, key: ApiKey, *, after: str | None, limit: int) -> list[BiasReportObject]:
        jobs = self._jobs.page(tenant=key.tenant, family=BIAS_FAMILY, after=after, limit=limit)
        return self._describe(jobs)

    def retrieve(self, report_id: str, key: ApiKey) -> BiasReportObject:
        return self._describe([self._require(report_id, key)])[0]

    async def cancel(self, report_id: str, key: ApiKey) -> BiasReportObject:
        job = await asyncio.to_thread(self._require, report_id, key)
        return self._describe([await self._lifecycle.cancel(job.id, key)])[0]

    def file(self, report_id: str, name: str, key: ApiKey) -> bytes:
        """Of the report's folder. Raises NotFound until the job has ended, and for what it did not write."""
        told = self._told([self._require(report_id, key)])
        if report_id not in told:
            raise NotFound("The report is not written yet.", param="report_id")
        try:
            return b"".join(self._artifacts.read(f"{told[report_id][FOLDER_FIELD]}/{name}"))
        except FileNotFoundError:
            raise NotFound("The report was made without that.", param="report_id") from None

    def _describe(self, jobs: list[Job]) -> list[BiasReportObject]:
        told = self._told(jobs)
        return [_object(job, told.get(job.id)) for job in jobs]

    def _told(self, jobs: list[Job]) -> dict[str, dict[str, Any]]:
        """By job, what those that ended well told of their reports. One query."""
        ended = [job.id for job in jobs if job.status == "succeeded"]
        return {job: told[-1] for job, told in self._results.told(ended, beginning=REPORT_TOLD).items()}

    def _require(self, report_id: str, key: ApiKey) -> Job:
        job = self._jobs.get(report_id)
        if job is None or job.tenant != key.tenant or job.family != BIAS_FAMILY:
            raise NotFound(f"No such bias report: `{report_id}`.", param="report_id")
        return job


def _object(job: Job, told: dict[str, Any] | None) -> BiasReportObject:
    spec = BiasSpec.model_validate(job.spec)
    return BiasReportObject(
        id=job.id,
        model=spec.model,
        embedding_model=spec.embedding_model,
        status=job.status,
        created_at=job.created_at,
        finished_at=job.finished_at,
        error=job.error,
        results=None if told is None else BiasReport.model_validate(told[REPORT_FIELD]),
    )


def _service(request: Request) -> BiasReportService:
    service: BiasReportService = request.app.state.bias_report_service
    return service


Service = Annotated[BiasReportService, Depends(_service)]


@router.post("", summary="Measure a model's bias.", status_code=201)
async def create_bias_report(wanted: CreateBiasReport, key: JobsKey, service: Service) -> BiasReportObject:
    return await asyncio.to_thread(service.create, wanted, key)


@router.get("", summary="List bias reports, newest first.")
async def list_bias_reports(
    key: JobsKey, service: Service, after: After = None, limit: Limit = 20
) -> Page[BiasReportObject]:
    return Page.of(await asyncio.to_thread(service.page, key, after=after, limit=limit + 1), limit)


@router.get("/{report_id}", summary="Retrieve a bias report with its figures.")
async def retrieve_bias_report(report_id: str, key: JobsKey, service: Service) -> BiasReportObject:
    return await asyncio.to_thread(service.retrieve, report_id, key)


@router.post("/{report_id}/cancel", summary="Cancel a bias report.")
async def cancel_bias_report(report_id: str, key: JobsKey, service: Service) -> BiasReportObject:
    return await service.cancel(report_id, key)


@router.get("/{report_id}/report", summary="A bias report, as a page to read.", response_class=HTMLResponse)
async def read_bias_report(report_id: str, key: JobsKey, service: Service) -> HTMLResponse:
    return HTMLResponse(await asyncio.to_thread(service.file, report_id, REPORT_FILE, key))


@router.get("/{report_id}/projection", summary="What takes gender, age and religion out of an encoder's vectors.")
async def read_projection(report_id: str, key: JobsKey, service: Service) -> Projection:
    told = await asyncio.to_thread(service.file, report_id, PROJECTION_FILE, key)
    return Projection.model_validate_json(told)
