"""/v1/flywheel/harness_runs: models that generate on tasks of lm-evaluation-harness, encoders on labelled rows."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from contracts.encoder_rows import read_encoder_rows, read_grouped_rows
from contracts.errors import InvalidTrainingFile, InvalidValue, NotFound
from contracts.evals import EXTERNAL
from contracts.fairness import FAIRNESS, PAGE_FILE, FairnessReport
from contracts.harness import (
    ENCODER_FAMILY,
    HARNESS_FAMILY,
    KEPT,
    LOCAL_TASKS,
    RESULTS,
    SCORES,
    TOLD,
    EncoderSpec,
    HarnessSpec,
    Score,
    TaskName,
    result_file,
)
from contracts.jobs import Job, JobError, JobStatus
from contracts.keys import ApiKey
from contracts.models import ModelCard
from gateway.api.access import JobsKey
from gateway.api.job_creation import JobCreation
from gateway.api.job_lifecycle import JobLifecycle
from gateway.api.paging import After, Limit, Page
from gateway.routing.aliases import Aliases
from store.artifacts import ArtifactStore
from store.files import FileRepository
from store.job_results import JobResults
from store.jobs import JobRepository

router = APIRouter(prefix="/v1/flywheel/harness_runs", tags=["Evaluation"])
MOST_TASKS = 64
MOST_ROWS = 100_000
FIELDS_OF_GENERATION = ("tasks", "num_fewshot", "apply_chat_template")
FIELDS_OF_FAIRNESS = ("sensitive", "positive")
Column = Annotated[str, Field(min_length=1, max_length=256)]


class CreateHarnessRun(BaseModel):
    """`tasks`, `num_fewshot` and `apply_chat_template` are for models that generate, `file` is for encoders.

    `sensitive`, for classifiers, is a column of the file that says the group of each row; `positive` is the label whose
    fairness is measured, all if left out.
    """

    model_config = ConfigDict(extra="forbid")

    model: str
    tasks: Annotated[tuple[TaskName, ...], Field(min_length=1, max_length=MOST_TASKS)] | None = None
    file: str | None = None
    limit: Annotated[int, Field(ge=1, le=MOST_ROWS)] | None = None
    num_fewshot: Annotated[int, Field(ge=0, le=64)] | None = None
    apply_chat_template: bool = False
    sensitive: Column | None = None
    positive: Column | None = None


class HarnessRunObject(BaseModel):
    """`scores` grows with each task that is finished. The run's events are those of its job."""

    id: str
    object: Literal["flywheel.harness_run"] = "flywheel.harness_run"
    model: str
    status: JobStatus
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    tasks: tuple[str, ...] | None
    file: str | None
    limit: int | None
    num_fewshot: int | None
    apply_chat_template: bool
    sensitive: str | None
    positive: str | None
    scores: list[Score]
    fairness: FairnessReport | None
    error: JobError | None

    @classmethod
    def of(cls, job: Job, told: list[dict[str, Any]]) -> "HarnessRunObject":
        by_task = {each["task"]: each[SCORES] for each in told}  # told again after a worker was killed: the last holds
        spec = job.spec
        return cls(
            id=job.id,
            model=spec["model"],
            status=job.status,
            created_at=job.created_at,
            finished_at=job.finished_at,
            estimated_finish=job.estimated_finish_at,
            tasks=spec.get("tasks"),
            file=spec.get("file"),
            limit=spec.get("limit"),
            num_fewshot=spec.get("num_fewshot"),
            apply_chat_template=spec.get("apply_chat_template", False),
            sensitive=spec.get("sensitive"),
            positive=spec.get("positive"),
            scores=[Score.model_validate(score) for scores in by_task.values() for score in scores],
            fairness=next((FairnessReport.model_validate(each[FAIRNESS]) for each in told if FAIRNESS in each), None),
            error=job.error,
        )


