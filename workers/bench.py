"""What jobs measure with that run engines of their own."""

import sys
from dataclasses import dataclass
from pathlib import Path

from contracts.settings import Settings


@dataclass(frozen=True, slots=True)
class Bench:
    """The Pythons of three environments (`engine` has vLLM, `compress` llmcompressor; they need not exist), how long an
    engine may take to start, and the watts that a busy core is taken to draw."""

    worker: Path
    engine: Path
    compress: Path
    start_timeout_s: float
    watts_per_core: float

    @classmethod
    def find(cls, settings: Settings) -> "Bench":
        """What the settings name, else the environments beside this one, as `make up` makes them."""
        beside, worker = Path(sys.prefix).parent, settings.worker
        return cls(
            worker=Path(sys.executable),
            engine=worker.engine_python or beside / "engine" / "bin" / "python",
            compress=worker.compress_python or beside / "compress" / "bin" / "python",
            start_timeout_s=settings.engine.start_timeout_s,
            watts_per_core=worker.watts_per_core,
        )
