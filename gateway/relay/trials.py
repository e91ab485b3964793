"""What this gateway counts of releases that are under way, until it is added to all gateways' figures in Redis."""

import asyncio
from collections import Counter, defaultdict

from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.releases import Arm, bucket_of
from gateway.metrics import Metrics
from gateway.routing.aliases import Trial
from store.release_figures import ERRORS, FIRST_TOKEN, PACE, REQUESTS, ReleaseFigures

FLUSH_EVERY_S = 1.0
FEWEST_TOKENS = 2
"""Of one token nobody can tell the pace."""


class TrialCounts:
    """Counts after the last byte, and tells Redis every second. A gateway that is killed takes a second with it."""

    def __init__(self, redis: Redis, metrics: Metrics) -> None:
        self._figures = ReleaseFigures(redis)
        self._metrics = metrics
        self._counted: defaultdict[tuple[str, str, Arm], Counter[str]] = defaultdict(Counter)

    def note_failure(self, trial: Trial) -> None:
        """The arm's model gave no answer, or broke off; whoever answered in its place."""
        self._of(trial).update((REQUESTS, ERRORS))

    def note_answer(
        self, trial: Trial, *, first_token_s: float | None, duration_s: float, completion_tokens: int
    ) -> None:
        """`first_token_s` is None where the answer came whole."""
        of_arm = self._of(trial)
        of_arm[REQUESTS] += 1
        if first_token_s is not None:
            of_arm[f"{FIRST_TOKEN}{bucket_of(first_token_s)}"] += 1
        paced = completion_tokens - (first_token_s is not None)  # the first token's time is not part of the pace
        spent_s = duration_s - (first_token_s or 0.0)
        if completion_tokens >= FEWEST_TOKENS and spent_s > 0:
            of_arm[f"{PACE}{bucket_of(paced / spent_s)}"] += 1

    async def run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """While Redis is away counts are kept here; they are few numbers, however many requests they count."""
        if not self._counted:
            return
        counted, self._counted = self._counted, defaultdict(Counter)
        try:
            await self._figures.add(counted)
        except RedisError:
            self._metrics.redis_errors.labels("releases").inc()
            for of_arm, fields in counted.items():
                self._counted[of_arm].update(fields)

    def _of(self, trial: Trial) -> Counter[str]:
        return self._counted[trial.release, trial.stage, trial.arm]
