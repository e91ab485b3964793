"""`make sbom`: the Python packages of each image of the Dockerfile, as CycloneDX, from the locks that it is built from.

Runs in the environment `deploy`. The same locks give the same files, byte for byte.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cli.bootstrap import REPOSITORY
from deploy.prove.dockerfile import Stage, copy, read

TARGET = REPOSITORY / "build/sbom"
LOCK = re.compile(r"locks/\S+\.txt")


def locks(stages: Mapping[str, Stage]) -> dict[str, list[Path]]:
    """By the images that are started, which are the stages with a user of their own."""
    return {
        name: sorted(set(_locks_of(stage, stages)))
        for name, stage in stages.items()
        if any(each.word == "USER" for each in stage.instructions)
    }


def _locks_of(stage: Stage, stages: Mapping[str, Stage]) -> list[Path]:
    found = []
    for each in stage.instructions:
        if each.word == "RUN":
            found += [REPOSITORY / lock for lock in LOCK.findall(each.value)]
        elif each.word == "COPY" and (other := copy(each.value).stage) is not None:
            found += _locks_of(stages[other], stages)
    return found


def write(image: str, of: list[Path], folder: Path) -> Path:
    """Raises CalledProcessError when a lock cannot be read."""
    file = folder / f"{image}.cdx.json"
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write("\n".join(lock.read_text() for lock in of))
        requirements.flush()
        subprocess.run(
            [
                *(sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", "--output-reproducible"),
                *("--pyproject", REPOSITORY / "pyproject.toml", "--output-file", file, requirements.name),
            ],
            check=True,
        )
    return file


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for image, of in locks(read(REPOSITORY / "deploy/Dockerfile")).items():
        file = write(image, of, folder)
        print(f"  {file.name:<26} of {', '.join(lock.name for lock in of)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET)
