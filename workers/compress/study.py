"""A study: makes variants of a model one after the other, measures each by really serving it,
and tells which are worth having."""

import time
from collections.abc import Mapping
from pathlib import Path

import structlog

from contracts.chat_dataset import ChatExample
from contracts.datasets import NumberedRow, TextRow
from contracts.models import ModelCard
from contracts.studies import BASELINE, VARIANT_FIELD, StudySpec, Variant, VariantResult, WithAdapter
from workers.bench import Bench
from workers.compress.conclusion import conclude
from workers.compress.engine import EngineProgram, NotServed, OwnEngine
from workers.compress.making import Made, Maker, needs_samples
from workers.compress.measuring import EngineBroke, Meter
from workers.compress.quality import HeldOut
from workers.compress.samples import say_something, sequences_of, write_sequences
from workers.compress.state import StudyState
from workers.compress.told import CannotMake
from workers.finetune.files import fetch_file, load_rows
from workers.finetune.task import DataFile
from workers.run import JobFailed, JobResult, JobRun
from workers.weights import weights_of

MOST_CONVERSATIONS = 200
MOST_GENERATIONS = 16

log = structlog.get_logger(__name__)


def run_study(spec: StudySpec, run: JobRun) -> JobResult:
    """A variant that cannot be made or served is told with its reason, and the study goes on.

    A study that is taken up again keeps every variant that was finished. Raises JobFailed where the model itself cannot
    be served, or its files cannot be used.
    """
    bench = run.resources.bench
    if bench is None or not bench.engine.is_file():
        message = (
            "This worker has no vLLM to measure with. FLYWHEEL_WORKER__ENGINE_PYTHON names an environment with it."
        )
        raise JobFailed("no_engine", message)
    base = _card(spec.model, run)
    with run.validating_files():
        held_out = _held_out(spec, base, run)
    work = Study(spec, base, held_out, bench, run)
    work.measure_baseline()
    for number, variant in enumerate(spec.variants, start=1):
        if work.state.finished(variant.name) is not None:
            continue
        if work.is_time_over:
            work.leave(variant)
        else:
            run.message(f"Variant {number} of {len(spec.variants)}: {variant.name} ({variant.technique}).")
            work.try_variant(variant)
    return conclude(spec, base, work.state, run, seconds=work.seconds())


class Study:
    """The work of one attempt."""

    def __init__(self, spec: StudySpec, base: ModelCard, held_out: HeldOut, bench: Bench, run: JobRun) -> None:
        self._spec, self._base, self._run, self._bench = spec, base, run, bench
        self._began_at = time.monotonic()
        self.state = StudyState(run)
        self._earlier_s = self.state.earlier_s
        self._weights = weights_of(base, run)
        self._program = EngineProgram(bench.engine, _root(base, run), base.context_length, bench.start_timeout_s)
        self._meter = Meter(self._program, held_out, spec.measurement, bench.watts_per_core, run)
        self._maker = Maker(
            base=self._weights,
            samples=self.state.samples,
            adapters=_adapters(spec, base, run),
            bench=bench,
            seed=spec.seed,
            run=run,
        )

    def measure_baseline(self) -> None:
        """And collects what others learn from. Raises JobFailed where it is not served."""
        if self.state.finished(BASELINE) is not None:
            self._run.message(f"The study goes on; {len(self.state.results)} variants are done with.")
            return
        self._run.message(f"Measuring `{self._base.name}` as it is.")
        try:
            afterwards = self._collect_samples if needs_samples(self._spec.variants) else None
            measured = self._meter.measure(Made(self._weights), None, log=self._log(BASELINE), afterwards=afterwards)
        except (NotServed, EngineBroke) as failure:
            raise JobFailed("not_served", f"`{self._base.name}` itself could not be measured. {failure}") from failure
        result = VariantResult(
            name=BASELINE,
            technique=BASELINE,
            details={},
            status="measured",
            figures=measured.figures,
            measured_s=round(measured.seconds, 1),
        )
        self._finish(result, None, scores=measured.scores)

    @property
    def is_time_over(self) -> bool:
        limit = self._spec.max_minutes
        return limit is not None and self.seconds() > 60 * limit

    def leave(self, variant: Variant) -> None:
        """For want of time."""
        reason = f"The study's {self._spec.max_minutes:g} minutes were over."
        self._finish(_of(variant).model_copy(update={"status": "not_begun", "reason": reason}), None)

    def try_variant(self, variant: Variant) -> None:
        """Makes and measures it, and keeps what came of it."""
        result, folder, began_at = _of(variant), self.state.folder_for(variant.name), time.monotonic()
        try:
            made = self._make(variant, folder)
            made_s = time.monotonic() - began_at
            result = result.model_copy(update={"facts": made.facts, "made_s": round(made_s, 1)})
            measured = self._meter.measure(made, self.state.baseline_scores, log=self._log(variant.name))
        except NotServed as reason:
            result = result.model_copy(update={"status": "not_served", "reason": str(reason)})
            self._finish(result, folder)
        except (CannotMake, EngineBroke) as reason:
            self._finish(result.model_copy(update={"reason": str(reason)}), None)
        else:
            told = {"status": "measured", "figures": measured.figures, "measured_s": round(measured.seconds, 1)}
            self._finish(result.model_copy(update=told), folder)

    def _make(self, variant: Variant, folder: Path) -> Made:
        source = self._weights if variant.of is None else self._weights_of(variant.of)
        draft_name = getattr(variant, "draft", None)
        draft = None if draft_name is None else self._weights_of(draft_name)
        return self._maker.make(variant, source, draft, folder)

    def _weights_of(self, name: str) -> Path:
        if name == BASELINE:
            return self._weights
        folder = self.state.weights_of(name)
        if folder is None:
            raise CannotMake(f"It builds on `{name}`, which could not be made.")
        return folder

    def _collect_samples(self, engine: OwnEngine) -> None:
        spec, run = self._spec, self._run
        if spec.training_file is None:
            run.message("The model says something to itself, for techniques that learn.")
            sequences = say_something(engine, spec.sampling, seed=spec.seed, run=run)
        else:
            rows = _rows("training_file", spec.training_file, spec.file_digests, run)
            sequences = sequences_of(rows, engine, spec.sampling, run=run)
        write_sequences(sequences, self.state.samples)
        run.message(f"Collected {len(sequences)} samples of at most {spec.sampling.tokens} tokens.")

    def _finish(self, result: VariantResult, weights: Path | None, *, scores: list[float] | None = None) -> None:
        self.state.finish(result, weights, seconds=self.seconds(), scores=scores)
        self._run.metrics(_in_words(result), {VARIANT_FIELD: result.model_dump(mode="json")})

    def seconds(self) -> float:
        """Of all attempts, as far as they came to something."""
        return self._earlier_s + time.monotonic() - self._began_at

    def _log(self, name: str) -> Path:
        return self._run.scratch / f"{name}.engine.log"


