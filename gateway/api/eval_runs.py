"""/v1/evals/{eval_id}/runs: an eval of one model on some rows. A run is a job; its rows are readable while it runs."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict

from contracts.errors import Conflict, InvalidTrainingFile, InvalidValue, NotFound
from contracts.eval_criteria import placeholders_of
from contracts.eval_items import read_items
from contracts.evals import (
    RUN_FAMILY,
    Contamination,
    CriterionCounts,
    CriterionStatistics,
    DataSource,
    Drift,
    Eval,
    EvalRun,
    EvalRunSpec,
    FileSource,
    ItemStatus,
    JsonlSource,
    Metadata,
    ModelUsage,
    OutputItem,
    ResultCounts,
    RunState,
    RunStatus,
    SampledSource,
)
from contracts.identifiers import new_id
from contracts.keys import ApiKey
from gateway.api.access import JobsKey
from gateway.api.evals import EvalService, Name, Sorted
from gateway.api.evaluated_models import EvaluatedModels
from gateway.api.job_creation import JobCreation
from gateway.api.job_lifecycle import JobLifecycle
from gateway.api.paging import After, Limit, Page
from store.artifacts import ArtifactStore
from store.evals import EvalRepository
from store.files import FileRepository
from store.paging import Order

router = APIRouter(prefix="/v1/evals/{eval_id}/runs", tags=["Evaluation"])
REPORT_FILE = "report.html"


class CreateRun(BaseModel):
    """`baseline` is Flywheel's own: an earlier run of the eval, beside which this one is put row by row."""

    model_config = ConfigDict(extra="forbid")

    data_source: DataSource
    name: Name | None = None
    metadata: Metadata | None = None
    baseline: str | None = None


class RunError(BaseModel):
    code: str
    message: str


class RunObject(BaseModel):
    """OpenAI's, and `statistics`, `contamination`, `baseline`, `schedule` and `drift`."""

    id: str
    object: Literal["eval.run"] = "eval.run"
    eval_id: str
    status: RunStatus
    model: str | None
    name: str
    created_at: int
    report_url: str
    result_counts: ResultCounts
    per_model_usage: tuple[ModelUsage, ...]
    per_testing_criteria_results: tuple[CriterionCounts, ...]
    data_source: DataSource
    error: RunError | None
    metadata: dict[str, str]
    baseline: str | None
    schedule: str | None
    statistics: tuple[CriterionStatistics, ...]
    drift: tuple[Drift, ...]
    contamination: tuple[Contamination, ...]
    job: str

    @classmethod
    def of(cls, run: EvalRun, state: RunState) -> "RunObject":
        error = None if state.error is None else RunError(code=state.error.code, message=state.error.message)
        return cls(
            id=run.id,
            eval_id=run.eval,
            status=state.status,
            model=run.model,
            name=run.name,
            created_at=run.created_at,
            report_url=f"/v1/evals/{run.eval}/runs/{run.id}/report",
            result_counts=state.counts,
            per_model_usage=run.results.per_model_usage,
            per_testing_criteria_results=run.results.per_testing_criteria_results,
            data_source=run.data_source,
            error=error,
            metadata=run.metadata,
            baseline=run.baseline,
            schedule=run.schedule,
            statistics=run.results.statistics,
            drift=run.results.drift,
            contamination=run.results.contamination,
            job=run.job,
        )


class RunDeleted(BaseModel):
    run_id: str
    object: Literal["eval.run.deleted"] = "eval.run.deleted"
    deleted: bool = True


class OutputItemObject(BaseModel):
    id: str
    object: Literal["eval.run.output_item"] = "eval.run.output_item"
    run_id: str
    eval_id: str
    created_at: int
    status: ItemStatus
    datasource_item_id: int
    datasource_item: dict[str, Any]
    results: list[dict[str, Any]]
    sample: dict[str, Any]

    @classmethod
    def of(cls, item: OutputItem, eval_id: str) -> "OutputItemObject":
        return cls(
            id=item.id,
            run_id=item.run,
            eval_id=eval_id,
            created_at=item.created_at,
            status=item.status,
            datasource_item_id=item.position,
            datasource_item=item.item,
            results=[result.model_dump(mode="json") for result in item.results],
            sample=item.sample,
        )


