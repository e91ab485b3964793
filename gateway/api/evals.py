"""/v1/evals: OpenAI's evals API. An eval says what is measured; its runs (eval_runs.py) measure it."""

import asyncio
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator

from contracts.engine import EngineTask
from contracts.errors import InvalidValue, NotFound
from contracts.eval_criteria import Criterion, Judged, TextSimilarityCriterion, placeholders_of
from contracts.evals import DataSourceConfig, Eval, EvalRun, Metadata, check_names
from contracts.keys import ApiKey
from gateway.api.access import JobsKey
from gateway.api.evaluated_models import EvaluatedModels
from gateway.api.paging import After, Limit, Page
from store.artifacts import ArtifactStore
from store.evals import EvalOrder, EvalRepository
from store.jobs import JobRepository
from store.paging import Order

router = APIRouter(prefix="/v1/evals", tags=["Evaluation"])

Found = TypeVar("Found")
Name = Annotated[str, Field(min_length=1, max_length=255)]
Sorted = Annotated[Order, Query(description="By time, oldest or newest first.")]


class CreateEval(BaseModel):
    model_config = ConfigDict(extra="forbid")

    data_source_config: DataSourceConfig
    testing_criteria: Annotated[tuple[Criterion, ...], Field(min_length=1, max_length=32)]
    name: Name | None = None
    metadata: Metadata | None = None

    @field_validator("testing_criteria")
    @classmethod
    def _names_differ(cls, value: tuple[Criterion, ...]) -> tuple[Criterion, ...]:
        check_names(value)
        return value


