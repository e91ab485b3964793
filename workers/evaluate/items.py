"""The rows of a run: where they come from, whether they are what the eval says, and what a model says to them."""

import hashlib
from collections.abc import Sequence
from typing import Any

from jsonschema.validators import validator_for
from referencing import Registry

from contracts.chat_dataset import MAX_ROW_BYTES
from contracts.errors import InvalidTrainingFile
from contracts.eval_criteria import Criterion, placeholders_of
from contracts.eval_items import EvalItem, read_items
from contracts.evals import Eval, FileSource, JsonlSource, ReferencedMessages, SampledSource, Source
from contracts.graders import SLOW_SCHEMA_KEYS, keys_of
from workers.evaluate.asking import Models
from workers.graders import fill
from workers.run import JobFailed, JobRun

SOURCE = "data_source.source"
INPUT = "data_source.input_messages"
ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


def load_items(source: Source, run: JobRun) -> list[EvalItem]:
    """Raises JobFailed for a file that is gone or has broken rows."""
    if not isinstance(source, FileSource):
        return [EvalItem(row.item, row.sample) for row in source.content]
    file = run.resources.files.get(source.id, tenant=run.job.tenant)
    if file is None:
        raise JobFailed("file_not_found", "The data file does not exist any more.", param=f"{SOURCE}.id")
    try:
        content = b"".join(run.resources.artifacts.read(file.artifact))
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != file.digest:
            raise JobFailed("file_damaged", "The data file is not as it was uploaded.", param=f"{SOURCE}.id")
        return list(read_items(content.splitlines()))
    except FileNotFoundError:
        raise JobFailed("file_not_found", "The data file does not exist any more.", param=f"{SOURCE}.id") from None
    except InvalidTrainingFile as error:
        raise JobFailed("invalid_file", error.message, param=f"{SOURCE}.id") from None


def check_items(items: Sequence[EvalItem], of: Eval, source: SampledSource | JsonlSource) -> None:
    """Against the eval's schema. Raises JobFailed that names the first row that does not fit."""
    schema = of.data_source_config.item_schema
    if slow := keys_of(schema) & SLOW_SCHEMA_KEYS:
        raise JobFailed("invalid_schema", f"`{min(slow)}` is not supported in `item_schema`.", param="item_schema")
    validator = validator_for(schema)(schema, registry=Registry())  # an empty registry fetches nothing
    needs_sample = isinstance(source, JsonlSource) and _look_at_samples(of.testing_criteria)
    for number, item in enumerate(items, start=1):
        if (error := next(validator.iter_errors(item.item), None)) is not None:
            where = "".join(f".{part}" for part in error.absolute_path)
            raise JobFailed("invalid_item", f"Row {number}: `item{where}`: {error.message[:500]}.", param=SOURCE)
        if needs_sample and item.sample is None:
            raise JobFailed("missing_sample", f"Row {number} has no `sample`, which criteria look at.", param=SOURCE)


def answer_item(item: EvalItem, source: SampledSource, models: Models) -> dict[str, Any]:
    """The `sample` of an output item, and of templates. Raises what `Models` raises, and JobFailed."""
    asked = _messages(item, source)
    sampling = source.sampling_params
    parameters: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "max_completion_tokens": sampling.max_completion_tokens,
        "response_format": sampling.chosen_format,
    }
    given = {name: value for name, value in parameters.items() if value is not None}
    answer = models.chat(source.model, asked, may_be_kept=False, **given)
    return {
        "input": asked,
        "output": [{"role": "assistant", "content": answer.text}],
        "output_text": answer.text,
        "finish_reason": answer.finish_reason,
        "model": source.model,
        "usage": answer.usage.model_dump(
            include={"prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens"}
        ),
        "error": None,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "max_completion_tokens": sampling.max_completion_tokens,
    }


def _messages(item: EvalItem, source: SampledSource) -> list[dict[str, str]]:
    row = {"item": item.item}
    if isinstance(source.input_messages, ReferencedMessages):
        return _referenced(item.item, source.input_messages.item_reference)
    return [
        {"role": message.role, "content": fill(message.text, row, param=INPUT)}
        for message in source.input_messages.template
    ]


def _referenced(item: dict[str, Any], reference: str) -> list[dict[str, str]]:
    found: Any = item
    for name in reference.split(".")[1:]:
        found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, list) or not found or not all(_is_message(message) for message in found):
        raise JobFailed("invalid_item", f"`{reference}` of a row is no list of messages.", param=INPUT)
    return [{"role": message["role"], "content": message["content"]} for message in found]


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and message.get("role") in ROLES
        and isinstance(message.get("content"), str)
        and len(message["content"]) <= MAX_ROW_BYTES
    )


def _look_at_samples(criteria: Sequence[Criterion]) -> bool:
    return any(source == "sample" for criterion in criteria for source, _ in placeholders_of(criterion))
