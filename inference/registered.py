"""Whole models that jobs made: found in the registry, fetched from the artifact store, started like their base."""

from pathlib import Path

from contracts.models import ModelCard
from contracts.serving import ServingFileInvalid, ServingOptions
from inference.catalogue import Catalogue, CatalogueError, CatalogueModel
from inference.copies import copy_of
from inference.model_files import check_model
from inference.weights import Weights, WeightsError
from store.artifacts import ArtifactRefused, ArtifactStore
from store.models import ModelRepository

MOST_GENERATIONS = 16


def find_registered(name: str, catalogue: Catalogue, models: ModelRepository) -> tuple[CatalogueModel, ModelCard]:
    """How to start an engine for a whole model that a job made: as for the base of the catalogue that it goes back to.

    Raises CatalogueError, SQLAlchemyError.
    """
    card = models.get(name)
    if card is None:
        catalogue.require(name)  # its words tell what there is
    if card is None or card.kind != "full":
        raise CatalogueError(f"`{name}` needs no engine of its own: an engine of its base model serves it.")
    base = _base_of(card, catalogue, models)
    own = card.model_dump(include={"name", "task", "licence", "context_length", "input_price", "output_price"})
    return base.model_copy(update=own), card


def fetch_weights(card: ModelCard, artifacts: ArtifactStore, weights_dir: Path) -> Weights:
    """Brings the model to this machine, checked by its digest and for what it has. Raises WeightsError."""
    folder = copy_of(card.digest, weights_dir.expanduser(), "made")
    try:
        artifacts.download_model(card.weights, folder, digest=card.digest)
        check_model(folder)
        ServingOptions.read(folder)
    except (OSError, ArtifactRefused, ServingFileInvalid) as error:
        raise WeightsError(f"The weights of `{card.name}` cannot be used. {error}") from None
    return Weights(folder, card.digest)


def _base_of(card: ModelCard, catalogue: Catalogue, models: ModelRepository) -> CatalogueModel:
    parent = card.parent
    for _ in range(MOST_GENERATIONS):
        for model in catalogue.models:
            if model.name == parent:
                return model
        ancestor = None if parent is None else models.get(parent)
        if ancestor is None:
            break
        parent = ancestor.parent
    raise CatalogueError(
        f"The base of `{card.name}` ({card.parent}) is not in the catalogue, which says how to start it."
    )
