"""Runs of lm-evaluation-harness, and of the measures for encoders: what is asked for, and what comes of it."""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from contracts.engine import EngineTask

HARNESS_FAMILY = "evaluate.harness"
ENCODER_FAMILY = "evaluate.harness.encoder"

LOCAL_TASKS = "local"
"""All tasks whose rows are in this repository."""
SCORES = "scores"
"""The field of a metrics event that holds a finished task's `Score`s."""
TOLD = "Scores of "
"""How the message of such an event begins."""
RESULTS = "results"
"""The field of a metrics event that names the folder with what was asked and answered, in the artifact store."""
KEPT = "What was asked and answered is kept"
"""How the message of that event begins."""

TaskName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,127}$")]


def result_file(task: str) -> str:
    """In the folder of a run's results."""
    return f"{task}.json"


class HarnessSpec(BaseModel):
    """`tokenizer` is the model whose tokenizer `model` has: a base where `model` is an adapter or an alias of one."""

    model_config = ConfigDict(frozen=True)

    model: str
    tokenizer: str
    creator: str = Field(description="The API key whose models and limits the run has.")
    tasks: tuple[TaskName, ...]
    limit: int | None = None
    num_fewshot: int | None = None
    apply_chat_template: bool = False


class EncoderSpec(BaseModel):
    """`file` is None for the rows that are in this repository."""

    model_config = ConfigDict(frozen=True)

    model: str
    task: EngineTask
    creator: str
    file: str | None = None
    limit: int | None = None
    sensitive: str | None = Field(None, description="The column that says the group of each row, of a classifier.")
    positive: str | None = Field(None, description="The label whose fairness is measured; None for all.")


class Score(BaseModel):
    """One metric of one task. `stderr` is None where it is not known, as of perplexities."""

    model_config = ConfigDict(frozen=True)

    task: str
    metric: str
    filter: str = "none"
    value: float
    stderr: float | None = None
    rows: int
    few_shot: int = 0
    higher_is_better: bool | None = None
    details: dict[str, Any] | None = Field(None, description="What one figure cannot tell, such as a confusion matrix.")


def in_words(scores: Iterable[Score]) -> str:
    """`acc 0.3450 ± 0.0337, acc_norm 0.3600 ± 0.0340`."""
    return ", ".join(
        f"{score.metric}{'' if score.filter == 'none' else f' ({score.filter})'} {score.value:.4f}"
        + ("" if score.stderr is None else f" ± {score.stderr:.4f}")
        for score in scores
    )
