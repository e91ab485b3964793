"""What each load test does and what it must hold: how many sources of requests, for how long, and the thresholds."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from loadtests.load.traffic import Arrivals


@dataclass(frozen=True, slots=True)
class Stage:
    seconds: float
    sources: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Refusals with `retry-after` (429, 503) are no failures: `refused_share` bounds them by themselves."""

    stages: tuple[Stage, ...]
    arrivals: Arrivals
    failed_share: float
    refused_share: float
    first_token_p95_ms: float | None

    def lasting(self, seconds: float) -> "Plan":
        """The same stages, stretched or shortened to so many seconds together."""
        factor = seconds / self.seconds
        stages = tuple(Stage(stage.seconds * factor, stage.sources) for stage in self.stages)
        return Plan(stages, self.arrivals, self.failed_share, self.refused_share, self.first_token_p95_ms)

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    def sources_at(self, seconds: float) -> int | None:
        """None after the end."""
        for stage in self.stages:
            seconds -= stage.seconds
            if seconds < 0:
                return stage.sources
        return None


PLANS: Mapping[str, Plan] = MappingProxyType(
    {
        "steady": Plan((Stage(60, 4),), "poisson", 0.0, 0.0, first_token_p95_ms=2000),
        "spike": Plan((Stage(30, 2), Stage(30, 20), Stage(30, 2)), "bursty", 0.0, 0.5, first_token_p95_ms=None),
        "stress": Plan(tuple(Stage(20, 2**step) for step in range(1, 8)), "poisson", 0.0, 1.0, first_token_p95_ms=None),
        "soak": Plan((Stage(1800, 4),), "bursty", 0.0, 0.0, first_token_p95_ms=3000),
    }
)
