"""Hard debiasing of an encoder's vectors (Bolukbasi et al., 2016): what differs with gender, age or religion goes.

The paper's second step, which makes pairs of words equally far from all others, is of a fixed vocabulary, and has no
place where any text is embedded. Associations that are spread over other directions stay, and a classifier finds them
again (Gonen and Goldberg, "Lipstick on a Pig", 2019).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from contracts.bias import PROJECTION_FILE

DIRECTIONS = Path(__file__).with_name("data") / "directions.yaml"
Embed = Callable[[Sequence[str]], Sequence[Sequence[float]]]


def load_pairs_of_axes() -> dict[str, list[tuple[str, str]]]:
    told = yaml.safe_load(DIRECTIONS.read_text())
    return {axis: [(one, other) for one, other in pairs] for axis, pairs in told.items()}


def learn_basis(pairs: Mapping[str, Sequence[tuple[str, str]]], embed: Embed) -> Any:
    """Of each axis the direction in which its pairs differ most: an orthonormal array of (axes, dimensions)."""
    directions = []
    for of_axis in pairs.values():
        one, other = (_unit(embed([pair[side] for pair in of_axis])) for side in (0, 1))
        apart = (one - other) / 2  # both sides lie so far from their middle; the principal axis needs one of them
        directions.append(np.linalg.svd(apart, full_matrices=False)[2][0])
    return np.linalg.qr(np.array(directions).T)[0].T


def without(vectors: Sequence[Sequence[float]], basis: Any) -> Any:
    """The vectors, of length 1, without what lies in the basis: an array of (vectors, dimensions)."""
    matrix = _unit(vectors)
    return _unit(matrix - matrix @ basis.T @ basis)


def write_projection(basis: Any, model: str | None, folder: Path) -> None:
    """For those who ask for vectors: v - v Bᵀ B takes the directions out of a vector v."""
    told = {"embedding_model": model, "axes": list(load_pairs_of_axes()), "basis": np.round(basis, 6).tolist()}
    (folder / PROJECTION_FILE).write_text(json.dumps(told))


def _unit(vectors: Any) -> Any:
    matrix: Any = np.asarray(vectors, dtype=float)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
