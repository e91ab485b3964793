"""The tasks of lm-evaluation-harness: those whose rows are here, an operator's own, and those of the hub."""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.model import LM
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from contracts.harness import HarnessSpec, Score
from workers.run import JobFailed

LOCAL = Path(__file__).parent / "tasks"
SEED, FEW_SHOT_SEED = 0, 1234
"""The harness' own defaults, so that its command line chooses the same rows for prompts."""
BOOTSTRAPS = 1_000
"""Of standard errors that have no formula."""


class Tasks:
    """`folder` has an operator's own tasks, as the harness describes them. Every method raises JobFailed."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folders = [LOCAL, *([] if folder is None else [folder])]
        self._here = TaskManager(include_path=self._folders, include_defaults=False)
        self._all: TaskManager | None = None

    def expand(self, names: Iterable[str]) -> list[str]:
        """Names without tags and groups of ours in them, each once."""
        expanded: list[str] = []
        for place, name in enumerate(names):
            if name not in self._manager(name).all_tasks:
                message = f"There is no task `{name}`. `local` stands for all whose rows need no hub."
                raise JobFailed("unknown_task", message, param=f"tasks.{place}")
            expanded += self._members(name)
        return list(dict.fromkeys(expanded))

    def evaluate(self, name: str, model: LM, spec: HarnessSpec) -> tuple[list[Score], dict[str, Any]]:
        """The scores of one task, and what was asked and answered, by the names of its parts."""
        import numpy as np

        random.seed(SEED)
        np.random.seed(FEW_SHOT_SEED)
        loaded = self._load(name)
        for task in loaded["tasks"].values():
            _set_few_shot(task, spec.num_fewshot)
        results = evaluate(
            model,
            loaded,
            limit=spec.limit,
            bootstrap_iters=BOOTSTRAPS,
            apply_chat_template=spec.apply_chat_template,
            fewshot_as_multiturn=spec.apply_chat_template,
        )
        return _scores(results), {task: _plain(samples) for task, samples in results["samples"].items()}

    def _manager(self, name: str) -> TaskManager:
        """That of the hub's tasks takes seconds to make."""
        if name in self._here.all_tasks:
            return self._here
        if self._all is None:
            self._all = TaskManager(include_path=self._folders)
        return self._all

    def _members(self, name: str) -> list[str]:
        if name not in self._here.all_tags:
            return [name]
        return sorted(self._here.task_index[name].tags)

    def _load(self, name: str) -> Any:
        try:
            loaded = self._manager(name).load([name])
        except (OSError, ValueError, RuntimeError) as error:
            raise _unavailable(name, error) from error
        if any(getattr(task, "UNSAFE_CODE", False) for task in loaded["tasks"].values()):
            message = f"The task `{name}` runs programs that the model writes, which workers do not do."
            raise JobFailed("unsafe_task", message, param="tasks")
        return loaded


def _unavailable(name: str, error: Exception) -> JobFailed:
    """Libraries of the hub tell in many ways that it was not reached; all derive from these three."""
    message = (
        f"The task `{name}` needs a data set that this worker cannot get ({type(error).__name__}). "
        "Where the hub is not reachable, choose tasks whose names begin with `local`."
    )
    return JobFailed("data_unavailable", message, param="tasks")


def _set_few_shot(task: Any, wanted: int | None) -> None:
    """As the harness' command line does: a task that says 0 keeps it."""
    own = task.get_config("num_fewshot")
    if wanted is not None and own != 0:
        task.set_config(key="num_fewshot", value=wanted)
    elif own is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=FEW_SHOT_SEED)


def _scores(results: Any) -> list[Score]:
    return [
        Score(
            task=task,
            metric=metric,
            filter=way,
            value=float(value),
            stderr=_number(figures.get(f"{metric}_stderr,{way}")),
            rows=results["n-samples"].get(task, {}).get("effective", 0),
            few_shot=results["n-shot"].get(task) or 0,
            higher_is_better=results["higher_is_better"].get(task, {}).get(metric),
        )
        for task, figures in {**results["results"], **results.get("groups", {})}.items()
        for metric, way, value in _figures(figures)
    ]


def _figures(figures: dict[str, Any]) -> Iterable[tuple[str, str, Any]]:
    for name, value in figures.items():
        metric, comma, way = name.partition(",")
        if comma and not metric.endswith("_stderr"):
            yield metric, way, value


def _number(told: Any) -> float | None:
    return None if told is None or isinstance(told, str) else float(told)


def _plain(samples: Sequence[Any]) -> list[dict[str, Any]]:
    """What a reader wants of each row: what was asked, what was right, what was answered, how it scored."""
    return [
        {
            "row": sample["doc_id"],
            "filter": sample["filter"],
            "asked": [list(map(str, arguments)) for arguments in sample["arguments"]],
            "right": str(sample["target"]),
            "answered": [str(answer) for answer in sample["filtered_resps"]],
            "scores": {metric: str(sample[metric]) for metric in sample["metrics"]},
        }
        for sample in samples
    ]
