"""Tells of each training step, and ends the training when the job must stop."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from workers.finetune.task import Reporter

FINAL = "full_"
"""OpenAI's prefix of figures over the whole validation file, after the training."""


class Progress(TrainerCallback):
    """A metrics event a step. `run.check` is called around every batch; Checkpoints brings the job to rest.

    Of several processes the first tells and all check.
    """

    def __init__(self, run: Reporter, *, total_steps: int, names: Sequence[str] = ()) -> None:
        self._run, self._total, self._names = run, total_steps, tuple(names)
        self._began_at = time.monotonic()
        self._first_step = 0
        self._prefix = ""

    @contextmanager
    def telling(self, prefix: str) -> Iterator[None]:
        """What is measured inside is told under names with this prefix as well."""
        self._prefix = prefix
        yield
        self._prefix = ""

    def chosen(self, measured: dict[str, float]) -> dict[str, float]:
        """Of what an evaluation returns, what shall be told: `valid_loss`, `valid_<name>`."""
        wanted = {f"eval_{name}": f"valid_{name}" for name in ("loss", *self._names)}
        return {wanted[name]: round(float(value), 6) for name, value in measured.items() if name in wanted}

    def time_of_earlier_steps(self, took_s: float) -> float:
        """Of the steps before the first one of this training, if the others `took_s` in all."""
        return took_s * self._first_step / (self._total - self._first_step)

    def on_train_begin(self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        self._began_at, self._first_step, self._total = time.monotonic(), state.global_step, state.max_steps

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._run.check(may_save=True)

    def on_substep_end(self, *_: Any, **__: Any) -> None:
        self._run.check(may_save=True)

    def on_prediction_step(self, *_: Any, **__: Any) -> None:
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
        if state.is_world_process_zero:
            self._run.metrics(
                f"Step {step}/{total}: training loss {logs['loss']:.4f}",
                {
                    "step": step,
                    "total_steps": total,
                    "train_loss": round(float(logs["loss"]), 6),
                    **{f"train_{name}": round(float(logs[name]), 6) for name in self._names if name in logs},
                    "epoch": round(float(state.epoch or 0.0), 4),
                    "learning_rate": float(logs.get("learning_rate", 0.0)),
                    "seconds_per_step": round(step_s, 3),
                },
                estimated_finish_at=int(time.time() + step_s * (total - step)) + 1,
            )
        self._run.check(may_save=True)

    def on_evaluate(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        told = self.chosen(metrics or {})
        if not told or not state.is_world_process_zero:
            return
        whole = {f"{self._prefix}{name}": value for name, value in told.items()}
        in_words = ", ".join(f"{name.removeprefix('valid_')} {value:.4f}" for name, value in told.items())
        self._run.metrics(
            f"Step {state.global_step}/{self._total}: validation {in_words}",
            {"step": state.global_step, "total_steps": self._total, **told, **whole},
        )