class EvalRunService:
    """A tenant's runs. Synchronous but for `cancel`; the routes call it in threads."""

    def __init__(
        self,
        evals: EvalRepository,
        of_evals: EvalService,
        files: FileRepository,
        artifacts: ArtifactStore,
        models: EvaluatedModels,
        creation: JobCreation,
        lifecycle: JobLifecycle,
    ) -> None:
        self._evals = evals
        self._of_evals = of_evals
        self._files = files
        self._artifacts = artifacts
        self._models = models
        self._creation = creation
        self._lifecycle = lifecycle

    def create(self, eval_id: str, wanted: CreateRun, key: ApiKey) -> RunObject:
        """Raises NotFound, ModelNotFound, InvalidValue, InvalidTrainingFile, ServiceUnavailable."""
        of = self._of_evals.require(eval_id, key)
        self.check_source(wanted.data_source, of, key)
        self.check_baseline(eval_id, wanted.baseline, key)
        run_id = new_id("evalrun")
        spec = EvalRunSpec(run=run_id, creator=key.id)
        job = self._creation.create(RUN_FAMILY, tenant=key.tenant, spec=spec.model_dump(mode="json"))
        source = wanted.data_source
        run = self._evals.add_run(
            run_id,
            of=of,
            job=job.id,
            name=wanted.name or (source.model if isinstance(source, SampledSource) else of.name),
            data_source=source,
            baseline=wanted.baseline,
            metadata=wanted.metadata or {},
        )
        self._creation.enqueue(job)
        return self._describe(run)

    def page(
        self, eval_id: str, key: ApiKey, *, after: str | None, limit: int, order: Order, status: RunStatus | None
    ) -> list[RunObject]:
        self._of_evals.require(eval_id, key)
        runs = self._evals.runs(eval_id, after=after, limit=limit, order=order, status=status)
        states = self._evals.states(runs)
        return [RunObject.of(run, states[run.id]) for run in runs]

    def retrieve(self, eval_id: str, run_id: str, key: ApiKey) -> RunObject:
        return self._describe(self._require(eval_id, run_id, key))

    async def cancel(self, eval_id: str, run_id: str, key: ApiKey) -> RunObject:
        """Raises NotFound, InvalidRequest for a run that has ended."""
        run = await asyncio.to_thread(self._require, eval_id, run_id, key)
        await self._lifecycle.cancel(run.job, key)
        return await asyncio.to_thread(self._describe, run)

    def delete(self, eval_id: str, run_id: str, key: ApiKey) -> None:
        """Raises NotFound, and Conflict for a run that is under way."""
        run = self._require(eval_id, run_id, key)
        if self._evals.states([run])[run.id].status in ("queued", "in_progress"):
            raise Conflict("The run is under way. Cancel it first.", param="run_id")
        self._of_evals.drop_report(run)  # first: while this fails, the run can be deleted again
        self._evals.delete_run(run.id)

    def items(
        self,
        eval_id: str,
        run_id: str,
        key: ApiKey,
        *,
        after: str | None,
        limit: int,
        order: Order,
        failed: bool | None,
    ) -> list[OutputItem]:
        run = self._require(eval_id, run_id, key)
        status: ItemStatus | None = None if failed is None else "fail" if failed else "pass"
        return self._evals.items(run.id, after=after, limit=limit, order=order, status=status)

    def item(self, eval_id: str, run_id: str, item_id: str, key: ApiKey) -> OutputItem:
        run = self._require(eval_id, run_id, key)
        found = self._evals.item(item_id, run=run.id)
        if found is None:
            raise NotFound(f"No such output item: `{item_id}`.", param="output_item_id")
        return found

    def report(self, eval_id: str, run_id: str, key: ApiKey) -> bytes:
        """Raises NotFound until the run has ended."""
        run = self._require(eval_id, run_id, key)
        try:
            if run.results.report is not None:
                return b"".join(self._artifacts.read(f"{run.results.report}/{REPORT_FILE}"))
        except FileNotFoundError:
            pass
        raise NotFound("The run has no report yet.", param="run_id")

    def check_baseline(self, eval_id: str, run_id: str | None, key: ApiKey) -> None:
        """Raises InvalidValue where the eval has no such run."""
        if run_id is not None and self._find(eval_id, run_id, key) is None:
            raise InvalidValue(f"The eval has no run `{run_id}`.", param="baseline")

    def check_source(self, source: DataSource, of: Eval, key: ApiKey) -> None:
        """Raises ModelNotFound, InvalidValue, InvalidTrainingFile."""
        if isinstance(source, SampledSource):
            self._models.check(source.model, key, task="generate", param="data_source.model")
        rows = source.source
        if isinstance(rows, FileSource):
            self._check_file(rows.id, key)
        elif isinstance(source, JsonlSource) and any(row.sample is None for row in rows.content):
            needed = any(
                name == "sample" for criterion in of.testing_criteria for name, _ in placeholders_of(criterion)
            )
            if needed:
                message = "The eval's criteria look at `sample`, which not every row has."
                raise InvalidValue(message, param="data_source.source.content")

    def _check_file(self, file_id: str, key: ApiKey) -> None:
        """Looks at the first row: files for evals were checked when they were uploaded."""
        file = self._files.get(file_id, tenant=key.tenant)
        if file is None:
            raise InvalidValue(f"No such file: `{file_id}`.", param="data_source.source.id")
        try:
            next(read_items(self._artifacts.lines(file.artifact)))
        except FileNotFoundError:
            message = f"The content of the file `{file_id}` is gone. Upload it again."
            raise InvalidValue(message, param="data_source.source.id") from None
        except InvalidTrainingFile as error:
            raise InvalidTrainingFile(error.message, param="data_source.source.id") from None

    def _describe(self, run: EvalRun) -> RunObject:
        newest = self._evals.run(run.id) or run
        return RunObject.of(newest, self._evals.states([run])[run.id])

    def _find(self, eval_id: str, run_id: str, key: ApiKey) -> EvalRun | None:
        run = self._evals.run(run_id)
        return run if run is not None and run.tenant == key.tenant and run.eval == eval_id else None

    def _require(self, eval_id: str, run_id: str, key: ApiKey) -> EvalRun:
        run = self._find(eval_id, run_id, key)
        if run is None:
            raise NotFound(f"No such run: `{run_id}`.", param="run_id")
        return run


