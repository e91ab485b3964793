"""Tells of each training step, and ends the training when the job must stop."""

import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from workers.run import JobRun


class Progress(TrainerCallback):
    """A metrics event a step. `run.check` is called around every batch; Checkpoints brings the job to rest."""

    def __init__(self, run: JobRun) -> None:
        self._run = run
        self._began_at = time.monotonic()
        self._first_step = 0

    def on_train_begin(self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        self._began_at, self._first_step = time.monotonic(), state.global_step

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._run.check(may_save=True)

    def on_substep_end(self, *_: Any, **__: Any) -> None:
        self._run.check(may_save=True)

    def on_log(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if logs is None or "loss" not in logs:
            return
        step, total = state.global_step, state.max_steps
        step_s = (time.monotonic() - self._began_at) / (step - self._first_step)
        self._run.metrics(
            f"Step {step}/{total}: training loss {logs['loss']:.4f}",
            {
                "step": step,
                "total_steps": total,
                "train_loss": round(float(logs["loss"]), 6),
                "train_mean_token_accuracy": round(float(logs["mean_token_accuracy"]), 6),
                "epoch": round(float(state.epoch or 0.0), 4),
                "learning_rate": float(logs.get("learning_rate", 0.0)),
                "seconds_per_step": round(step_s, 3),
            },
            estimated_finish_at=int(time.time() + step_s * (total - step)) + 1,
        )
        self._run.check(may_save=True)
