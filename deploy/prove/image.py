"""A stage of the Dockerfile that was executed, and where it is kept for those who run it."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from cli.bootstrap import REPOSITORY

ROOTS = REPOSITORY / ".flywheel/images"


class NotBuilt(RuntimeError):
    """Nobody has built the image."""


@dataclass(frozen=True, slots=True)
class Image:
    """`root` holds its files; the rest says how its containers start."""

    root: Path
    variables: Mapping[str, str]
    folder: str = "/"
    user: int = 0
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    def mib(self, path: str = "") -> int:
        """What its files take on a disk."""
        done = subprocess.run(["du", "-sm", self.root / path], capture_output=True, text=True, check=True)
        return int(done.stdout.split()[0])


def keep(name: str, image: Image) -> None:
    kept = asdict(image) | {"root": image.root.name, "variables": dict(image.variables)}
    (ROOTS / f"{name}.json").write_text(json.dumps(kept))


def kept(name: str) -> Image:
    """Raises NotBuilt."""
    file = ROOTS / f"{name}.json"
    if not file.exists():
        raise NotBuilt(f"{name} is not built; `make prove-images` builds it")
    told = json.loads(file.read_text())
    words = {each: tuple(told[each]) for each in ("entrypoint", "command")}
    return Image(**told | words | {"root": ROOTS / told["root"]})