def _of(variant: Variant) -> VariantResult:
    """What is known before anything was tried."""
    details = variant.model_dump(exclude={"name", "technique"}, exclude_none=True)
    return VariantResult(name=variant.name, technique=variant.technique, details=details, status="failed")


def _in_words(result: VariantResult) -> str:
    if (figures := result.figures) is None:
        what = {"not_served": "not served", "not_begun": "not begun"}.get(result.status, "not made")
        return f"{result.name} was {what}: {result.reason}"
    rate, many = figures.at(1).tokens_per_second.median, figures.loads[-1]
    return (
        f"{result.name}: score {figures.score.mean:.3f}, perplexity {figures.perplexity.mean:.1f}, {rate:.1f} tokens/s "
        f"alone and {many.tokens_per_second.median:.1f} in {many.streams} streams."
    )


def _card(name: str, run: JobRun) -> ModelCard:
    card = run.resources.models.get(name)
    if card is None:
        raise JobFailed("model_not_found", f"The model `{name}` does not exist any more.", param="model")
    return card


def _root(card: ModelCard, run: JobRun) -> str:
    """The model of the catalogue that says how an engine is started for this one."""
    for _ in range(MOST_GENERATIONS):
        if card.kind == "base" or card.parent is None:
            break
        card = _card(card.parent, run)
    return card.name


def _adapters(spec: StudySpec, base: ModelCard, run: JobRun) -> dict[str, Path]:
    names = {variant.adapter for variant in spec.variants if isinstance(variant, WithAdapter)}
    cards = [card for name in names if (card := run.resources.models.get(name)) is not None]
    return {card.name: weights_of(card, run) for card in cards if card.kind == "adapter" and card.parent == base.name}


def _held_out(spec: StudySpec, base: ModelCard, run: JobRun) -> HeldOut:
    chats = _rows("conversations_file", spec.conversations_file, spec.file_digests, run)
    examples = [numbered.row for numbered in chats if isinstance(numbered.row, ChatExample)][:MOST_CONVERSATIONS]
    if not examples:
        message = "The conversations' file has no conversations."
        raise JobFailed("invalid_conversations_file", message, param="conversations_file")
    if spec.text_file is None:
        text = "\n\n".join(turn.content for example in examples for turn in example.messages)
    else:
        rows = _rows("text_file", spec.text_file, spec.file_digests, run)
        text = "\n\n".join(numbered.row.text for numbered in rows if isinstance(numbered.row, TextRow))
    if not text.strip():
        raise JobFailed("invalid_text_file", "The text file has no text.", param="text_file")
    return HeldOut(examples, text, base.context_length)


def _rows(param: str, file_id: str, digests: Mapping[str, str], run: JobRun) -> list[NumberedRow]:
    """Raises JobFailed for a file that is gone, was changed, or cannot be read."""
    file = run.resources.files.get(file_id, tenant=run.job.tenant)
    target = run.scratch / param
    artifact = None if file is None else file.artifact
    fetch_file(run.resources.artifacts, artifact, target, digest=digests.get(param, ""), param=param)
    return list(load_rows(DataFile(target, "" if file is None else file.filename), param=param))
