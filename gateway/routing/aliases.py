"""What the names stand for that are no models: aliases of the routing file, and those that releases move, from SQL."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass

import structlog
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from contracts.errors import ModelNotFound
from contracts.keys import ApiKey
from contracts.models import ModelCard
from contracts.releases import Alias, Arm, Release
from gateway.metrics import Metrics
from gateway.routing.models import ModelDirectory
from gateway.routing.rendezvous import key_of, weighted_choice
from gateway.routing.traffic import Traffic
from store.aliases import AliasRepository, AliasRoute

REFRESH_S = 1.0
"""A roll-back counts within this time, also where its news was lost."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A request's part in a release that is under way."""

    release: str
    stage: str
    arm: Arm
    alias: str
    shared: bool
    stable: str
    candidate: str
    copied_share: float = 0.0
    """Share of the stable model's requests that are copied to the candidate."""

    @property
    def is_candidate(self) -> bool:
        return self.arm == "candidate"


class Aliases:
    """Finds the model that a name stands for, without a query: what SQL says is copied, at news and every second.

    Costs a look-up where the name is no alias. A tenant's own alias comes before a shared one, and that before the
    routing file's.
    """

    def __init__(self, traffic: Traffic, models: ModelDirectory, repository: AliasRepository, metrics: Metrics) -> None:
        self._traffic = traffic
        self._models = models
        self._repository = repository
        self._shares = metrics.release_share
        self._routes: dict[str, dict[str | None, _Route]] = {}
        self._changed = asyncio.Event()
        self._log = structlog.get_logger(__name__)

    def knows(self, name: str) -> bool:
        """Whether the name may be an alias for some tenant."""
        return name in self._routes or self._traffic.is_alias(name)

    def resolve(self, name: str, key: ApiKey, subject: str) -> tuple[ModelCard, Trial | None]:
        """The model that the subject (a session, a user or a key) gets, everywhere the same one.

        A candidate that is not registered any more is left out. Raises ModelNotFound.
        """
        route = self._route(name, key.tenant)
        if route is not None:
            return self._on(route, key, subject)
        if self._traffic.is_alias(name):
            return self._models.require(self._traffic.model_for(name, subject), key, alias=name), None
        return self._models.require(name, key), None

    def visible_to(self, key: ApiKey) -> list[tuple[Alias, ModelCard]]:
        """The aliases that a key may use, with their stable models."""
        found = []
        for name in sorted(self._routes):
            route = self._route(name, key.tenant)
            if route is not None and (card := self._stable_of(route.alias, key)) is not None:
                found.append((route.alias, card))
        return found

    async def refresh(self) -> None:
        routes: dict[str, dict[str | None, _Route]] = defaultdict(dict)
        for found in await asyncio.to_thread(self._repository.routes):
            routes[found.alias.name][found.alias.tenant] = _Route(found)
        self._routes = dict(routes)
        self._tell_shares()

    def refresh_soon(self) -> None:
        self._changed.set()

    async def run(self) -> None:
        """Keeps the copy fresh until cancelled. While SQL is away the last copy serves on."""
        while True:
            self._changed.clear()
            try:
                await self.refresh()
            except (SQLAlchemyError, ValidationError) as error:
                self._log.warning("aliases not refreshed", reason=type(error).__name__)
            try:
                async with asyncio.timeout(REFRESH_S):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _tell_shares(self) -> None:
        """Of releases under way. Aliases of one name, which are of several tenants, are told as one."""
        self._shares.clear()
        for name, of_name in self._routes.items():
            for release in (route.release for route in of_name.values()):
                if release is not None and (stage := release.current_stage) is not None:
                    self._shares.labels(name, release.candidate, release.state).set(stage.share)

    def _route(self, name: str, tenant: str) -> "_Route | None":
        of_name = self._routes.get(name, {})
        return of_name.get(tenant) or of_name.get(None)

    def _on(self, route: "_Route", key: ApiKey, subject: str) -> tuple[ModelCard, Trial | None]:
        alias = route.alias
        model = route.model_for(subject)
        shared = alias.tenant is None
        try:
            return self._models.require(model, key, alias=alias.name, shared=shared), route.trials.get(model)
        except ModelNotFound:
            if model == alias.model:
                raise
            return self._models.require(alias.model, key, alias=alias.name, shared=shared), None

    def _stable_of(self, alias: Alias, key: ApiKey) -> ModelCard | None:
        try:
            return self._models.require(alias.model, key, alias=alias.name, shared=alias.tenant is None)
        except ModelNotFound:
            return None


class _Route:
    """An alias as requests meet it: its models with their weights, and the release that is under way."""

    def __init__(self, found: AliasRoute) -> None:
        self.alias = alias = found.alias
        weights = {alias.model: 1.0}
        self.trials: dict[str, Trial] = {}
        self.release = release = found.release
        if release is not None and (stage := release.current_stage) is not None:
            copied_share = stage.share if release.state == "shadow" else 0.0
            self.trials = {model: _trial(release, arm, copied_share) for arm, model in _arms(release)}
            if release.state == "canary":
                weights = {release.candidate: stage.share, alias.model: 1 - stage.share}
        self._targets = [(model, key_of(model), weight) for model, weight in weights.items() if weight > 0]

    def model_for(self, subject: str) -> str:
        """Subjects that have the candidate keep it when its share grows (`weighted_choice`)."""
        if len(self._targets) == 1:
            return self._targets[0][0]
        return weighted_choice(key_of(f"{self.alias.name}\0{subject}"), self._targets)


def _arms(release: Release) -> tuple[tuple[Arm, str], ...]:
    return ("stable", release.stable), ("candidate", release.candidate)


def _trial(release: Release, arm: Arm, copied_share: float) -> Trial:
    return Trial(
        release=release.id,
        stage=release.stage_name,
        arm=arm,
        alias=release.alias,
        shared=release.owner is None,
        stable=release.stable,
        candidate=release.candidate,
        copied_share=copied_share,
    )
