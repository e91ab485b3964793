"""Starts a training: in this process, or by torchrun in several that report to this one, on one machine or more."""

import importlib
import os
from pathlib import Path

from workers.finetune.task import Trained, TrainingTask
from workers.run import JobRun


def train(module: str, task: TrainingTask, run: JobRun) -> Trained:
    """Runs `train(task, run)` of the module, which imports torch. Raises JobFailed, and what `run.check` raises."""
    choose_environment(task.weights)
    if run.resources.processes > 1 or run.resources.machines is not None:
        from workers.finetune.torchrun import train_in_processes

        return train_in_processes(module, task, run, run.resources.processes)
    trained: Trained = importlib.import_module(module).train(task, run)
    return trained


def choose_environment(weights: Path) -> None:
    """Libraries read these when they are imported."""
    if weights.is_dir():
        os.environ["HF_HUB_OFFLINE"] = "1"  # local weights must never make the libraries ask a hub
    # Threads that wait for each other in a busy loop take the cores from engines beside them, and from each other
    # (gcc.gnu.org/onlinedocs/libgomp, "OMP_WAIT_POLICY").
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