def _service(request: Request) -> EvalRunService:
    service: EvalRunService = request.app.state.eval_run_service
    return service


Service = Annotated[EvalRunService, Depends(_service)]
OfStatus = Annotated[RunStatus | None, Query(description="Only runs that stand so.")]
ItemsOfStatus = Annotated[Literal["fail", "pass"] | None, Query(description="Only rows that failed or passed.")]


@router.post("", summary="Run an eval.", status_code=201)
async def create_run(eval_id: str, wanted: CreateRun, key: JobsKey, service: Service) -> RunObject:
    return await asyncio.to_thread(service.create, eval_id, wanted, key)


@router.get("", summary="List an eval's runs.")
async def list_runs(
    eval_id: str,
    key: JobsKey,
    service: Service,
    after: After = None,
    limit: Limit = 20,
    order: Sorted = "asc",
    status: OfStatus = None,
) -> Page[RunObject]:
    found = await asyncio.to_thread(
        service.page, eval_id, key, after=after, limit=limit + 1, order=order, status=status
    )
    return Page.of(found, limit)


@router.get("/{run_id}", summary="Retrieve a run.")
async def retrieve_run(eval_id: str, run_id: str, key: JobsKey, service: Service) -> RunObject:
    return await asyncio.to_thread(service.retrieve, eval_id, run_id, key)


@router.post("/{run_id}/cancel", summary="Cancel a run; the rows that are done stay.")
async def cancel_run(eval_id: str, run_id: str, key: JobsKey, service: Service) -> RunObject:
    return await service.cancel(eval_id, run_id, key)


@router.delete("/{run_id}", summary="Delete a run that has ended.")
async def delete_run(eval_id: str, run_id: str, key: JobsKey, service: Service) -> RunDeleted:
    await asyncio.to_thread(service.delete, eval_id, run_id, key)
    return RunDeleted(run_id=run_id)


@router.get("/{run_id}/output_items", summary="List a run's rows, also while it goes on.")
async def list_output_items(
    eval_id: str,
    run_id: str,
    key: JobsKey,
    service: Service,
    after: After = None,
    limit: Limit = 20,
    order: Sorted = "asc",
    status: ItemsOfStatus = None,
) -> Page[OutputItemObject]:
    failed = None if status is None else status == "fail"
    found = await asyncio.to_thread(
        service.items, eval_id, run_id, key, after=after, limit=limit + 1, order=order, failed=failed
    )
    return Page.of([OutputItemObject.of(item, eval_id) for item in found], limit)


@router.get("/{run_id}/output_items/{item_id}", summary="Retrieve a row of a run.")
async def retrieve_output_item(
    eval_id: str, run_id: str, item_id: str, key: JobsKey, service: Service
) -> OutputItemObject:
    return OutputItemObject.of(await asyncio.to_thread(service.item, eval_id, run_id, item_id, key), eval_id)


@router.get("/{run_id}/report", summary="A run's report, as a page to read.", response_class=HTMLResponse)
async def read_report(eval_id: str, run_id: str, key: JobsKey, service: Service) -> HTMLResponse:
    return HTMLResponse(await asyncio.to_thread(service.report, eval_id, run_id, key))
