"""The job family `finetune.lora`: supervised fine-tuning of a low-rank adapter (Hu et al., 2021)."""

import os
import time
from pathlib import Path

from contracts.identifiers import fine_tuned_model_name
from contracts.jobs import LoraSpec
from contracts.models import ModelCard
from workers.finetune.adapter import clean_adapter
from workers.finetune.dataset import fetch_training_file, read_examples, training_file_gone
from workers.finetune.hyperparameters import plan_training
from workers.registry import job_family
from workers.run import JobFailed, JobResult, JobRun


@job_family("finetune.lora")
def finetune_lora(spec: LoraSpec, run: JobRun) -> JobResult:
    """Trains on the file's last answers, stores the adapter, and hands back its card.

    The same data, seed and machine give the same adapter. Raises JobFailed for data or weights that cannot be used.
    """
    base = _base_model(spec, run)
    with _training_file(spec, run).open("rb") as lines:
        examples = read_examples(list(lines))
    plan = plan_training(spec.hyperparameters, examples=len(examples))
    run.message(
        f"Training on {len(examples)} examples: {plan.epochs} epochs of batches of {plan.batch_size}, "
        f"{plan.total_steps} steps, rank {plan.rank}."
    )
    run.check()

    _choose_offline(base)
    _wait_without_spinning()
    from workers.finetune.training import train_adapter  # imports torch: takes seconds, and belongs after the fork

    run.check()
    folder = run.scratch / "adapter"
    trained = train_adapter(base, examples, plan, run, folder, seed=spec.seed)
    clean_adapter(folder, base_model=base.name)
    run.check()
    digest = run.resources.artifacts.upload_folder(folder, run.artifact_folder)
    card = ModelCard(
        name=fine_tuned_model_name(base.name, run.job.tenant, spec.suffix, run.job.id),
        kind="adapter",
        task="generate",
        parent=base.name,
        tenant=run.job.tenant,
        weights=run.artifact_folder,
        digest=digest,
        data_digest=spec.training_file_digest,
        job=run.job.id,
        metrics=trained.metrics,
        licence=base.licence,
        context_length=base.context_length,
        input_price=base.input_price,
        output_price=base.output_price,
        on_demand=base.on_demand,
        created_at=int(time.time()),
    )
    return JobResult(f"The job succeeded. The model is `{card.name}`.", card, trained.tokens)


def _base_model(spec: LoraSpec, run: JobRun) -> ModelCard:
    base = run.resources.models.get(spec.base_model)
    if base is None:
        raise JobFailed("model_not_found", f"The model `{spec.base_model}` does not exist any more.", param="model")
    if Path(base.weights).is_absolute() and not Path(base.weights).is_dir():
        raise JobFailed("weights_not_found", f"The weights of `{base.name}` are not on the worker's machine.")
    return base


def _training_file(spec: LoraSpec, run: JobRun) -> Path:
    file = run.resources.files.get(spec.training_file, tenant=run.job.tenant)
    if file is None:
        raise training_file_gone()
    target = run.scratch / "training.jsonl"
    fetch_training_file(run.resources.artifacts, file.artifact, target, digest=spec.training_file_digest)
    return target


def _choose_offline(base: ModelCard) -> None:
    """Local weights must never make the libraries ask a hub. They read this when they are imported."""
    if Path(base.weights).is_dir():
        os.environ["HF_HUB_OFFLINE"] = "1"


def _wait_without_spinning() -> None:
    """Threads that wait for each other in a busy loop take the cores from engines beside them, and from each other.

    libgomp reads this when torch is imported (gcc.gnu.org/onlinedocs/libgomp, "OMP_WAIT_POLICY").
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
