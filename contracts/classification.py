"""Answers of `/v1/classify`, for both tasks that it serves.

For `classify` they are vLLM's own (docs.vllm.ai, "Classification API"); for `token_classify` they have the same
envelope, with what was found in each text in place of a label for all of it.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class ClassificationUsage(Struct, frozen=True):
    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0


class TextLabel(Struct, frozen=True):
    """Task `classify`: what a text is."""

    index: int
    label: Annotated[str, Meta(description="The likeliest label.")]
    probs: Annotated[list[float], Meta(description="Of every label, in the order that the model was trained with.")]
    num_classes: int


class Entity(Struct, frozen=True):
    label: str
    text: str
    start: Annotated[int, Meta(description="Place of its first letter in the text, counted from 0 in code points.")]
    end: Annotated[int, Meta(description="Place after its last letter.")]
    score: Annotated[float, Meta(description="Mean of its words' scores, 0 to 1.")]


class WordLabel(Struct, frozen=True):
    label: Annotated[
        str, Meta(description="As the model was trained, for example `B-PER`, or `O` outside of entities.")
    ]
    start: int
    end: int
    score: float


class TextEntities(Struct, frozen=True):
    """Task `token_classify`: what is in a text."""

    index: int
    entities: list[Entity]
    words: Annotated[list[WordLabel], Meta(description="The label of every word.")]


class _Answer(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["list"] = "list"
    created: Annotated[int, Meta(description="Unix seconds.")]
    model: str
    usage: ClassificationUsage


class ClassificationAnswer(_Answer, frozen=True, kw_only=True):
    data: list[TextLabel]


class TokenClassificationAnswer(_Answer, frozen=True, kw_only=True):
    data: list[TextEntities]
