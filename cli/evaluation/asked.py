"""What a file asks of the API: its eval, found again or made, and the data source of its runs."""

import io
import json
from typing import Any

from openai import OpenAI

from cli.evaluation.spec import EvalSpec

SPEC = "flywheel_spec"
"""Of an eval's metadata: by it the eval of the same measurement is found again, so that its runs can be compared."""
LIST_LIMIT = 100


def find_or_create(client: OpenAI, spec: EvalSpec, rows: list[dict[str, Any]]) -> str:
    """The eval's id."""
    digest = spec.digest(rows)
    for known in client.evals.list(order="desc", limit=LIST_LIMIT):
        if (known.metadata or {}).get(SPEC) == digest:
            return known.id
    config: Any = {"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True}
    criteria: Any = spec.testing_criteria
    made = client.evals.create(
        name=spec.name, data_source_config=config, testing_criteria=criteria, metadata={SPEC: digest}
    )
    return made.id


def source_of(client: OpenAI, spec: EvalSpec, rows: list[dict[str, Any]], model: str) -> dict[str, Any]:
    """A run's data source; the rows are uploaded."""
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    uploaded = client.files.create(file=(f"{spec.data.stem}.jsonl", io.BytesIO(content)), purpose="evals")
    return {
        "type": "completions",
        "model": model,
        "input_messages": spec.input_messages,
        "sampling_params": spec.sampling.model_dump(mode="json", exclude_none=True),
        "source": {"type": "file_id", "id": uploaded.id},
    }
