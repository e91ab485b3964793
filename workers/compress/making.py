"""Makes a variant's weights: by a program of its technique, or by laying out those that are there anew."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contracts.serving import DRAFT_FOLDER, SERVING_FILE, ServingOptions
from contracts.studies import Distilled, HeadsPruned, LayersPruned, Quantised, Served, Variant, WidthPruned, WithAdapter
from workers.bench import Bench
from workers.compress.program import run_program
from workers.compress.told import CannotMake, Task
from workers.run import JobRun

INSTALL_COMPRESS = "python3.11 cli/bootstrap.py compress"
WITHOUT_ADAPTERS = ServingOptions(adapters=False)
"""vLLM 0.32 on CPUs takes no adapters beside most quantised weights, and being ready for them costs time."""
WITHOUT_FP8 = (
    "This machine computes with no 8-bit floats: vLLM's kernels for CPUs convert every number, and take 25 times "
    "as long (docs/optimise.md)."
)
COMMON = frozenset({"name", "of", "technique"})


@dataclass(frozen=True, slots=True)
class Made:
    """`adapter` is to be loaded beside the weights before anything is asked."""

    folder: Path
    facts: dict[str, float] = field(default_factory=dict)
    adapter: Path | None = None


@dataclass(frozen=True, slots=True)
class Maker:
    """`base` is the folder of the study's model, `samples` the file of token sequences, `adapters` the folders of the
    adapters that variants name."""

    base: Path
    samples: Path
    adapters: Mapping[str, Path]
    bench: Bench
    seed: int
    run: JobRun

    def make(self, variant: Variant, source: Path, draft: Path | None, target: Path) -> Made:
        """Into `target`, from the weights in `source`. Raises CannotMake, and what `run.check` raises."""
        match variant:
            case Served():
                _lay_out(source, target)
                if draft is not None:
                    _lay_out(draft, target / DRAFT_FOLDER)
                variant.serving.write(target)
                return Made(target)
            case WithAdapter(merged=False):
                _lay_out(source, target)
                return Made(target, adapter=self._adapter(variant))
            case _:
                facts = self._run_program(variant, source, target)
                WITHOUT_ADAPTERS.write(target)
                return Made(target, facts)

    def _run_program(self, variant: Variant, source: Path, target: Path) -> dict[str, float]:
        options = variant.model_dump(exclude=set(COMMON))
        python, module = self.bench.worker, str(variant.technique)
        if isinstance(variant, WithAdapter):
            module, options = "merge", {"adapter_folder": str(self._adapter(variant))}
        if isinstance(variant, Quantised):
            module, python = "quantise", self.bench.compress
            if variant.scheme == "fp8" and not any(Path("/dev").glob("nvidia[0-9]*")):
                raise CannotMake(WITHOUT_FP8)
            if not python.is_file():
                raise CannotMake(f"This worker has no llmcompressor. `{INSTALL_COMPRESS}` installs it.")
        task = Task(
            source=source,
            output=target,
            samples=self.samples if needs_samples((variant,)) else None,
            options=options,
            seed=self.seed,
            threads=self.run.resources.threads,
            teacher=self.base,
        )

        def tell(news: dict[str, Any]) -> None:
            loss = news.get("train_loss")
            told = f"{variant.name}: step {news['step']} of {news['total_steps']}"
            self.run.metrics(told if loss is None else f"{told}, loss {loss:.4f}", {"making": variant.name, **news})

        log = target.with_name(f"{target.name}.log")
        return run_program(python, module, task, self.run, log=log, tell=tell)

    def _adapter(self, variant: WithAdapter) -> Path:
        folder = self.adapters.get(variant.adapter)
        if folder is None:
            raise CannotMake(f"The adapter `{variant.adapter}` does not exist any more.")
        return folder


def needs_samples(variants: tuple[Variant, ...]) -> bool:
    return any(
        isinstance(variant, Distilled | LayersPruned | WidthPruned | HeadsPruned)
        or (isinstance(variant, Quantised) and variant.algorithm != "rtn")
        for variant in variants
    )


def _lay_out(source: Path, target: Path) -> None:
    """The same files under another folder, without a copy of their bytes where the disk allows it."""
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.is_dir() or file.name == SERVING_FILE:
            continue
        try:
            os.link(file.resolve(), target / file.name)
        except OSError:
            shutil.copyfile(file, target / file.name)
