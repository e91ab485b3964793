"""The controller: looks at every release that is under way and makes the moves that are due.

Any number of replicas may run. They need no leader: each write names the version of the release that it was decided on
(store/releases.py), so of several controllers that decide the same at once one makes the move, the others do nothing.
"""

import asyncio
import time
from collections.abc import Callable

import structlog
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from contracts.invalidation import Invalidation
from contracts.releases import LIVE_STATES, Arm, Move, Release
from releases.evaluations import Evaluations
from releases.gates import Sight
from releases.machine import Begin, Look, Step, after_built, after_evaluated, after_traffic
from store.demand import DemandStore
from store.feedback import FeedbackRepository, Ratings
from store.leases import LeaseStore
from store.models import ModelRepository
from store.news import publish_news
from store.release_figures import ReleaseFigures
from store.releases import AliasTaken, ReleaseRepository

ACTOR = "controller"
HEARTBEAT_S = 10.0
"""Seconds that a controller counts as alive after it looked last."""


class Controller:
    def __init__(
        self,
        *,
        releases: ReleaseRepository,
        evaluations: Evaluations,
        feedback: FeedbackRepository,
        models: ModelRepository,
        redis: Redis,
        interval_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._releases = releases
        self._evaluations = evaluations
        self._feedback = feedback
        self._models = models
        self._demand = DemandStore(redis)
        self._redis = redis
        self._figures = ReleaseFigures(redis)
        self._leases = LeaseStore(redis)
        self._interval_s = interval_s
        self._clock = clock
        self._log = structlog.get_logger(__name__)

    async def run(self, stop: asyncio.Event) -> None:
        """Looks every `interval_s` until told to stop. What is away is asked again at the next look."""
        while not stop.is_set():
            try:
                await self.look()
                await self._figures.note_controller(HEARTBEAT_S)
            except (SQLAlchemyError, RedisError) as error:
                self._log.warning("releases not looked at", reason=type(error).__name__)
            try:
                async with asyncio.timeout(self._interval_s):
                    await stop.wait()
            except TimeoutError:
                pass

    async def look(self) -> None:
        """One look at every release. A release that cannot be judged does not keep the others from it."""
        for release in await asyncio.to_thread(self._releases.under_way):
            try:
                await self._act(release, await self._next(release))
            except (ValidationError, AliasTaken):
                self._log.exception("release not judged", release=release.id)

    async def _next(self, release: Release) -> Step:
        now = self._clock()
        if release.state == "built":
            return after_built(release, await asyncio.to_thread(self._evaluations.outcome, release), now)
        if release.state == "evaluated":
            return after_evaluated(release, now, served=await self._served(release))
        assert release.state in LIVE_STATES
        await self._keep_loaded(release)
        return after_traffic(release, await self._sight(release), now)

    async def _served(self, release: Release) -> bool:
        """Whether an engine serves the candidate; where none does, one is asked to load it, or to be started."""
        served = any(lease.serves(release.candidate) for lease in await self._leases.alive())
        if not served and (card := await asyncio.to_thread(self._models.get, release.candidate)) is not None:
            await self._demand.want([card], announce=True)
        return served

    async def _keep_loaded(self, release: Release) -> None:
        """A candidate of few requests must not lose its place in an engine to other adapters."""
        if (card := await asyncio.to_thread(self._models.get, release.candidate)) is not None:
            await self._demand.note_uses([card])

    async def _sight(self, release: Release) -> Sight:
        models: dict[Arm, str] = {"stable": release.stable, "candidate": release.candidate}
        ratings = dict.fromkeys(models, Ratings(0, 0))
        if release.policy.live.feedback is not None:
            for arm, model in models.items():
                ratings[arm] = await asyncio.to_thread(self._feedback.ratings_of, model, release.created_at)
        return Sight(await self._figures.read(release.id, release.stage_name), ratings)

    async def _act(self, release: Release, step: Step) -> None:
        if isinstance(step, Move):
            await self._move(release, step)
        elif isinstance(step, Look):
            await asyncio.to_thread(self._releases.note_look, release, step.evidence, next_look_at=step.next_look_at)
        elif isinstance(step, Begin):
            await asyncio.to_thread(self._evaluations.begin, release)

    async def _move(self, release: Release, move: Move) -> None:
        moved = await asyncio.to_thread(self._releases.move, release, move, actor=ACTOR)
        if moved is None:
            return
        self._log.info(
            "release moved", release=release.id, alias=release.alias, to=moved.stage_name, reason=move.reason
        )
        await publish_news(self._redis, Invalidation(kind="alias", id=release.alias))
        if moved.state == "rolled_back":
            await asyncio.to_thread(self._evaluations.cancel, release)
