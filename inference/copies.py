"""Copies on this machine of what jobs made: they go when their models are deleted."""

import shutil
from pathlib import Path

import structlog

from store.models import ModelRepository

KINDS = ("adapters", "made")


def copy_of(digest: str, weights_dir: Path, kind: str) -> Path:
    """Where the copy of an artifact with this digest lies; `kind` is one of KINDS."""
    return weights_dir / kind / digest.replace(":", "-")


class LocalCopies:
    """Knows the copies whose models it has seen in the registry. Others may belong to a stack with another registry."""

    def __init__(self, weights_dir: Path, models: ModelRepository) -> None:
        self._weights_dir = weights_dir
        self._models = models
        self._known: set[str] = set()
        self._log = structlog.get_logger(__name__)

    def adapter(self, digest: str) -> Path:
        """Where the copy of a registered adapter lies, or is to lie: from now on it is known."""
        self._known.add(digest)
        return copy_of(digest, self._weights_dir, "adapters")

    def tidy(self) -> None:
        """Removes known copies whose models were deleted. Raises SQLAlchemyError."""
        here = {
            folder.name.replace("-", ":", 1): folder
            for kind in KINDS
            for folder in (self._weights_dir / kind).glob("sha256-*")
        }
        registered = self._models.digests(here)
        self._known |= registered
        for digest in self._known.intersection(here) - registered:
            shutil.rmtree(here[digest], ignore_errors=True)
            self._known.discard(digest)
            self._log.info("copy of a deleted model removed", folder=here[digest].name)
