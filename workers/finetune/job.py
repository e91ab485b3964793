"""A fine-tuning job from its files to its model card."""

import time
from pathlib import Path

from contracts.fine_tuning import FineTuningSpec, ReinforcementSpec
from contracts.graders import RewardModelGrader
from contracts.identifiers import fine_tuned_model_name
from contracts.models import ModelCard
from workers.finetune.checks import check_data
from workers.finetune.estimate import TOKENS_PER_SECOND
from workers.finetune.files import fetch_file
from workers.finetune.launch import train
from workers.finetune.task import DataFile, Trained, TrainingTask
from workers.room import require_room
from workers.run import JobFailed, JobResult, JobRun
from workers.weights import weights_of


def fine_tune(spec: FineTuningSpec, run: JobRun, training: str) -> JobResult:
    """Trains by the module `training`, stores what it made, and hands back its card.

    The same data, seed and machine give the same weights. Raises JobFailed for data or weights that cannot be used.
    """
    base = _card(spec.base_model, run)
    weights = weights_of(base, run)
    require_room(spec, weights, run)
    task = TrainingTask(
        spec=spec,
        base=base,
        weights=weights,
        files={name: _file(name, file, digest, run) for name, (file, digest) in spec.files().items()},
        output=run.scratch / "output",
        scratch=run.scratch / "training",
        threads=run.resources.threads,
        checkpoint_every_s=run.resources.checkpoint_every_s,
        reward_model=_reward_model(spec, run),
    )
    run.check()
    check_data(task, run)
    began_at = time.monotonic()
    trained = train(training, task, run)
    undisturbed_s = time.monotonic() - began_at + trained.earlier_s
    speed = {TOKENS_PER_SECOND: round(trained.tokens / undisturbed_s, 1)}
    run.check(may_save=True)
    digest = run.resources.artifacts.upload_folder(task.output, run.artifact_folder)
    if trained.form == "unserved":
        message = (
            "The job succeeded. No engine can serve a learnt prefix, so there is no model; its weights are kept at"
        )
        return JobResult(f"{message} `{run.artifact_folder}` in the artifact store.", None, trained.tokens)
    card = _result_card(task, trained, run, digest, speed)
    return JobResult(f"The job succeeded. The model is `{card.name}`.", card, trained.tokens)


def _result_card(task: TrainingTask, trained: Trained, run: JobRun, digest: str, speed: dict[str, float]) -> ModelCard:
    base, spec = task.base, task.spec
    return ModelCard(
        name=fine_tuned_model_name(base.name, run.job.tenant, spec.suffix, run.job.id),
        kind="adapter" if trained.form == "adapter" else "full",
        task=trained.task or base.task,
        parent=base.name,
        tenant=run.job.tenant,
        weights=run.artifact_folder,
        digest=digest,
        data_digest=spec.training_file_digest,
        job=run.job.id,
        metrics=trained.metrics | speed,
        licence=base.licence,
        context_length=base.context_length,
        input_price=base.input_price,
        output_price=base.output_price,
        on_demand=trained.form == "full" or base.on_demand,
        created_at=int(time.time()),
    )


def _card(name: str, run: JobRun, *, param: str = "model") -> ModelCard:
    card = run.resources.models.get(name)
    if card is None:
        raise JobFailed("model_not_found", f"The model `{name}` does not exist any more.", param=param)
    return card


def _reward_model(spec: FineTuningSpec, run: JobRun) -> Path | None:
    if not isinstance(spec, ReinforcementSpec) or not isinstance(spec.grader, RewardModelGrader):
        return None
    return weights_of(_card(spec.grader.model, run, param="method.reinforcement.grader.model"), run)


def _file(name: str, file_id: str, digest: str, run: JobRun) -> DataFile:
    file = run.resources.files.get(file_id, tenant=run.job.tenant)
    target = run.scratch / name
    artifact = None if file is None else file.artifact
    fetch_file(run.resources.artifacts, artifact, target, digest=digest, param=name)
    return DataFile(target, "" if file is None else file.filename)
