"""The weights of a model on the worker's machine."""

from pathlib import Path

from contracts.models import ModelCard
from workers.run import JobFailed, JobRun


def weights_of(card: ModelCard, run: JobRun) -> Path:
    """A local folder, or a hub's name where the base has one. What a job made is fetched and checked by its digest.

    Raises JobFailed, DigestMismatch, and the errors of a store that is away.
    """
    if card.kind != "base":
        folder = run.scratch / "models" / card.name.replace("/", "_")
        run.resources.artifacts.download_folder(card.weights, folder, digest=card.digest)
        return folder
    weights = Path(card.weights)
    if weights.is_absolute() and not weights.is_dir():
        raise JobFailed("weights_not_found", f"The weights of `{card.name}` are not on the worker's machine.")
    return weights
