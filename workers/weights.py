"""A model's weights on the worker's machine."""

from pathlib import Path

from contracts.models import ModelCard
from workers.run import JobFailed, JobRun


def require_card(name: str, run: JobRun, *, param: str = "model") -> ModelCard:
    """Raises JobFailed."""
    card = run.resources.models.get(name)
    if card is None:
        raise JobFailed("model_not_found", f"The model `{name}` does not exist any more.", param=param)
    return card


def fetch_weights(card: ModelCard, run: JobRun) -> Path:
    """A local folder, or a hub's name where the base has one. What a job made is fetched and checked by its digest.

    Raises JobFailed.
    """
    if card.kind != "base":
        folder = run.scratch / "models" / card.name.replace("/", "_")
        run.resources.artifacts.download_folder(card.weights, folder, digest=card.digest)
        return folder
    weights = Path(card.weights)
    if weights.is_absolute() and not weights.is_dir():
        raise JobFailed("weights_not_found", f"The weights of `{card.name}` are not on the worker's machine.")
    return weights
