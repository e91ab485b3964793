"""Measures one variant by serving it: an engine of its own is started, asked, and ended."""

import http.client
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from contracts.studies import Figures, Measurement
from workers.compress.energy import find_meter
from workers.compress.engine import EngineProgram, OwnEngine, own_engine, reason_in
from workers.compress.making import Made
from workers.compress.quality import HeldOut, difference, interval, losses, perplexity, scores
from workers.compress.speed import measure_speed
from workers.run import JobRun

NOT_ANSWERED = (OSError, http.client.HTTPException, KeyError, ValueError)


class EngineBroke(Exception):
    """The engine started, but did not answer what it was asked."""


@dataclass(frozen=True, slots=True)
class Measured:
    """`scores` are by conversation, to compare others with."""

    figures: Figures
    scores: list[float]
    seconds: float


@dataclass(frozen=True, slots=True)
class Meter:
    """Measures any variant of one study the same way."""

    program: EngineProgram
    held_out: HeldOut
    wanted: Measurement
    watts_per_core: float
    run: JobRun

    def measure(
        self,
        made: Made,
        baseline_scores: list[float] | None,
        *,
        log: Path,
        afterwards: Callable[[OwnEngine], None] | None = None,
    ) -> Measured:
        """`afterwards` may go on asking the same engine. Raises NotServed, EngineBroke, and what `run.check` raises."""
        began_at = time.monotonic()
        with own_engine(self.program, made.folder, self.run, log=log) as engine:
            try:
                if made.adapter is not None:
                    engine.load_adapter(made.adapter)
                figures, found = self._ask(engine, made, baseline_scores)
                seconds = time.monotonic() - began_at
                if afterwards is not None:
                    afterwards(engine)
            except NOT_ANSWERED as error:
                raise EngineBroke(f"Its engine did not answer ({error}): {reason_in(log)}") from error
        return Measured(figures, found, seconds)

    def _ask(self, engine: OwnEngine, made: Made, baseline_scores: list[float] | None) -> tuple[Figures, list[float]]:
        meter = find_meter(lambda: engine.footprint().cpu_s, watts_per_core=self.watts_per_core)
        loads = measure_speed(engine, self.held_out.examples, self.wanted, meter, self.run)
        confidence = self.wanted.confidence
        likely = perplexity(losses(engine, self.held_out, self.run), confidence)
        alike = scores(engine, self.held_out, self.wanted.longest_answer_tokens, self.run)
        figures = Figures(
            size_bytes=size_of(made.folder) + (0 if made.adapter is None else size_of(made.adapter)),
            start_s=round(engine.start_s, 1),
            peak_memory_bytes=engine.footprint().peak_bytes,
            loads=loads,
            perplexity=likely,
            score=interval(alike, confidence),
            score_difference=None if baseline_scores is None else difference(baseline_scores, alike, confidence),
            energy_method=meter.method,
        )
        return figures, alike


def size_of(folder: Path) -> int:
    """Bytes of the weights on disk, a draft's included."""
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
