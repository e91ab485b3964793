"""The job family `evaluate.release`: a candidate beside the stable model, on conversations that neither learnt from."""

import hashlib
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from contracts.chat_dataset import ChatExample, parse_chat_examples
from contracts.errors import InvalidTrainingFile
from contracts.models import ModelCard
from contracts.releases import EVALUATION_FIELD, Evaluation, EvaluationSpec
from workers.evaluate.answers import EvaluatedModel
from workers.evaluate.bootstrap import paired
from workers.run import JobFailed, JobResult, JobRun

MOST_ROWS = 500
AT_ONCE = 4
"""Questions that engines are asked at once, so that they keep room for users."""
TELL_EVERY_S = 5.0
Score = TypeVar("Score")


def evaluate(spec: EvaluationSpec, run: JobRun) -> JobResult:
    """Tells how likely either model finds the file's last answers, and how alike their own answers are to them.

    Raises JobFailed where the file cannot be used or no engine serves a model.
    """
    examples = _held_out(spec, run)
    run.message(f"Evaluating `{spec.candidate}` beside `{spec.stable}` on {len(examples)} conversations.")
    stable, candidate = (EvaluatedModel(_card(name, run), run) for name in (spec.stable, spec.candidate))
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for model in (stable, candidate):
            model.wait_until_served()
        likelihoods = paired(*_per_token(stable, candidate, threads, examples, run), confidence=spec.confidence)
        run.metrics(
            f"Log-likelihood a token: {likelihoods.stable:.4f} and {likelihoods.candidate:.4f}.",
            {"log_likelihood": likelihoods.model_dump()},
        )
        similarities = (
            _telling(run, f"Answers of `{model.card.name}`", threads.map(model.similarity, examples), len(examples))
            for model in (stable, candidate)
        )
        similarity = paired(*similarities, confidence=spec.confidence)
    evaluation = Evaluation(confidence=spec.confidence, log_likelihood=likelihoods, similarity=similarity)
    run.metrics(
        f"Similarity of answers: {similarity.stable:.4f} and {similarity.candidate:.4f}.",
        {EVALUATION_FIELD: evaluation.model_dump()},
    )
    return JobResult(f"Evaluated `{spec.candidate}` beside `{spec.stable}`.")


def _per_token(
    stable: EvaluatedModel,
    candidate: EvaluatedModel,
    threads: ThreadPoolExecutor,
    examples: list[ChatExample],
    run: JobRun,
) -> tuple[list[float], list[float]]:
    """Per token of the stable model's tokenizer for both, so that models with different tokenizers compare."""
    both = threads.map(lambda row: (stable.log_likelihood(row), candidate.log_likelihood(row)), examples)
    rows = _telling(run, "Log-likelihoods", both, len(examples))
    return [old / count for (old, count), _ in rows], [new / count for (_, count), (new, _) in rows]


def _telling(run: JobRun, what: str, scores: Iterable[Score], of: int) -> list[Score]:
    """All of them; how many there are is told every few seconds."""
    found: list[Score] = []
    told_at = time.monotonic()
    for score in scores:
        found.append(score)
        if time.monotonic() - told_at >= TELL_EVERY_S and len(found) < of:
            run.message(f"{what}: {len(found)} of {of} conversations.")
            told_at = time.monotonic()
    return found


def _card(name: str, run: JobRun) -> ModelCard:
    card = run.resources.models.get(name)
    if card is None:
        raise JobFailed("model_not_found", f"The model `{name}` does not exist any more.")
    return card


def _held_out(spec: EvaluationSpec, run: JobRun) -> list[ChatExample]:
    file = run.resources.files.get(spec.file, tenant=run.job.tenant)
    try:
        content = b"" if file is None else b"".join(run.resources.artifacts.read(file.artifact))
    except FileNotFoundError:
        file = None
    if file is None:
        raise JobFailed("file_not_found", "The evaluation file does not exist any more.", param="evaluation_file")
    if f"sha256:{hashlib.sha256(content).hexdigest()}" != spec.file_digest:
        raise JobFailed("file_changed", "The evaluation file is not the one that was named.", param="evaluation_file")
    try:
        return list(parse_chat_examples(content.splitlines()))[:MOST_ROWS]
    except InvalidTrainingFile as error:
        raise JobFailed("invalid_file", error.message, param="evaluation_file") from None