class HarnessRunService:
    """A tenant's runs. Synchronous but for `cancel`; the routes call it in threads."""

    def __init__(
        self,
        jobs: JobRepository,
        results: JobResults,
        files: FileRepository,
        artifacts: ArtifactStore,
        aliases: Aliases,
        creation: JobCreation,
        lifecycle: JobLifecycle,
    ) -> None:
        self._jobs, self._results = jobs, results
        self._files, self._artifacts = files, artifacts
        self._aliases = aliases
        self._creation, self._lifecycle = creation, lifecycle

    def create(self, wanted: CreateHarnessRun, key: ApiKey) -> HarnessRunObject:
        """Raises ModelNotFound, InvalidValue, InvalidTrainingFile, ServiceUnavailable."""
        if wanted.model.startswith(EXTERNAL):
            message = "Models of others do not tell how likely a text is, which the harness needs. Use /v1/evals."
            raise InvalidValue(message, param="model")
        card, _ = self._aliases.resolve(wanted.model, key, subject=key.id)
        generates = card.task == "generate"
        spec = (self._harness_spec if generates else self._encoder_spec)(wanted, card, key)
        family = HARNESS_FAMILY if generates else ENCODER_FAMILY
        job = self._creation.create(family, tenant=key.tenant, spec=spec.model_dump(mode="json"))
        self._creation.enqueue(job)
        return HarnessRunObject.of(job, [])

    def page(self, key: ApiKey, *, after: str | None, limit: int) -> list[HarnessRunObject]:
        jobs = self._jobs.page(tenant=key.tenant, family=HARNESS_FAMILY, after=after, limit=limit)
        return self._describe(jobs)

    def retrieve(self, run_id: str, key: ApiKey) -> HarnessRunObject:
        return self._describe([self._require(run_id, key)])[0]

    async def cancel(self, run_id: str, key: ApiKey) -> HarnessRunObject:
        """Raises NotFound, InvalidRequest for a run that has ended."""
        await asyncio.to_thread(self._require, run_id, key)
        await self._lifecycle.cancel(run_id, key)
        return await asyncio.to_thread(self.retrieve, run_id, key)

    def samples(self, run_id: str, task: str, key: ApiKey) -> bytes:
        """JSON. Raises NotFound until the run has ended, and for a task that it does not have."""
        if (content := self._kept(run_id, result_file(task), key)) is None:
            raise NotFound(f"The run has no rows of a task `{task}` yet.", param="task")
        return content

    def fairness_page(self, run_id: str, key: ApiKey) -> bytes:
        """HTML. Raises NotFound until the run has ended, and for one without `sensitive`."""
        if (content := self._kept(run_id, PAGE_FILE, key)) is None:
            raise NotFound("The run has no report of fairness, or not yet.", param="run_id")
        return content

    def _kept(self, run_id: str, name: str, key: ApiKey) -> bytes | None:
        job = self._require(run_id, key)
        for told in self._results.told([job.id], beginning=KEPT)[job.id][-1:]:
            try:
                return b"".join(self._artifacts.read(f"{told[RESULTS]}/{name}"))
            except FileNotFoundError:
                break
        return None

    def _harness_spec(self, wanted: CreateHarnessRun, card: ModelCard, key: ApiKey) -> HarnessSpec | EncoderSpec:
        if wanted.file is not None:
            message = f"The model `{wanted.model}` generates texts; name `tasks`, or use /v1/evals for a file."
            raise InvalidValue(message, param="file")
        _refuse(wanted, FIELDS_OF_FAIRNESS, f"The model `{wanted.model}` generates texts; fairness is of classifiers.")
        return HarnessSpec(
            model=wanted.model,
            tokenizer=card.parent if card.kind == "adapter" and card.parent is not None else card.name,
            creator=key.id,
            tasks=wanted.tasks or (LOCAL_TASKS,),
            limit=wanted.limit,
            num_fewshot=wanted.num_fewshot,
            apply_chat_template=wanted.apply_chat_template,
        )

    def _encoder_spec(self, wanted: CreateHarnessRun, card: ModelCard, key: ApiKey) -> HarnessSpec | EncoderSpec:
        its_task = f"The model `{wanted.model}` does not generate texts; its task is `{card.task}`."
        _refuse(wanted, FIELDS_OF_GENERATION, its_task)
        if card.task != "classify":
            _refuse(
                wanted,
                FIELDS_OF_FAIRNESS,
                f"Fairness is of classifiers; the task of `{wanted.model}` is `{card.task}`.",
            )
        elif wanted.sensitive is None:
            _refuse(wanted, ("positive",), "Name the column of the groups too, as `sensitive`.")
        elif wanted.sensitive in ("text", "label"):
            raise InvalidValue("`sensitive` names another column than the text and its label.", param="sensitive")
        if wanted.file is not None:
            self._check_file(wanted.file, wanted.sensitive, card, key)
        elif card.task != "embed":
            message = f"Name a file with labelled rows for `{wanted.model}`: they tell what its labels mean."
            raise InvalidValue(message, param="file")
        return EncoderSpec(
            model=wanted.model,
            task=card.task,
            creator=key.id,
            file=wanted.file,
            limit=wanted.limit,
            sensitive=wanted.sensitive,
            positive=wanted.positive,
        )

    def _check_file(self, file_id: str, sensitive: str | None, card: ModelCard, key: ApiKey) -> None:
        file = self._files.get(file_id, tenant=key.tenant)
        if file is None:
            raise InvalidValue(f"No such file: `{file_id}`.", param="file")
        try:
            lines = self._artifacts.lines(file.artifact)
            if sensitive is None:
                next(read_encoder_rows(lines, card.task, filename=file.filename))
            else:
                next(read_grouped_rows(lines, sensitive))
        except FileNotFoundError:
            message = f"The content of the file `{file_id}` is gone. Upload it again."
            raise InvalidValue(message, param="file") from None
        except InvalidTrainingFile as error:
            raise InvalidTrainingFile(error.message, param=error.param) from None

    def _describe(self, jobs: list[Job]) -> list[HarnessRunObject]:
        told = self._results.told([job.id for job in jobs], beginning=TOLD)
        return [HarnessRunObject.of(job, told[job.id]) for job in jobs]

    def _require(self, run_id: str, key: ApiKey) -> Job:
        job = self._jobs.get(run_id)
        if job is None or job.tenant != key.tenant or not job.family.startswith(HARNESS_FAMILY):
            raise NotFound(f"No such run: `{run_id}`.", param="run_id")
        return job


