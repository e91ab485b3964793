"""The job families of fine-tuning, one for each method. Importing them costs nothing."""

from contracts.fine_tuning import (
    ClassificationSpec,
    DpoSpec,
    MaskedLanguageModellingSpec,
    PretrainingSpec,
    ReinforcementSpec,
    SupervisedSpec,
    TokenClassificationSpec,
)
from workers.finetune.job import fine_tune
from workers.registry import JobFamily, job_family
from workers.run import JobResult, JobRun


@job_family("finetune.supervised")
def supervised(spec: SupervisedSpec, run: JobRun) -> JobResult:
    """Learns to answer as the assistant of the training file does."""
    return fine_tune(spec, run, "workers.finetune.supervised")


@job_family("finetune.dpo")
def dpo(spec: DpoSpec, run: JobRun) -> JobResult:
    """Learns to prefer one of two answers."""
    return fine_tune(spec, run, "workers.finetune.dpo")


@job_family("finetune.reinforcement")
def reinforcement(spec: ReinforcementSpec, run: JobRun) -> JobResult:
    """Learns from the scores of its own answers."""
    return fine_tune(spec, run, "workers.finetune.reinforcement")


@job_family("finetune.pretraining")
def pretraining(spec: PretrainingSpec, run: JobRun) -> JobResult:
    """Learns the language of a domain from its texts."""
    return fine_tune(spec, run, "workers.finetune.pretraining")


@job_family("finetune.masked_language_modelling")
def masked_language_modelling(spec: MaskedLanguageModellingSpec, run: JobRun) -> JobResult:
    """An encoder learns the language of a domain from its texts."""
    return fine_tune(spec, run, "workers.finetune.masked_language_modelling")


@job_family("finetune.classification")
def classification(spec: ClassificationSpec, run: JobRun) -> JobResult:
    """An encoder learns to label texts."""
    return fine_tune(spec, run, "workers.finetune.classification")


@job_family("finetune.token_classification")
def token_classification(spec: TokenClassificationSpec, run: JobRun) -> JobResult:
    """An encoder learns to find names in texts."""
    return fine_tune(spec, run, "workers.finetune.token_classification")


FINE_TUNING: tuple[JobFamily, ...] = (
    supervised,
    dpo,
    reinforcement,
    pretraining,
    masked_language_modelling,
    classification,
    token_classification,
)
