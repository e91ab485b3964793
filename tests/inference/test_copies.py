"""Copies of deleted models go, however soon the models were deleted."""

from pathlib import Path

from inference.copies import LocalCopies
from store.database import Database
from store.models import ModelRepository

DIGEST = "sha256:" + "1" * 64


def test_the_copy_of_an_adapter_that_was_deleted_before_the_first_look_goes(database: Database, tmp_path: Path):
    copies = LocalCopies(tmp_path, ModelRepository(database))
    fetched, foreign = copies.adapter(DIGEST), tmp_path / "adapters" / "sha256-of-another-stack"
    for folder in (fetched, foreign):
        folder.mkdir(parents=True)

    copies.tidy()

    assert (fetched.exists(), foreign.exists()) == (False, True)