def _refuse(wanted: CreateHarnessRun, fields: tuple[str, ...], message: str) -> None:
    for field in fields:
        if getattr(wanted, field) not in (None, False):
            raise InvalidValue(message, param=field)


def _service(request: Request) -> HarnessRunService:
    service: HarnessRunService = request.app.state.harness_run_service
    return service


Service = Annotated[HarnessRunService, Depends(_service)]


@router.post("", summary="Run tasks of lm-evaluation-harness, or measure an encoder.", status_code=201)
async def create_run(wanted: CreateHarnessRun, key: JobsKey, service: Service) -> HarnessRunObject:
    return await asyncio.to_thread(service.create, wanted, key)


@router.get("", summary="List runs, newest first.")
async def list_runs(key: JobsKey, service: Service, after: After = None, limit: Limit = 20) -> Page[HarnessRunObject]:
    return Page.of(await asyncio.to_thread(service.page, key, after=after, limit=limit + 1), limit)


@router.get("/{run_id}", summary="Retrieve a run with the scores that it has.")
async def retrieve_run(run_id: str, key: JobsKey, service: Service) -> HarnessRunObject:
    return await asyncio.to_thread(service.retrieve, run_id, key)


@router.post("/{run_id}/cancel", summary="Cancel a run; the scores of finished tasks stay.")
async def cancel_run(run_id: str, key: JobsKey, service: Service) -> HarnessRunObject:
    return await service.cancel(run_id, key)


@router.get("/{run_id}/tasks/{task}", summary="What a task asked, and what was answered.", response_class=Response)
async def read_samples(run_id: str, task: TaskName, key: JobsKey, service: Service) -> Response:
    content = await asyncio.to_thread(service.samples, run_id, task, key)
    return Response(content, media_type="application/json")


@router.get("/{run_id}/fairness", summary="A classifier's fairness, as a page to read.", response_class=HTMLResponse)
async def read_fairness(run_id: str, key: JobsKey, service: Service) -> HTMLResponse:
    return HTMLResponse(await asyncio.to_thread(service.fairness_page, run_id, key))
