"""`python -m deploy.prove.build [IMAGE…]`: executes the Dockerfile's stages in folders, as an engine would in layers.

Runs in the environment `deploy`. What it builds stays in .flywheel/images, for `deploy.prove.run`.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from cli.bootstrap import REPOSITORY, Bootstrap, uv_settings
from deploy.prove.base_image import BaseImage, CannotBuild, check_machine
from deploy.prove.dockerfile import Instruction, NotUnderstood, Stage, assignments, command, copy, read
from deploy.prove.image import ROOTS, Image, keep
from deploy.prove.sandbox import DEFAULT_PATH, Mounts, build_command

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
CACHE = "/var/cache/uv"
DEFAULT_TARGETS = ("gateway", "cli", "releases", "worker", "engine", "study-worker")


class StepFailed(RuntimeError):
    """A RUN ended with an error; the message is the end of what it printed."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where packages come from on this machine, which a build on it must know; an engine's build would not."""

    variables: Mapping[str, str]
    replaced: frozenset[str]
    mounts: Mounts

    @classmethod
    def this(cls) -> "Machine":
        bootstrap = Bootstrap()
        bootstrap.make_tools()
        sources = bootstrap.package_sources()
        settings = {name: value for name, value in uv_settings(sources).items() if name.startswith(("UV_", "PIP_"))}
        settings["UV_CACHE_DIR"] = CACHE
        # Where a wheel source has torch, it is not asked for at PyTorch's own index.
        replaced = frozenset({"UV_TORCH_BACKEND"} if sources.offer_torch() else ())
        cache = subprocess.run([bootstrap.uv, "cache", "dir"], capture_output=True, text=True, check=True)
        files = {path: Path(path) for path in (CERTIFICATES, "/etc/resolv.conf") if Path(path).exists()}
        folders = {each: Path(each) for each in sources.find_links if Path(each).is_dir()}
        return cls(settings, replaced, Mounts(files | folders, {CACHE: Path(cache.stdout.strip())}))

    def told(self, variables: Mapping[str, str]) -> dict[str, str]:
        """The variables of a RUN on this machine."""
        return {name: value for name, value in variables.items() if name not in self.replaced} | dict(self.variables)


class Builder:
    """Builds each stage once, into a folder of `roots`. Times are in seconds, by stage."""

    def __init__(self, stages: Mapping[str, Stage], *, context: Path, roots: Path, machine: Machine) -> None:
        self._stages, self._context, self._roots, self._machine = stages, context, roots, machine
        self._built: dict[str, Image] = {}
        self.seconds: dict[str, float] = {}

    def build(self, name: str) -> Image:
        """Raises StepFailed, CannotBuild, NotUnderstood."""
        if name not in self._built:
            stage = self._stages[name]
            started_at, others = time.monotonic(), sum(self.seconds.values())
            image = self._start(stage)
            for instruction in stage.instructions:
                image = self._execute(image, instruction)
            self._built[name] = image
            self.seconds[name] = time.monotonic() - started_at - (sum(self.seconds.values()) - others)
        return self._built[name]

    def forget(self, name: str) -> None:
        """Its files are no longer needed."""
        shutil.rmtree(self._built.pop(name).root)

    def _start(self, stage: Stage) -> Image:
        root = self._roots / stage.name
        shutil.rmtree(root, ignore_errors=True)
        if stage.parent in self._stages:
            parent = self.build(stage.parent)
            _copy_tree(parent.root, root)
            return replace(parent, root=root)
        base = BaseImage.named(stage.parent)
        kept = self._roots / f"debian-{base.release}-python{base.python}"
        if not kept.exists():
            started_at = time.monotonic()
            base.make(kept)
            self.seconds[kept.name] = time.monotonic() - started_at
        _copy_tree(kept, root)
        return Image(root, MappingProxyType({"PATH": DEFAULT_PATH}))

    def _execute(self, image: Image, instruction: Instruction) -> Image:
        value = instruction.value
        match instruction.word:
            case "RUN":
                self._run(image, value)
            case "COPY":
                self._copy(image, value)
            case "ENV" | "ARG":
                return replace(image, variables={**image.variables, **assignments(value, image.variables)})
            case "WORKDIR":
                (image.root / value.lstrip("/")).mkdir(parents=True, exist_ok=True)
                return replace(image, folder=value)
            case "USER":
                return replace(image, user=int(value))
            case "ENTRYPOINT":
                return replace(image, entrypoint=tuple(command(value)), command=())
            case "CMD":
                return replace(image, command=tuple(command(value)))
            case "EXPOSE":
                pass
            case unknown:
                raise NotUnderstood(unknown)
        return image

    def _run(self, image: Image, script: str) -> None:
        if image.user != 0:
            raise NotUnderstood(f"RUN as user {image.user}: {script}")
        words = build_command(
            image.root,
            ["/bin/sh", "-c", script],
            variables=self._machine.told(image.variables),
            folder=image.folder,
            mounts=self._machine.mounts,
        )
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise StepFailed(f"RUN {script}\n{(done.stdout + done.stderr)[-3000:]}")

    def _copy(self, image: Image, value: str) -> None:
        wanted = copy(value)
        origin = self._context if wanted.stage is None else self.build(wanted.stage).root
        source = origin / wanted.source.lstrip("/")
        target = image.root / f"{image.folder}/{wanted.target}".lstrip("/")
        if wanted.target.startswith("/"):
            target = image.root / wanted.target.lstrip("/")
        # What another stage installed is not written to any more, so both may have the same files.
        _copy_tree(source, target, link=wanted.stage is not None)
        if wanted.stage is None:
            for each in list(target.rglob("__pycache__")):  # as .dockerignore says
                shutil.rmtree(each)


def _copy_tree(source: Path, target: Path, *, link: bool = False) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    how = ["--link"] if link else []
    subprocess.run(["cp", "--archive", *how, "--no-target-directory", source, target], check=True)


def build(targets: list[str]) -> dict[str, float]:
    """Prints each image; the seconds by stage. Raises CannotBuild, NotUnderstood, StepFailed."""
    check_machine()
    stages = read(REPOSITORY / "deploy/Dockerfile")
    if unknown := set(targets) - stages.keys():
        raise CannotBuild(f"the Dockerfile has no stage {', '.join(sorted(unknown))}")
    ROOTS.mkdir(parents=True, exist_ok=True)
    builder = Builder(stages, context=REPOSITORY, roots=ROOTS, machine=Machine.this())
    for target in targets:
        image = builder.build(target)
        keep(target, image)
        sizes = f"{image.mib():5,} MiB, of which {image.mib('opt/venv'):5,} are Python packages"
        print(f"  {target:<28} built     {sizes}", flush=True)
    return builder.seconds


def main(targets: list[str]) -> int:
    try:
        seconds = build(targets)
    except (CannotBuild, NotUnderstood, StepFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for stage, took in seconds.items():
        print(f"  stage {stage:<22} {took:6.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(DEFAULT_TARGETS)))
