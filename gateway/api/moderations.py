"""/v1/moderations: what a text holds of OpenAI's categories, by the classifiers of contracts/text_classifiers.

Source: OpenAI API reference, "Moderations".
"""

import asyncio
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

from contracts.errors import InvalidValue, ModelNotFound, RateLimitExceeded
from contracts.identifiers import new_id
from contracts.keys import ApiKey
from contracts.models import ModelCard
from contracts.text_classifiers import (
    JUDGED_CATEGORIES,
    MODERATION_CATEGORIES,
    MODERATION_THRESHOLDS,
    ModerationCategory,
    TextClassifiers,
)
from gateway.api.access import InferenceKey
from gateway.limits.admission import AdmissionControl
from gateway.limits.headers import HeaderList
from gateway.metrics import Metrics

MODEL = "flywheel-moderation-1"
NAMES = frozenset(
    {
        MODEL,
        "omni-moderation-latest",
        "omni-moderation-2024-09-26",
        "text-moderation-latest",
        "text-moderation-stable",
    }
)
"""What clients ask for by habit is answered by the one classifier that there is."""
MOST_CHARACTERS = 100_000
"""Of all inputs of a request: about a tenth of a second of one core."""
MOST_INPUTS = 256

router = APIRouter(prefix="/v1/moderations", tags=["Moderations"])


class TextPart(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: str


class ImagePart(BaseModel):
    """Understood, and refused: images are not judged."""

    type: Literal["image_url"]


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]
Texts = Annotated[list[str], Field(min_length=1, max_length=MOST_INPUTS)]
Parts = Annotated[list[Part], Field(min_length=1, max_length=MOST_INPUTS)]


def _explained(value: Any, parse: ValidatorFunctionWrapHandler) -> Any:
    """One reason for the whole field, in place of one for each form that it might have had."""
    try:
        return parse(value)
    except ValidationError:
        raise PydanticCustomError(
            "input_type", f"a text, 1 to {MOST_INPUTS} texts, or the parts of a message, each of type `text`"
        ) from None


class CreateModeration(BaseModel):
    model_config = ConfigDict(extra="forbid")

    input: Annotated[str | Texts | Parts, WrapValidator(_explained)] = Field(
        description="A text, texts that are judged one by one, or the parts of one message. At most "
        f"{MOST_CHARACTERS:,} characters in all."
    )
    model: str = Field(MODEL, description="OpenAI's names of moderation models stand for the one that there is.")


class ModerationResult(BaseModel):
    """`categories` holds every category of OpenAI's; those that are not judged are false and apply to nothing."""

    flagged: bool = Field(description="Whether any category holds.")
    categories: dict[ModerationCategory, bool]
    category_scores: dict[ModerationCategory, float]
    category_applied_input_types: dict[ModerationCategory, list[Literal["text"]]]


class ModerationObject(BaseModel):
    id: str
    model: str
    results: list[ModerationResult]


class ModerationService:
    """Judges in a thread, one request at a time, so that the data path gets the interpreter in between.

    A request counts against the requests a minute of its key and tenant, and costs no tokens.
    """

    def __init__(self, classifiers: TextClassifiers, admission: AdmissionControl, metrics: Metrics) -> None:
        self._classifiers = classifiers
        self._admission = admission
        self._metrics = metrics
        self._turn = asyncio.Lock()
        self._card = ModelCard(
            name=MODEL,
            kind="base",
            task="classify",
            weights="",
            digest="",
            context_length=MOST_CHARACTERS,
            created_at=0,
        )

    async def moderate(self, asked: CreateModeration, key: ApiKey) -> tuple[ModerationObject, HeaderList]:
        """The answer, and headers that tell how the key stands.

        Raises ModelNotFound, InvalidValue, and what admission raises.
        """
        if asked.model not in NAMES:
            raise ModelNotFound(asked.model)
        texts = _texts(asked)
        if sum(map(len, texts)) > MOST_CHARACTERS:
            raise InvalidValue(f"The input is too long: at most {MOST_CHARACTERS:,} characters in all.", param="input")
        headers = await self._admit(key)
        async with self._turn:
            started = time.perf_counter()
            results = await asyncio.to_thread(self._judge, texts)
            self._metrics.moderation_duration.observe(time.perf_counter() - started)
        for result in results:
            self._metrics.moderated.labels("flagged" if result.flagged else "passed").inc()
        return ModerationObject(id=new_id("modr"), model=MODEL, results=results), headers

    async def _admit(self, key: ApiKey) -> HeaderList:
        try:
            admission = await self._admission.admit(
                key, self._card, prompt_tokens=0, completion_tokens=0, cache_digest=None
            )
        except RateLimitExceeded:
            self._metrics.limited.inc()
            raise
        self._admission.settle(admission, None)
        return admission.headers

    def _judge(self, texts: list[str]) -> list[ModerationResult]:
        results = []
        for text in texts:
            results.append(_result(self._classifiers.moderation(text)))
            time.sleep(0)  # lets the event loop in
        return results


def _texts(asked: CreateModeration) -> list[str]:
    if isinstance(asked.input, str):
        return [asked.input]
    texts = [part for part in asked.input if isinstance(part, str)]
    parts = [part for part in asked.input if isinstance(part, TextPart)]
    if len(texts) + len(parts) < len(asked.input):
        raise InvalidValue("Images are not judged here, only parts of type `text`.", param="input")
    return texts or ["\n".join(part.text for part in parts)]


def _result(scores: dict[ModerationCategory, float]) -> ModerationResult:
    holds = {name: scores[name] >= MODERATION_THRESHOLDS.get(name, 1.0) for name in MODERATION_CATEGORIES}
    return ModerationResult(
        flagged=any(holds.values()),
        categories=holds,
        category_scores=scores,
        category_applied_input_types={
            name: ["text"] if name in JUDGED_CATEGORIES else [] for name in MODERATION_CATEGORIES
        },
    )


def _service(request: Request) -> ModerationService:
    service: ModerationService = request.app.state.moderation_service
    return service


@router.post("", summary="Judge texts by OpenAI's moderation categories.")
async def create_moderation(
    asked: CreateModeration,
    key: InferenceKey,
    response: Response,
    service: Annotated[ModerationService, Depends(_service)],
) -> ModerationObject:
    answer, headers = await service.moderate(asked, key)
    response.raw_headers += headers
    return answer
