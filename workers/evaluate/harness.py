"""The job family `evaluate.harness`: lm-evaluation-harness asks a model through the gateway."""

import json
import time
from collections.abc import Sequence
from typing import Any

from contracts.harness import SCORES, TOLD, HarnessSpec, Score, in_words, result_file
from workers.evaluate.harness_model import GatewayModel
from workers.evaluate.harness_tasks import Tasks
from workers.evaluate.kept import keep_results
from workers.run import JobFailed, JobResult, JobRun
from workers.weights import weights_of

TELL_EVERY_S = 2.0


def evaluate(spec: HarnessSpec, run: JobRun) -> JobResult:
    """A task that is finished stays so, whatever happens to the worker.

    Raises JobFailed for a task that there is not, or whose data cannot be had, and for a model that cannot be asked.
    """
    finished = FinishedTasks(run)
    tasks = Tasks(run.resources.evaluation.tasks_folder)
    names = tasks.expand(spec.tasks)
    card = run.resources.models.get(spec.tokenizer)
    if card is None:
        raise JobFailed("model_not_found", f"The model `{spec.tokenizer}` does not exist any more.", param="model")
    run.message(f"Asking `{spec.model}` {len(names)} tasks.")
    with run.calling(spec.creator) as caller:
        model = GatewayModel(
            caller,
            spec.model,
            tokenizer=weights_of(card, run),
            context_length=card.context_length,
            at_once=run.resources.evaluation.concurrency,
            check=run.check,
        )
        for place, name in enumerate(names):
            if name in finished.names:
                continue
            model.told = Telling(run, name, place, len(names))
            scores, samples = tasks.evaluate(name, model, spec)
            finished.add(name, scores, samples)
    keep_results(finished.folder, run)
    return JobResult(f"{len(names)} tasks are finished.")


class Telling:
    """What a task's requests tell while they are answered."""

    def __init__(self, run: JobRun, task: str, place: int, tasks: int) -> None:
        self._run, self._task, self._which = run, task, f"task {place + 1} of {tasks}"
        self._told_at = self._started_at = time.monotonic()
        self._answered = 0

    def __call__(self, answered: int, of: int) -> None:
        now = time.monotonic()
        if now - self._told_at < TELL_EVERY_S or answered == self._answered:
            return
        self._answered = answered
        self._told_at = now
        rate = answered / (now - self._started_at)
        self._run.metrics(
            f"{self._task} ({self._which}): {answered} of {of} requests are answered.",
            {"task": self._task, "step": answered, "total_steps": of, "requests_per_second": round(rate, 2)},
        )


class FinishedTasks:
    """The results of finished tasks, kept as the job's checkpoints. `folder` has a JSON file for each."""

    def __init__(self, run: JobRun) -> None:
        self._run, self.folder = run, run.scratch / "finished"
        if run.latest_checkpoint(self.folder) is None:
            self.folder.mkdir(exist_ok=True)
        known = [json.loads(path.read_text(encoding="utf-8")) for path in self.folder.glob("*.json")]
        self.names: set[str] = {each["task"] for each in known}
        if self.names:
            run.message(f"{len(self.names)} tasks were finished before.")

    def add(self, name: str, scores: Sequence[Score], samples: dict[str, Any]) -> None:
        told = [score.model_dump(mode="json") for score in scores]
        content = json.dumps({"task": name, SCORES: told, "samples": samples}, ensure_ascii=False)
        (self.folder / result_file(name)).write_text(content, encoding="utf-8")
        self.names.add(name)
        self._run.metrics(f"{TOLD}{name}: {in_words(scores)}.", {"task": name, SCORES: told})
        figures = {f"{score.task}.{score.metric}.{score.filter}": score.value for score in scores}
        self._run.save_checkpoint(self.folder, step=len(self.names), metrics=figures)
