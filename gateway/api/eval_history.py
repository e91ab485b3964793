"""/v1/flywheel/eval_history: a model's scores over time, as figures and as a picture."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel

from contracts.errors import NotFound
from contracts.evals import Direction, EvalRun, Interval
from contracts.keys import ApiKey
from gateway.api.access import JobsKey
from store.artifacts import ArtifactStore
from store.evals import EvalRepository

router = APIRouter(prefix="/v1/flywheel/eval_history", tags=["Evaluation"])
Form = Annotated[
    Literal["json", "svg", "png"],
    Query(description="Figures of all evals, or a picture of one: `eval`, or that of the newest run."),
]
PICTURES = {"svg": "image/svg+xml", "png": "image/png"}


class HistoryPoint(BaseModel):
    """Of one run and criterion. `drift` is null for runs that no schedule made."""

    eval_id: str
    eval_name: str
    run_id: str
    schedule_id: str | None
    created_at: int
    criterion: str
    score: Interval
    pass_rate: Interval
    drift: Direction | None


class HistoryObject(BaseModel):
    """Oldest first."""

    object: Literal["eval_history"] = "eval_history"
    model: str
    data: list[HistoryPoint]


class EvalHistoryService:
    """What a tenant measured of a model. Synchronous; the routes call it in threads."""

    def __init__(self, evals: EvalRepository, artifacts: ArtifactStore) -> None:
        self._evals, self._artifacts = evals, artifacts

    def figures(self, model: str, key: ApiKey, *, of_eval: str | None, limit: int) -> HistoryObject:
        """Empty for a model that was never measured, whether it is there still or not."""
        found = self._evals.history(model, tenant=key.tenant, of_eval=of_eval, limit=limit)
        return HistoryObject(model=model, data=[point for name, run in found for point in _points(name, run)])

    def picture(self, model: str, key: ApiKey, *, of_eval: str | None, form: str) -> bytes:
        """As the newest run's job has drawn it. Raises NotFound where fewer than two runs ended."""
        for _, run in self._evals.history(model, tenant=key.tenant, of_eval=of_eval, limit=1):
            try:
                return b"".join(self._artifacts.read(f"{run.results.report}/history.{form}"))
            except FileNotFoundError:
                break
        raise NotFound(f"There is no picture of `{model}` yet: it needs two runs of an eval.", param="model")


def _points(name: str, run: EvalRun) -> list[HistoryPoint]:
    drift = {found.criterion: found.direction for found in run.results.drift}
    return [
        HistoryPoint(
            eval_id=run.eval,
            eval_name=name,
            run_id=run.id,
            schedule_id=run.schedule,
            created_at=run.created_at,
            criterion=found.name,
            score=found.score,
            pass_rate=found.pass_rate,
            drift=drift.get(found.name),
        )
        for found in run.results.statistics
    ]


def _service(request: Request) -> EvalHistoryService:
    service: EvalHistoryService = request.app.state.eval_history_service
    return service


Service = Annotated[EvalHistoryService, Depends(_service)]
OfEval = Annotated[str | None, Query(alias="eval", description="Only runs of this eval.")]
Runs = Annotated[int, Query(ge=1, le=1000, description="How many runs, the newest ones.")]


@router.get("/{model:path}", summary="A model's scores over time.", response_model=HistoryObject)
async def read_history(
    model: str, key: JobsKey, service: Service, of_eval: OfEval = None, limit: Runs = 100, form: Form = "json"
) -> HistoryObject | Response:
    if form == "json":
        return await asyncio.to_thread(service.figures, model, key, of_eval=of_eval, limit=limit)
    drawn = await asyncio.to_thread(service.picture, model, key, of_eval=of_eval, form=form)
    return Response(drawn, media_type=PICTURES[form])