class UpdateEval(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    metadata: Metadata | None = None


class DataSourceConfigObject(BaseModel):
    """`schema` is of a whole row, as templates see it."""

    type: Literal["custom"] = "custom"
    row_schema: dict[str, Any] = Field(serialization_alias="schema")


class EvalObject(BaseModel):
    id: str
    object: Literal["eval"] = "eval"
    name: str
    data_source_config: DataSourceConfigObject
    testing_criteria: list[dict[str, Any]]
    metadata: dict[str, str]
    created_at: int

    @classmethod
    def of(cls, found: Eval) -> "EvalObject":
        config = found.data_source_config
        properties: dict[str, Any] = {"item": config.item_schema}
        if config.include_sample_schema:
            properties["sample"] = {"type": "object", "properties": {"output_text": {"type": "string"}}}
        return cls(
            id=found.id,
            name=found.name,
            data_source_config=DataSourceConfigObject(row_schema={"type": "object", "properties": properties}),
            testing_criteria=[each.model_dump(mode="json", by_alias=True) for each in found.testing_criteria],
            metadata=found.metadata,
            created_at=found.created_at,
        )


class EvalDeleted(BaseModel):
    eval_id: str
    object: Literal["eval.deleted"] = "eval.deleted"
    deleted: bool = True


class EvalService:
    """A tenant's evals. Synchronous; the routes call it in threads."""

    def __init__(
        self, evals: EvalRepository, jobs: JobRepository, artifacts: ArtifactStore, models: EvaluatedModels
    ) -> None:
        self._evals, self._jobs, self._artifacts, self._models = evals, jobs, artifacts, models

    def create(self, wanted: CreateEval, key: ApiKey) -> Eval:
        """Raises InvalidValue, ModelNotFound."""
        fields = wanted.data_source_config.item_schema.get("properties")
        for position, criterion in enumerate(wanted.testing_criteria):
            self._check(criterion, fields, key, place=f"testing_criteria.{position}")
        return self._evals.create(
            tenant=key.tenant,
            name=wanted.name or "Evaluation",
            config=wanted.data_source_config,
            criteria=wanted.testing_criteria,
            metadata=wanted.metadata or {},
        )

    def page(self, key: ApiKey, *, after: str | None, limit: int, order: Order, by: EvalOrder) -> list[Eval]:
        return self._evals.page(tenant=key.tenant, after=after, limit=limit, order=order, by=by)

    def require(self, eval_id: str, key: ApiKey) -> Eval:
        return _found(self._evals.get(eval_id, tenant=key.tenant), eval_id)

    def update(self, eval_id: str, wanted: UpdateEval, key: ApiKey) -> Eval:
        changed = self._evals.update(eval_id, tenant=key.tenant, name=wanted.name, metadata=wanted.metadata)
        return _found(changed, eval_id)

    def delete(self, eval_id: str, key: ApiKey) -> None:
        """With its runs, their rows and their reports. A run that is under way is cancelled. Raises NotFound."""
        self.require(eval_id, key)
        runs = self._evals.runs(eval_id, after=None, limit=None)
        for run in runs:
            self._jobs.cancel(run.job, tenant=key.tenant)
            self.drop_report(run)  # first: while this fails, the eval can be deleted again
        dropped = {run.results.report for run in runs}
        for run in _found(self._evals.delete(eval_id, tenant=key.tenant), eval_id):
            if run.results.report not in dropped:  # a worker has written it meanwhile
                self.drop_report(run)

    def drop_report(self, run: EvalRun) -> None:
        if run.results.report is not None:
            self._artifacts.delete(run.results.report)

    def _check(self, criterion: Criterion, fields: Any, key: ApiKey, *, place: str) -> None:
        """What a run would fail of."""
        if isinstance(fields, dict):
            for source, path in sorted(placeholders_of(criterion)):
                if source == "item" and path.partition(".")[0] not in fields:
                    message = f"`{{{{ item.{path} }}}}` is not in `data_source_config.item_schema`."
                    raise InvalidValue(message, param=place)
        if isinstance(criterion, Judged | TextSimilarityCriterion) and criterion.model is not None:
            task: EngineTask = "embed" if isinstance(criterion, TextSimilarityCriterion) else "generate"
            self._models.check(criterion.model, key, task=task, param=f"{place}.model")


def _found(thing: Found | None, eval_id: str) -> Found:
    if thing is None:
        raise NotFound(f"No such eval: `{eval_id}`.", param="eval_id")
    return thing


def _service(request: Request) -> EvalService:
    service: EvalService = request.app.state.eval_service
    return service


Service = Annotated[EvalService, Depends(_service)]


@router.post("", summary="Create an eval: what is measured.", status_code=201)
async def create_eval(wanted: CreateEval, key: JobsKey, service: Service) -> EvalObject:
    return EvalObject.of(await asyncio.to_thread(service.create, wanted, key))


@router.get("", summary="List evals.")
async def list_evals(
    key: JobsKey,
    service: Service,
    after: After = None,
    limit: Limit = 20,
    order: Sorted = "asc",
    order_by: Annotated[EvalOrder, Query(description="Which time.")] = "created_at",
) -> Page[EvalObject]:
    found = await asyncio.to_thread(service.page, key, after=after, limit=limit + 1, order=order, by=order_by)
    return Page.of([EvalObject.of(each) for each in found], limit)


@router.get("/{eval_id}", summary="Retrieve an eval.")
async def retrieve_eval(eval_id: str, key: JobsKey, service: Service) -> EvalObject:
    return EvalObject.of(await asyncio.to_thread(service.require, eval_id, key))


@router.post("/{eval_id}", summary="Change the name or the metadata of an eval.")
async def update_eval(eval_id: str, wanted: UpdateEval, key: JobsKey, service: Service) -> EvalObject:
    return EvalObject.of(await asyncio.to_thread(service.update, eval_id, wanted, key))


@router.delete("/{eval_id}", summary="Delete an eval with its runs.")
async def delete_eval(eval_id: str, key: JobsKey, service: Service) -> EvalDeleted:
    await asyncio.to_thread(service.delete, eval_id, key)
    return EvalDeleted(eval_id=eval_id)
