"""`python3 deploy/pin_images.py`: pins the images of others by digest, as a registry tells them now.

Writes `image:tag@sha256:…` into the Dockerfile, docker-compose.yml and k8s/, anew for those that are pinned. Needs
Docker with buildx, and a registry that can be reached; the repository holds no digest that none has told.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
IMAGE = re.compile(
    r"^(?P<before>FROM |\s+(?:- )?image: )(?P<image>[\w./-]+:[\w.-]+)(?:@sha256:[0-9a-f]{64})?(?P<after>\s|$)",
    re.MULTILINE,
)
OURS = "flywheel/"


class NotResolved(RuntimeError):
    """No registry told the digest; the message is Docker's."""


def files(repository: Path) -> Iterator[Path]:
    yield repository / "deploy/Dockerfile"
    yield repository / "docker-compose.yml"
    for file in sorted((repository / "k8s").rglob("*.yaml")):
        if "chart" not in file.relative_to(repository).parts:  # made of the base
            yield file


def pin(repository: Path) -> dict[str, str]:
    """The digests by image. Changes nothing where one cannot be had. Raises NotResolved."""
    texts = {file: file.read_text() for file in files(repository)}
    found = {match["image"] for text in texts.values() for match in IMAGE.finditer(text)}
    digests = {image: resolve(image) for image in sorted(found) if not image.startswith(OURS)}
    for file, text in texts.items():
        file.write_text(IMAGE.sub(lambda match: _pinned(match, digests), text))
    return digests


def resolve(image: str) -> str:
    """Of the list of all platforms, so that it holds on each of them. Raises NotResolved."""
    command = ["docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}", image]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NotResolved("docker is not installed") from None
    digest = done.stdout.strip()
    if done.returncode != 0 or not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise NotResolved(f"{image}: {done.stderr.strip() or digest}")
    return digest


def _pinned(match: re.Match[str], digests: dict[str, str]) -> str:
    if match["image"] not in digests:
        return match[0]
    return f"{match['before']}{match['image']}@{digests[match['image']]}{match['after']}"


if __name__ == "__main__":
    try:
        for image, digest in pin(REPOSITORY).items():
            print(f"{image} {digest}")
    except NotResolved as error:
        sys.exit(f"error: {error}")
    print("Now run `make manifests`.")
