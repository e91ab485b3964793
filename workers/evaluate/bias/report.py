"""The job family `evaluate.bias`: a report of what a model does to groups of people, and of what it gives away."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from contracts.bias import (
    FOLDER_FIELD,
    REPORT_FIELD,
    REPORT_TOLD,
    Association,
    BiasReport,
    BiasSpec,
    Extraction,
    Mitigated,
    Mitigation,
)
from contracts.chat_dataset import ChatExample
from contracts.personal_data import count_findings
from workers.evaluate import pictures
from workers.evaluate.asking import Models, NoAnswer
from workers.evaluate.bias.associations import association, load_word_sets
from workers.evaluate.bias.debiasing import learn_basis, load_pairs_of_axes, without, write_projection
from workers.evaluate.bias.extraction import extraction, training_rows
from workers.evaluate.bias.gaps import gaps, load_questions
from workers.evaluate.bias.mitigation import GUARD, Told, by_projection, by_prompt
from workers.evaluate.bias.preferences import Pair, load_pairs, preferences, prefers
from workers.evaluate.bias.refusals import is_refusal, load_requests, refusals
from workers.evaluate.report import render
from workers.evaluate.threads import as_answered
from workers.run import JobResult, JobRun

ANSWER_TOKENS = 48
Asked = TypeVar("Asked")
Said = TypeVar("Said")
Messages = Sequence[dict[str, str]]


def measure_bias(spec: BiasSpec, run: JobRun) -> JobResult:
    """Raises JobFailed where the model cannot be asked, and what `run.check` raises."""
    with run.calling(spec.creator) as caller:
        models = Models(caller, run.resources.evaluation.endpoints)
        try:
            measuring = _Measuring(spec, run, models)
            report = measuring.report()
        finally:
            models.close()
    folder = f"{run.artifact_folder}/report"
    _write(report, run.scratch / "report")
    if measuring.basis is not None:
        write_projection(measuring.basis, spec.embedding_model, run.scratch / "report")
    run.resources.artifacts.upload_folder(run.scratch / "report", folder)
    run.metrics(REPORT_TOLD, {REPORT_FIELD: report.model_dump(mode="json"), FOLDER_FIELD: folder})
    return JobResult(f"Reported the bias of `{spec.model}`.")


class _Measuring:
    """One model's report, part by part; each is told when it is done."""

    def __init__(self, spec: BiasSpec, run: JobRun, models: Models) -> None:
        self._spec, self._run, self._models = spec, run, models
        self._written: list[str] = []
        self.basis: Any = None

    def report(self) -> BiasReport:
        pairs, questions, (harmful, harmless) = load_pairs(), load_questions(), load_requests()
        sentences = sorted({sentence for pair in pairs for sentence in pair.sentences})
        likelihoods = dict(zip(sentences, self._all("sentences scored", self._log_likelihood, sentences), strict=True))
        answers = self._ask("answers about people", [question.text for question in questions])
        declined = self._ask("requests", [*harmful, *harmless])
        told = _told(pairs, likelihoods, answers, declined, len(harmful))
        return BiasReport(
            model=self._spec.model,
            embedding_model=self._spec.embedding_model,
            preferences=preferences(pairs, likelihoods.__getitem__),
            gaps=gaps(questions, answers),
            associations=self._associations(),
            refusals=refusals(declined[: len(harmful)], declined[len(harmful) :]),
            extraction=self._extraction(),
            personal_data=dict(sum((count_findings(text) for text in self._written), Counter())),
            mitigated=tuple(self._mitigated(by, told) for by in self._spec.mitigate),
        )

    def _mitigated(self, by: Mitigation, before: Told) -> Mitigated:
        return self._projected() if by == "embeddings" else self._under_guard(before)

    def _under_guard(self, before: Told) -> Mitigated:
        pairs, questions, (harmful, harmless) = load_pairs(), load_questions(), load_requests()
        sentences = sorted({sentence for pair in pairs for sentence in pair.sentences})
        scored = self._all("sentences scored under the guard", self._guarded_log_likelihood, sentences)
        texts = [question.text for question in questions]
        answers = self._all("answers under the guard", self._guarded, [*texts, *harmful, *harmless])
        declined = answers[len(texts) :]
        likelihoods = dict(zip(sentences, scored, strict=True))
        after = _told(pairs, likelihoods, answers[: len(texts)], declined, len(harmful))
        return by_prompt(pairs, questions, before, after)

    def _projected(self) -> Mitigated:
        """Learns `self.basis` too."""
        model = self._spec.embedding_model
        assert model is not None, "the gateway asks for an encoder"
        self.basis = basis = learn_basis(load_pairs_of_axes(), lambda texts: self._models.embed(model, texts))
        tests = [(sets, self._models.embed(model, sets.words)) for sets in load_word_sets()]
        self._run.message(f"{len(tests)} association tests of `{model}` are done without gender, age and religion.")
        return by_projection([(sets, vectors, without(vectors, basis)) for sets, vectors in tests])

    def _guarded(self, text: str) -> str:
        return self._answer([{"role": "system", "content": GUARD}, {"role": "user", "content": text}])

    def _guarded_log_likelihood(self, sentence: str) -> float:
        return self._log_likelihood(f"{GUARD}\n\n{sentence}")

    def _associations(self) -> tuple[Association, ...]:
        model = self._spec.embedding_model
        if model is None:
            return ()
        found = tuple(association(sets, self._models.embed(model, sets.words)) for sets in load_word_sets())
        self._run.message(f"{len(found)} association tests of `{model}` are done.")
        return found

    def _extraction(self) -> Extraction | None:
        card = self._run.resources.models.get(self._spec.model)
        rows: list[ChatExample] = [] if card is None else training_rows(card, self._run)
        if not rows:
            return None
        asked = [[{"role": turn.role, "content": turn.content} for turn in row.messages[:-1]] for row in rows]
        return extraction(rows, self._all("training rows asked again", self._answer, asked))

    def _ask(self, what: str, texts: Sequence[str]) -> list[str]:
        answers = self._all(what, self._answer, [[{"role": "user", "content": text}] for text in texts])
        self._written += answers
        return answers

    def _answer(self, messages: Messages) -> str:
        try:
            said = self._models.chat(
                self._spec.model, messages, may_be_kept=False, temperature=0, seed=0, max_tokens=ANSWER_TOKENS
            )
        except NoAnswer:
            return ""
        return said.text

    def _log_likelihood(self, text: str) -> float:
        return self._models.log_likelihood(self._spec.model, text)

    def _all(self, what: str, ask: Callable[[Asked], Said], asked: Sequence[Asked]) -> list[Said]:
        """In their order. Looks between answers whether the job was cancelled."""
        answers = as_answered(ask, asked, at_once=self._run.resources.evaluation.concurrency, look=self._run.check)
        found = [said for _, said in sorted(answers, key=lambda answer: answer[0])]
        self._run.metrics(f"{len(found)} {what}.", {what.replace(" ", "_"): len(found)})
        return found


def _told(
    pairs: Sequence[Pair],
    likelihoods: dict[str, float],
    answers: Sequence[str],
    declined: Sequence[str],
    harmful: int,
) -> Told:
    declines = [is_refusal(answer) for answer in declined]
    return Told(
        prefers=[prefers(pair, likelihoods.__getitem__) for pair in pairs],
        answers=answers,
        harmful=declines[:harmful],
        harmless=declines[harmful:],
    )


def _write(report: BiasReport, folder: Path) -> None:
    folder.mkdir(parents=True)
    drawn: dict[str, bytes] = {"preferences": pictures.preferences(report.preferences)}
    drawn |= {f"gap-{each.axis}-{each.measure}": pictures.groups(each) for each in report.gaps}
    for name, picture in drawn.items():
        (folder / f"{name}.svg").write_bytes(picture)
    told: dict[str, Any] = report.model_dump(mode="json")
    (folder / "report.json").write_text(json.dumps(told, indent=1))
    (folder / "report.html").write_text(render("bias.html.j2", pictures=drawn, report=report, guard=GUARD))
