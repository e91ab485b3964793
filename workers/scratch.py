"""Scratch folders of jobs: each has a living owner, and those of dead ones are removed."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

PREFIX = "flywheel-job-"
OWNER = "owner.lock"

log = structlog.get_logger(__name__)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """An empty folder that is deleted after the block, or at the start of the next worker if this process is killed."""
    parent.mkdir(parents=True, exist_ok=True)
    outer = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    try:
        # The kernel lets go of the lock when the process ends, however it ends.
        with (outer / OWNER).open("w") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX)
            folder = outer / "work"
            folder.mkdir()
            yield folder
    finally:
        shutil.rmtree(outer, ignore_errors=True)


def remove_ownerless(parent: Path) -> int:
    """Deletes scratch folders whose owner is dead. Returns how many."""
    return sum(_remove_if_ownerless(folder) for folder in parent.glob(f"{PREFIX}*"))


def _remove_if_ownerless(folder: Path) -> bool:
    try:
        with (folder / OWNER).open("r+") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not (folder / "work").exists():
                return False  # its owner is about to lock it
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return False  # its owner lives, or is making or removing it, or it is another user's
    log.info("scratch of a dead job removed", folder=folder.name)
    return True
