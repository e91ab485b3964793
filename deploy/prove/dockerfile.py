"""A Dockerfile as stages of instructions: as much of the language as ours uses, and an error for the rest.

(docs.docker.com, "Dockerfile reference".)
"""

import io
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from dockerfile_parse import DockerfileParser

KNOWN = {"RUN", "ENV", "ARG", "WORKDIR", "COPY", "USER", "EXPOSE", "CMD", "ENTRYPOINT"}
FROM = re.compile(r"(?P<parent>\S+) AS (?P<name>\S+)")


class NotUnderstood(ValueError):
    """The Dockerfile says something that this reads no meaning into."""


@dataclass(frozen=True, slots=True)
class Instruction:
    word: str
    value: str


@dataclass(frozen=True, slots=True)
class Copy:
    """`stage` is None for what comes from the build's context. A target that ends in a slash is a folder."""

    stage: str | None
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Stage:
    name: str
    parent: str
    instructions: tuple[Instruction, ...]


def read(file: Path) -> dict[str, Stage]:
    """The stages by name, in their order. Raises NotUnderstood."""
    stages: dict[str, Stage] = {}
    name, parent, body = "", "", list[Instruction]()
    for each in DockerfileParser(fileobj=io.BytesIO(file.read_bytes())).structure:
        word, value = each["instruction"], each["value"]
        if word == "FROM":
            if (start := FROM.fullmatch(value)) is None:
                raise NotUnderstood(f"line {each['startline'] + 1}: a stage needs a name: FROM {value}")
            if name:
                stages[name] = Stage(name, parent, tuple(body))
            name, parent, body = start["name"], start["parent"], []
        elif word in KNOWN and name:
            body.append(Instruction(word, value))
        elif word != "COMMENT":
            raise NotUnderstood(f"line {each['startline'] + 1}: {word} is not understood here")
    return stages | {name: Stage(name, parent, tuple(body))}


def assignments(value: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Of ENV and ARG: `A=1 B="2 3" C=$A`. All see the variables as they were before the instruction."""
    made = {}
    for part in shlex.split(value):
        name, _, text = part.partition("=")
        made[name] = Template(text).safe_substitute(variables)
    return made


def copy(value: str) -> Copy:
    """Raises NotUnderstood for options but --from, and for several sources."""
    words = shlex.split(value)
    options = [word for word in words if word.startswith("--")]
    paths = [word for word in words if not word.startswith("--")]
    if len(paths) != 2 or any(not option.startswith("--from=") for option in options):
        raise NotUnderstood(f"COPY {value}")
    return Copy(options[0].removeprefix("--from=") if options else None, *paths)


def command(value: str) -> list[str]:
    """Of CMD and ENTRYPOINT, which are written as JSON. Raises NotUnderstood."""
    try:
        words = json.loads(value)
    except ValueError:
        raise NotUnderstood(f"not a list: {value}") from None
    return [str(word) for word in words]
