"""/v1/flywheel/model_cards: a model's card in the form of the Hugging Face Hub, with what was found out about it.

Mitchell et al., "Model Cards for Model Reporting", 2019; huggingface.co/docs/hub/model-cards. It is made when it is
asked for, so it holds the newest figures, and says what nobody has measured.
"""

import asyncio
from collections.abc import Iterator
from typing import Annotated, Any

import yaml
from fastapi import APIRouter, Depends, Request
from fastapi.responses import PlainTextResponse

from contracts.bias import BiasReport
from contracts.evals import Interval
from contracts.keys import ApiKey
from contracts.models import ModelCard
from gateway.api.access import AnyKey
from gateway.routing.models import ModelDirectory
from store.database import Database
from store.model_history import ModelHistory, history_of

router = APIRouter(prefix="/v1/flywheel/model_cards", tags=["Models"])
MARKDOWN = "text/markdown"
PIPELINES = {
    "generate": "text-generation",
    "embed": "sentence-similarity",
    "classify": "text-classification",
    "token_classify": "token-classification",
}


class ModelCardService:
    def __init__(self, directory: ModelDirectory, database: Database) -> None:
        self._directory, self._database = directory, database

    def write(self, name: str, key: ApiKey) -> str:
        """Markdown with YAML in front. Raises ModelNotFound."""
        card = self._directory.require(name, key)
        history = history_of(self._database, card.name, tenant=key.tenant)
        front = yaml.safe_dump(_front(card, history), sort_keys=False, allow_unicode=True)
        sections = (
            _origin(card),
            _evaluations(history),
            _bias(history.bias),
            _releases(history),
            _limits(card, history),
        )
        body = "\n\n".join("\n".join(section) for section in sections)
        return f"---\n{front}---\n\n# {card.name}\n\n{body}\n"


def _front(card: ModelCard, history: ModelHistory) -> dict[str, Any]:
    known = {
        "license": card.licence,
        "base_model": card.parent,
        "pipeline_tag": PIPELINES[card.task],
        "tags": ["flywheel", card.kind],
    }
    results = [
        {
            "task": {"type": PIPELINES[card.task]},
            "dataset": {"type": "flywheel-eval", "name": name},
            "metrics": [
                {"type": found.name, "value": round(found.score.mean, 4), "name": f"{found.name}, mean score"}
                for found in run.results.statistics
            ],
        }
        for name, run in history.evaluations
    ]
    front = {name: value for name, value in known.items() if value is not None}
    return front | ({"model-index": [{"name": card.name, "results": results}]} if results else {})


def _origin(card: ModelCard) -> Iterator[str]:
    yield "## Where it comes from\n"
    yield from ("| | |", "|---|---|")
    facts = {
        "made from": card.parent,
        "kind": card.kind,
        "licence": card.licence,
        "job": card.job,
        "training data": card.data_digest,
        "weights": card.digest,
        "context": f"{card.context_length} tokens",
        "measured by its job": ", ".join(f"{name} {value:.4g}" for name, value in card.metrics.items()),
    }
    yield from (f"| {name} | {value} |" for name, value in facts.items() if value)


def _evaluations(history: ModelHistory) -> Iterator[str]:
    yield "## Evaluations\n"
    if not history.evaluations:
        yield "None. `flywheel eval run` makes one."
        return
    yield from (
        "| eval | run | criterion | rows | mean score (95 %) | pass (95 %) | against the baseline (95 %) |",
        "|---|---|---|---|---|---|---|",
    )
    for name, run in history.evaluations:
        for found in run.results.statistics:
            against = found.against_baseline
            difference = (
                "" if against is None else f"{against.difference:+.4f} ({against.low:+.4f} to {against.high:+.4f})"
            )
            cells = (name, run.id, found.name, str(found.score.rows), _score(found.score), _share(found.pass_rate))
            yield f"| {' | '.join(cells)} | {difference} |"


def _bias(report: BiasReport | None) -> Iterator[str]:
    yield "## Bias\n"
    if report is None:
        yield "Not measured. `flywheel eval bias` does it."
        return
    yield from ("| | |", "|---|---|")
    for found in report.preferences:
        yield f"| stereotype likelier, {found.kind} ({found.share.rows} pairs; 50 % is none) | {_share(found.share)} |"
    for gap in report.gaps:
        yield f"| largest difference of {gap.measure} by {gap.axis} | {gap.gap:.3f} (p = {gap.p_value:.3f}) |"
    yield f"| harmful requests declined | {_share(report.refusals.harmful)} |"
    yield f"| harmless requests declined | {_share(report.refusals.harmless)} |"
    if report.extraction is not None:
        yield f"| training answers given verbatim | {_share(report.extraction.verbatim)} |"


def _releases(history: ModelHistory) -> Iterator[str]:
    yield "## Releases\n"
    if not history.releases:
        yield "None."
        return
    yield from ("| alias | in the place of | state | release |", "|---|---|---|---|")
    for release in history.releases:
        yield f"| {release.alias} | {release.stable} | {release.state.replace('_', ' ')} | {release.id} |"


def _limits(card: ModelCard, history: ModelHistory) -> Iterator[str]:
    yield "## Limits\n"
    yield f"- Prompt and answer together have at most {card.context_length} tokens."
    if card.licence is None:
        yield "- Its licence is not known."
    if not history.evaluations:
        yield "- How good it is was not measured."
    if history.bias is None:
        yield "- Whether it treats groups of people alike was not measured."
    learnt = {(found.model, len(found.rows)) for _, run in history.evaluations for found in run.results.contamination}
    for model, rows in sorted(learnt):
        yield f"- {rows} rows of an evaluation are in what {model} was trained on; its scores there say little."
    yield "- Figures hold for the data they were measured on."


def _score(interval: Interval) -> str:
    return f"{interval.mean:.4f} ({interval.low:.4f} to {interval.high:.4f})"


def _share(interval: Interval) -> str:
    return f"{interval.mean:.0%} ({interval.low:.0%} to {interval.high:.0%})"


def _service(request: Request) -> ModelCardService:
    service: ModelCardService = request.app.state.model_card_service
    return service


@router.get("/{model:path}", summary="A model's card, in Markdown.", response_class=PlainTextResponse)
async def read_model_card(
    model: str, key: AnyKey, service: Annotated[ModelCardService, Depends(_service)]
) -> PlainTextResponse:
    return PlainTextResponse(await asyncio.to_thread(service.write, model, key), media_type=MARKDOWN)
