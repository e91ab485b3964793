"""Reads `EVAL.yaml`: what is measured, on which rows. docs/evaluation.md describes it."""

import csv
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cli.errors import CliError
from contracts.eval_criteria import Criterion, Messages
from contracts.evals import SamplingParams, check_names


class EvalSpec(BaseModel):
    """`data` is a path beside the file: JSON Lines or CSV. Without a `prompt` each row has `messages`, whose last one,
    if it is the assistant's, is the row's `answer`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    data: Path
    prompt: str | Messages | None = None
    sampling: SamplingParams = SamplingParams()
    criteria: Annotated[tuple[Criterion, ...], Field(min_length=1)]

    @field_validator("criteria")
    @classmethod
    def _names_differ(cls, value: tuple[Criterion, ...]) -> tuple[Criterion, ...]:
        check_names(value)
        return value

    @property
    def input_messages(self) -> dict[str, Any]:
        if self.prompt is None:
            return {"type": "item_reference", "item_reference": "item.messages"}
        if isinstance(self.prompt, str):
            return {"type": "template", "template": [{"role": "user", "content": self.prompt}]}
        return {"type": "template", "template": [message.model_dump(mode="json") for message in self.prompt]}

    @property
    def testing_criteria(self) -> list[dict[str, Any]]:
        return [criterion.model_dump(mode="json", by_alias=True, exclude_none=True) for criterion in self.criteria]

    def digest(self, items: list[dict[str, Any]]) -> str:
        """The same for the same measurement of the same rows, by which an eval is found again."""
        measured = {"criteria": self.testing_criteria, "input": self.input_messages, "items": items}
        return hashlib.sha256(json.dumps(measured, sort_keys=True).encode()).hexdigest()[:32]


def read_spec(file: Path) -> tuple[EvalSpec, list[dict[str, Any]]]:
    """With the rows. Raises CliError that names what is wrong."""
    try:
        spec = EvalSpec.model_validate(yaml.safe_load(file.read_text()))
    except FileNotFoundError:
        raise CliError(f"There is no file {file}.") from None
    except yaml.YAMLError as error:
        raise CliError(f"{file} is no YAML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise CliError(f"{file}: `{place}`: {first['msg']}.") from None
    data = file.parent / spec.data
    try:
        return spec, [{"item": _item(row)} for row in _rows(data)]
    except FileNotFoundError:
        raise CliError(f"There is no file {data}.", advice=f"`data` in {file} is a path beside that file.") from None


def _rows(data: Path) -> list[dict[str, Any]]:
    if data.suffix == ".csv":
        with data.open(newline="", encoding="utf-8-sig") as source:
            rows: list[dict[str, Any]] = list(csv.DictReader(source))
    else:
        rows = []
        for number, line in enumerate(data.read_text().splitlines(), start=1):
            if not line.strip():
                continue
            try:
                rows.append(dict(json.loads(line)))
            except (ValueError, TypeError):
                raise CliError(f"Row {number} of {data} is no JSON object.") from None
    if not rows:
        raise CliError(f"{data} has no rows.")
    return rows


def _item(row: dict[str, Any]) -> dict[str, Any]:
    """A row as it is, but for OpenAI's `{"item": …}` and for a conversation that ends with its answer."""
    if set(row) <= {"item", "sample"} and isinstance(row.get("item"), dict):
        return dict(row["item"])
    messages = row.get("messages")
    if isinstance(messages, list) and messages and dict(messages[-1]).get("role") == "assistant":
        return {**row, "messages": messages[:-1], "answer": messages[-1].get("content", "")}
    return row
