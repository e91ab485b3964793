"""docker-compose.yml as Docker Compose understands it."""

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from deploy.checks.outcome import Outcome, run
from deploy.checks.render import ENVIRONMENT, REPOSITORY
from deploy.make_secrets import make

FILE = REPOSITORY / "docker-compose.yml"


class ComposeRefused(RuntimeError):
    """The message is Docker Compose's."""


def profiles(file: Path = FILE) -> tuple[str, ...]:
    services = yaml.safe_load(file.read_text())["services"]
    return tuple(sorted({profile for service in services.values() for profile in service.get("profiles", [])}))


def combinations() -> Iterator[tuple[str, ...]]:
    """None, each alone, and all together."""
    yield ()
    yield from ((each,) for each in profiles())
    yield profiles()


def config(chosen: Iterable[str], *, file: Path = FILE) -> dict[str, Any]:
    """The services that `up` would start with these profiles, with secrets as an operator makes them.

    Raises ComposeRefused, also where a secret or anything else that is mounted from the repository is missing.
    """
    chosen = tuple(chosen)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "deploy").mkdir()
        make(folder / "deploy/secrets", postgres="postgres" in chosen)
        shutil.copy(file, folder / FILE.name)
        options = [word for profile in chosen for word in ("--profile", profile)]
        done = run([ENVIRONMENT / "docker-compose", *options, "config", "--format", "json"], folder=folder)
        if done.returncode != 0:
            raise ComposeRefused(done.stderr.strip())
        rendered: dict[str, Any] = json.loads(done.stdout)
        for path in _from_repository(rendered, folder):
            if not (REPOSITORY / path).exists() and not (folder / path).exists():
                raise ComposeRefused(f"{path} is mounted and does not exist")
    services: dict[str, Any] = rendered["services"]
    return services


def _from_repository(rendered: dict[str, Any], folder: Path) -> Iterator[Path]:
    for service in rendered["services"].values():
        for mount in service.get("volumes", []):
            if mount["type"] == "bind":
                yield Path(mount["source"]).relative_to(folder)
        for secret in service.get("secrets") or []:
            yield Path(rendered["secrets"][secret["source"]]["file"]).relative_to(folder)


def check() -> Outcome:
    faults, services = list[str](), set[str]()
    every = list(combinations())
    for chosen in every:
        try:
            services |= config(chosen).keys()
        except ComposeRefused as error:
            faults.append(f"profiles {'+'.join(chosen) or '(none)'}: {error}")
    return Outcome(f"{len(every)} choices of profiles, {len(services)} services", tuple(faults))
