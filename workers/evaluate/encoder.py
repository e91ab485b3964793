"""The job family `evaluate.harness.encoder`: classifiers, finders of entities and embeddings, on labelled rows."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from contracts.datasets import LabelRow, TagsRow
from contracts.encoder_rows import EncoderRow, GroupedRow, RetrievalRow, read_encoder_rows, read_grouped_rows
from contracts.engine import EngineTask
from contracts.errors import InvalidTrainingFile
from contracts.fairness import FAIRNESS, FairnessReport
from contracts.harness import SCORES, TOLD, EncoderSpec, Score, in_words, result_file
from workers.evaluate.asking import Models
from workers.evaluate.entities import Span, entity_report, spans_of
from workers.evaluate.fairness import fairness_report
from workers.evaluate.fairness_page import write_page
from workers.evaluate.kept import keep_results
from workers.evaluate.labels import label_report, macro_f1
from workers.evaluate.retrieval import rank, retrieval_scores
from workers.evaluate.threads import as_answered
from workers.run import JobFailed, JobResult, JobRun

BATCH = 16
AT_ONCE = 4
RESAMPLES = 200
"""Of rows, for standard errors that have no formula."""
FEWEST_GROUPS, MOST_GROUPS = 2, 50
MOST_NAMED = 10
LOCAL_RETRIEVAL = Path(__file__).parent / "tasks/data/disfl_qa.jsonl"
TASKS: dict[EngineTask, str] = {
    "classify": "classification",
    "token_classify": "entities",
    "embed": "retrieval",
}
Found = TypeVar("Found")


def evaluate(spec: EncoderSpec, run: JobRun) -> JobResult:
    """Raises JobFailed where the rows cannot be used or the model cannot be asked."""
    with run.validating_files():
        rows = _rows(spec, run)[: spec.limit]
        if spec.sensitive is not None:
            _check_groups(rows, spec)
    run.message(f"Asking `{spec.model}` about {len(rows)} rows.")
    with run.calling(spec.creator) as caller:
        asking = Encoder(caller, {}, model=spec.model, run=run)
        try:
            scores, fairness = _measured(asking, rows, spec)
        finally:
            asking.close()
    folder, task = run.scratch / "results", scores[0].task
    folder.mkdir()
    told: dict[str, Any] = {"task": task, SCORES: [score.model_dump(mode="json") for score in scores]}
    if fairness is not None:
        told[FAIRNESS] = fairness.model_dump(mode="json")
        write_page(fairness, folder)
    run.metrics(f"{TOLD}{task}: {in_words(scores)}.", told)
    (folder / result_file(task)).write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
    keep_results(folder, run)
    return JobResult(f"{len(rows)} rows were measured.")


class Encoder(Models):
    """A model that reads texts, asked in batches."""

    def __init__(self, *arguments: Any, model: str, run: JobRun) -> None:
        super().__init__(*arguments)
        self._model, self._run = model, run

    def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        return self._in_batches(texts, lambda batch: self.embed(self._model, batch))

    def classify(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        return self._in_batches(texts, self._classify)

    def _classify(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        body = {"model": self._model, "input": list(texts)}
        said = self._asking(self._model, lambda: self._gateway.post("/classify", body=body, cast_to=dict[str, Any]))
        return sorted(said["data"], key=lambda each: each["index"])

    def _in_batches(self, texts: Sequence[str], ask: Callable[[Sequence[str]], list[Found]]) -> list[Found]:
        batches = [texts[at : at + BATCH] for at in range(0, len(texts), BATCH)]
        answers, started_at = dict[int, list[Found]](), time.monotonic()
        for place, found in as_answered(ask, batches, at_once=AT_ONCE, look=self._run.check):
            answers[place] = found
            done = sum(map(len, answers.values()))
            rate = done / (time.monotonic() - started_at)
            self._run.metrics(
                f"{done} of {len(texts)} texts are answered.",
                {"step": done, "total_steps": len(texts), "texts_per_second": round(rate, 2)},
            )
        return [each for place in range(len(batches)) for each in answers[place]]


def _measured(asking: Encoder, rows: Sequence[Any], spec: EncoderSpec) -> tuple[list[Score], FairnessReport | None]:
    if spec.sensitive is None:
        return _MEASURES[type(rows[0])](asking, rows), None
    answers = asking.classify([row.text for row in rows])
    fairness = fairness_report(
        [row.label for row in rows],
        [answer["label"] for answer in answers],
        [row.group for row in rows],
        model=spec.model,
        sensitive=spec.sensitive,
        positive=spec.positive,
    )
    return [*_label_scores(rows, answers), *_fairness_scores(fairness, len(rows))], fairness


def _classification(asking: Encoder, rows: Sequence[LabelRow]) -> list[Score]:
    return _label_scores(rows, asking.classify([row.text for row in rows]))


def _label_scores(rows: Sequence[LabelRow | GroupedRow], answers: Sequence[dict[str, Any]]) -> list[Score]:
    right, given = [row.label for row in rows], [answer["label"] for answer in answers]
    report = label_report(right, given, [max(answer["probs"]) for answer in answers])
    hits = [float(a == b) for a, b in zip(right, given, strict=True)]

    def macro(chosen: Sequence[int]) -> float:
        return macro_f1([right[row] for row in chosen], [given[row] for row in chosen])

    return [
        _score("classify", "accuracy", report.accuracy, len(rows), _stderr_of_mean(hits)),
        _score("classify", "macro_f1", report.macro_f1, len(rows), _resampled(macro, len(rows)), asdict(report)),
        _score("classify", "calibration_error", report.calibration_error, len(rows), None, better=False),
    ]


def _fairness_scores(fairness: FairnessReport, rows: int) -> list[Score]:
    """Each of the label whose groups differ most."""
    worst: tuple[tuple[str, Callable[..., str], bool], ...] = (
        ("demographic_parity_difference", max, False),
        ("demographic_parity_ratio", min, True),
        ("equalized_odds_difference", max, False),
    )
    scores = []
    for metric, choose, better in worst:
        by_label = {
            found.label: figure.value for found in fairness.labels if (figure := getattr(found, metric)) is not None
        }
        if by_label:
            label = choose(by_label, key=by_label.__getitem__)
            scores.append(_score("classify", metric, by_label[label], rows, None, {"label": label}, better=better))
    return scores


def _entities(asking: Encoder, rows: Sequence[TagsRow]) -> list[Score]:
    answers = asking.classify([" ".join(row.tokens) for row in rows])
    right = [spans_of(row.tokens, row.ner_tags) for row in rows]
    given = [[Span(each["label"], each["start"], each["end"]) for each in answer["entities"]] for answer in answers]
    report = entity_report(right, given)

    def f1(chosen: Sequence[int]) -> float:
        return entity_report([right[row] for row in chosen], [given[row] for row in chosen]).f1

    return [
        _score("token_classify", "span_f1", report.f1, len(rows), _resampled(f1, len(rows)), asdict(report)),
        _score("token_classify", "span_precision", report.precision, len(rows), None),
        _score("token_classify", "span_recall", report.recall, len(rows), None),
    ]


def _retrieval(asking: Encoder, rows: Sequence[RetrievalRow]) -> list[Score]:
    passages = list(dict.fromkeys(row.passage for row in rows))
    place = {passage: number for number, passage in enumerate(passages)}
    vectors = asking.vectors([*(row.query for row in rows), *passages])
    similarity = rank(vectors[: len(rows)], vectors[len(rows) :])
    by_measure = retrieval_scores(similarity, [place[row.passage] for row in rows])
    details = {"queries": len(rows), "passages": len(passages)}
    return [
        _score("embed", name, sum(values) / len(values), len(rows), _stderr_of_mean(values), details)
        for name, values in by_measure.items()
    ]


_MEASURES: dict[type, Callable[[Encoder, Any], list[Score]]] = {
    LabelRow: _classification,
    TagsRow: _entities,
    RetrievalRow: _retrieval,
}


def _score(
    task: EngineTask,
    metric: str,
    value: float,
    rows: int,
    stderr: float | None,
    details: dict[str, Any] | None = None,
    *,
    better: bool = True,
) -> Score:
    return Score(
        task=TASKS[task],
        metric=metric,
        value=value,
        stderr=stderr,
        rows=rows,
        higher_is_better=better,
        details=details,
    )


def _stderr_of_mean(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else None


def _resampled(measure: Callable[[Sequence[int]], float], rows: int) -> float:
    """The spread of a figure over resamples of its rows. The same rows give the same."""
    chance = np.random.default_rng(0)
    return float(np.std([measure(chance.integers(rows, size=rows).tolist()) for _ in range(RESAMPLES)], ddof=1))


def _rows(spec: EncoderSpec, run: JobRun) -> list[EncoderRow]:
    if spec.file is None:
        lines = LOCAL_RETRIEVAL.read_text(encoding="utf-8").splitlines()
        return [RetrievalRow(row["question"], row["passage"]) for row in map(json.loads, lines)]
    file = run.resources.files.get(spec.file, tenant=run.job.tenant)
    if file is None:
        raise _gone()
    try:
        content = run.resources.artifacts.lines(file.artifact)
        if spec.sensitive is not None:
            return list(read_grouped_rows(content, spec.sensitive))
        return list(read_encoder_rows(content, spec.task, filename=file.filename))
    except FileNotFoundError:
        raise _gone() from None
    except InvalidTrainingFile as error:
        raise JobFailed("invalid_file", error.message, param=error.param) from None


def _check_groups(rows: Sequence[Any], spec: EncoderSpec) -> None:
    """Before the model is asked."""
    groups, labels = {row.group for row in rows}, sorted({row.label for row in rows})
    if not FEWEST_GROUPS <= len(groups) <= MOST_GROUPS:
        message = (
            f"The rows have {len(groups)} different values in the column `{spec.sensitive}`; "
            f"fairness is measured of {FEWEST_GROUPS} to {MOST_GROUPS} groups."
        )
        raise JobFailed("invalid_file", message, param="sensitive")
    if spec.positive is not None and spec.positive not in labels:
        message = f"No row has the label `{spec.positive}`; there are {', '.join(labels[:MOST_NAMED])}."
        raise JobFailed("invalid_file", message, param="positive")


def _gone() -> JobFailed:
    return JobFailed("file_not_found", "The file does not exist any more.", param="file")
