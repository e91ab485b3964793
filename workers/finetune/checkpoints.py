"""Makes a transformers Trainer survive: it saves its state now and then, and goes on from the newest one.

A checkpoint holds the trained weights, the optimizer, the schedule, the state of the random numbers and the place in
the data, so that the losses after a resume are those of a training that was never disturbed. Its optimizer and random
states are pickles; they are our own artifacts, checked by their digest, and transformers reads them with torch's
`weights_only`.
"""

import shutil
import time
from pathlib import Path
from typing import Any

import structlog
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from workers.finetune.task import Reporter
from workers.finetune.together import agree, wait_for_all
from workers.transient import transient_reason

NOT_NEEDED = (
    "README.md",
    "training_args.bin",
    "tokenizer*",
    "vocab.*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
)
"""A resumed training gets these from the base model and the job's specification."""

log = structlog.get_logger(__name__)


def train_with_checkpoints(trainer: Trainer, run: Reporter, *, every_s: float) -> None:
    """`trainer.train()`, from the job's newest checkpoint if it has one, with checkpoints on the way.

    Raises what `run.check` raises: at a pause or a stop of the worker only after a checkpoint.
    """
    trainer.add_callback(Checkpoints(run, every_s=every_s))
    newest = Path(trainer.args.output_dir).parent / "newest-checkpoint"
    step = agree(lambda: run.latest_checkpoint(newest))
    if step is None:
        trainer.train()
        return
    run.message(f"The training goes on from step {step}.")
    trainer.train(resume_from_checkpoint=str(newest))


class Checkpoints(TrainerCallback):
    """Saves every `every_s`, and when the job must rest. The training outlives a failed checkpoint.

    Of several processes all save what is theirs, when the first one says so, and the first one stores it.
    """

    def __init__(self, run: Reporter, *, every_s: float) -> None:
        self._run, self._every_s = run, every_s
        self._saved_at = time.monotonic()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._saved_at = time.monotonic()

    def on_step_end(
        self, _args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if state.global_step < state.max_steps:
            control.should_save = agree(self._is_time) or control.should_save
        return control

    def _is_time(self) -> bool:
        return self._run.must_rest or time.monotonic() - self._saved_at >= self._every_s

    def on_save(self, args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        wait_for_all()
        try:
            if state.is_world_process_zero:
                self._keep(folder, state)
        except Exception as error:
            reason = transient_reason(error)
            if reason is None:
                raise
            log.warning("checkpoint not saved", reason=type(error).__name__)
            self._run.message(f"No checkpoint was saved at step {state.global_step}. {reason}", level="warn")
        self._saved_at = time.monotonic()
        self._run.check()

    def _keep(self, folder: Path, state: TrainerState) -> None:
        for pattern in NOT_NEEDED:
            for path in folder.glob(pattern):
                path.unlink()
        self._run.save_checkpoint(folder, step=state.global_step, metrics=_last_metrics(state))
        shutil.rmtree(folder)


def _last_metrics(state: TrainerState) -> dict[str, float]:
    """In the names of OpenAI's checkpoint object."""
    last: dict[str, float] = {}
    for entry in state.log_history:
        last.update({name: float(value) for name, value in entry.items() if isinstance(value, (int, float))})
    names = {
        "loss": "train_loss",
        "mean_token_accuracy": "train_mean_token_accuracy",
        "eval_loss": "full_valid_loss",
        "eval_mean_token_accuracy": "full_valid_mean_token_accuracy",
    }
    told = {ours: round(last[theirs], 6) for theirs, ours in names.items() if theirs in last}
    return {"step": float(state.global_step), **told}
