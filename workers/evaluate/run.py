"""The job family `evaluate.run`: a model answers the rows of an eval's run, and the eval's criteria grade them."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.eval_items import EvalItem
from contracts.evals import (
    Eval,
    EvalRun,
    EvalRunSpec,
    JsonlSource,
    OutputItem,
    RunResults,
    SampledSource,
)
from contracts.identifiers import new_id
from workers.evaluate.asking import Models, NoAnswer
from workers.evaluate.contamination import find_contamination
from workers.evaluate.drift import watch
from workers.evaluate.grading import Grade, graders_of
from workers.evaluate.items import answer_item, check_items, load_items
from workers.evaluate.report import write_report
from workers.evaluate.statistics import WIDEST_SPREAD, detectable
from workers.evaluate.summary import counts_of, statistics_of
from workers.evaluate.threads import LOOK_EVERY_S, as_answered
from workers.run import JobFailed, JobResult, JobRun
from workers.weights import weights_of

SAVE_EVERY_S = 2.0
ROW_LATE_S = 3.0
"""A run's row is written just after its job's, which a worker may take up in between."""
MOST_SHOWN = 200
"""Earlier runs beside which one is drawn."""
MOST_ERRORS = 20
"""So many rows in a row without an answer, from the first one on, and the run ends: none would be answered."""


def evaluate(spec: EvalRunSpec, run: JobRun) -> JobResult:
    """Rows that are done stay done, whatever happens to the worker.

    Raises JobFailed where the data cannot be used or a model cannot be asked at all.
    """
    of_run, of = _found(spec, run)
    source = of_run.data_source
    with run.validating_files():
        items = load_items(source.source, run)
        check_items(items, of, source)
        run.message(_outlook(of_run, items))
        contamination = () if of_run.model is None else find_contamination(of_run.model, items, run)
        for found in contamination:
            message = f"{len(found.rows)} of the rows are in what `{found.model}` was trained on."
            run.message(message, level="warn")
    with run.calling(spec.creator) as caller:
        settings = run.resources.evaluation
        models = Models(caller, settings.endpoints)
        try:
            graders = graders_of(
                of.testing_criteria,
                models,
                embedding_model=settings.embedding_model,
                encoder=lambda name: _encoder(name, run),
            )
            _grade_all(items, Grader(of_run.id, source, models, graders), run, at_once=settings.concurrency)
        finally:
            models.close()
        done = run.resources.evals.items(of_run.id)
        results = _sum_up(of, of_run, done, run)
        report = f"{run.artifact_folder}/report"
        results = results.model_copy(
            update={
                "per_model_usage": models.usage(),
                "contamination": contamination,
                "drift": watch(of_run, results.statistics, run),
                "report": report,
            }
        )
        write_report(of, of_run, results, done, run.scratch / "report", before=_before(of_run, run))
        run.resources.artifacts.upload_folder(run.scratch / "report", report)
        run.resources.evals.set_results(of_run.id, results, job=run.job.id, fence=run.fence)
    passed = sum(item.status == "pass" for item in done)
    return JobResult(f"{passed} of {len(done)} rows passed.")


@dataclass(frozen=True, slots=True)
class Grader:
    """Answers and grades one row. Thread-safe."""

    run_id: str
    source: SampledSource | JsonlSource
    models: Models
    graders: Sequence[Grade]

    def __call__(self, position: int, item: EvalItem) -> OutputItem:
        results, sample = [], item.sample or {}
        try:
            if isinstance(self.source, SampledSource):
                sample = answer_item(item, self.source, self.models)
            row: dict[str, Any] = {"item": item.item, "sample": sample}
            results = [grade(row) for grade in self.graders]
            status = "pass" if all(result.passed for result in results) else "fail"
        except NoAnswer as refusal:
            status, results = "error", []
            sample = sample | {"error": {"code": refusal.code, "message": refusal.message}}
        return OutputItem.model_validate(
            {
                "id": new_id("outputitem"),
                "run": self.run_id,
                "position": position,
                "status": status,
                "item": item.item,
                "sample": sample,
                "results": results,
                "created_at": int(time.time()),
            }
        )


def _grade_all(items: Sequence[EvalItem], grade: Grader, run: JobRun, *, at_once: int) -> None:
    """Writes rows down as they are done, every few seconds. Raises what `run.check` and `grade` raise."""
    done = run.resources.evals.positions(grade.run_id)
    if done:
        run.message(f"{len(done)} of {len(items)} rows were done before.")
    waiting = [(position, item) for position, item in enumerate(items) if position not in done]
    finished, started_at = len(done), time.monotonic()
    for batch in _batches(waiting, grade, run, at_once):
        run.resources.evals.add_items(batch, job=run.job.id, fence=run.fence)
        finished += len(batch)
        rate = (finished - len(done)) / (time.monotonic() - started_at)
        _check_errors(batch, finished)
        run.metrics(
            f"{finished} of {len(items)} rows are done.",
            {"step": finished, "total_steps": len(items), "rows_per_second": round(rate, 3)},
            estimated_finish_at=int(time.time() + (len(items) - finished) / rate),
        )


def _batches(
    waiting: Sequence[tuple[int, EvalItem]], grade: Grader, run: JobRun, at_once: int
) -> Iterator[list[OutputItem]]:
    batch, saved_at = list[OutputItem](), time.monotonic()
    for _, item in as_answered(lambda row: grade(*row), waiting, at_once=at_once, look=run.check):
        batch.append(item)
        if time.monotonic() - saved_at > SAVE_EVERY_S:
            yield batch
            batch, saved_at = [], time.monotonic()
    if batch:
        yield batch


def _check_errors(batch: Sequence[OutputItem], finished: int) -> None:
    """A run of which no row can be answered ends at once, with the reason of the last one."""
    if finished == len(batch) >= MOST_ERRORS and all(item.status == "error" for item in batch):
        error = batch[-1].sample["error"]
        raise JobFailed(error["code"], f"No row could be answered. The last one: {error['message']}")


def _sum_up(of: Eval, of_run: EvalRun, done: Sequence[OutputItem], run: JobRun) -> RunResults:
    baseline = [] if of_run.baseline is None else run.resources.evals.items(of_run.baseline)
    statistics = statistics_of(of.testing_criteria, done, baseline)
    for found in statistics:
        score = found.score
        run.metrics(
            f"{found.name}: {score.mean:.4f} ({score.low:.4f} to {score.high:.4f} with 95 % confidence).",
            {"criterion": found.model_dump(mode="json")},
        )
    return RunResults(per_testing_criteria_results=counts_of(of.testing_criteria, done), statistics=statistics)


def _before(of_run: EvalRun, run: JobRun) -> list[EvalRun]:
    """Earlier runs of the same eval with the same model, oldest first."""
    if of_run.model is None:
        return []
    evals = run.resources.evals
    found = evals.history(of_run.model, tenant=of_run.tenant, of_eval=of_run.eval, limit=MOST_SHOWN)
    return [earlier for _, earlier in found]


def _outlook(of_run: EvalRun, items: Sequence[EvalItem]) -> str:
    least = detectable(len(items), WIDEST_SPREAD)
    model = "the answers that are there" if of_run.model is None else f"`{of_run.model}`"
    return (
        f"Evaluating {model} on {len(items)} rows. Beside another run of the same rows, a difference of {least:.3f} "
        "between scores from 0 to 1 would surely be seen; a smaller one may not."
    )


def _found(spec: EvalRunSpec, run: JobRun) -> tuple[EvalRun, Eval]:
    of_run = run.resources.evals.run(spec.run)
    deadline = time.monotonic() + ROW_LATE_S
    while of_run is None and time.monotonic() < deadline:
        run.check()
        time.sleep(LOOK_EVERY_S)
        of_run = run.resources.evals.run(spec.run)
    of = None if of_run is None else run.resources.evals.get(of_run.eval, tenant=run.job.tenant)
    if of_run is None or of is None:
        raise JobFailed("run_deleted", "The run was deleted.")
    return of_run, of


def _encoder(name: str, run: JobRun) -> Path:
    card = run.resources.models.get(name)
    if card is None or card.task != "embed":
        raise JobFailed("model_not_found", f"There is no encoder `{name}`.")
    return weights_of(card, run)
