"""/v1/flywheel/releases: candidates for an alias, how they stand, and what was decided on which evidence."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.errors import Conflict, InvalidValue, MissingParameter, NotFound, ServiceUnavailable
from contracts.files import StoredFile
from contracts.jobs import JobStatus
from contracts.keys import ApiKey
from contracts.releases import (
    FINAL_STATES,
    Alias,
    ArmFigures,
    Evidence,
    Move,
    Policy,
    RecordedMove,
    Release,
    ReleaseState,
)
from gateway.api.access import AdminKey
from gateway.api.aliases import check_served_alike, tell_gateways
from gateway.api.paging import After, Limit, Page
from gateway.routing.aliases import Aliases
from gateway.routing.models import ModelDirectory
from store.aliases import AliasRepository
from store.files import FileRepository
from store.jobs import JobRepository
from store.release_figures import ReleaseFigures
from store.releases import AliasTaken, ReleaseRepository

router = APIRouter(prefix="/v1/flywheel/releases", tags=["Releases"])
MOST_TRIES = 10
"""A controller may move a release between a person's look and their word; theirs is then said again."""


class CreateRelease(BaseModel):
    model_config = ConfigDict(extra="forbid")

    alias: str
    candidate: str
    policy: Policy = Policy()
    evaluation_file: str | None = None


class Conclude(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: str | None = None


class ReleaseObject(BaseModel):
    """`share` is what the candidate gets now, of users in the canary and of copies in the shadow."""

    id: str
    object: Literal["release"] = "release"
    alias: str
    stable: str
    candidate: str
    state: ReleaseState
    stage: int
    share: float
    evaluation_file: str | None
    evaluation_job: str | None
    created_at: int
    entered_at: int
    finished_at: int | None
    policy: Policy

    @classmethod
    def of(cls, release: Release) -> "ReleaseObject":
        stage = release.current_stage
        share = stage.share if stage is not None else 1.0 if release.state == "promoted" else 0.0
        known = release.model_dump(include=set(cls.model_fields) - {"object", "share", "entered_at", "policy"})
        return cls(**known, share=share, entered_at=int(release.entered_at), policy=release.policy)


class EvaluationProgress(BaseModel):
    """How the evaluation's job stands, and what it told last."""

    status: JobStatus
    message: str | None


class ReleaseDetails(ReleaseObject):
    """With every move that was made, the last look at this stage, and what was counted since."""

    moves: list[RecordedMove]
    evaluation: EvaluationProgress | None
    evidence: Evidence | None
    figures: dict[Literal["stable", "candidate"], ArmFigures] | None
    controlled: bool
    """Whether a controller lives that moves it."""


class ReleaseService:
    """Releases of the aliases of the key's tenant, and of the shared ones."""

    def __init__(
        self,
        releases: ReleaseRepository,
        alias_rows: AliasRepository,
        files: FileRepository,
        jobs: JobRepository,
        aliases: Aliases,
        directory: ModelDirectory,
        redis: Redis,
    ) -> None:
        self._releases = releases
        self._alias_rows = alias_rows
        self._files = files
        self._jobs = jobs
        self._aliases = aliases
        self._directory = directory
        self._redis = redis
        self._figures = ReleaseFigures(redis)

    async def create(self, wanted: CreateRelease, key: ApiKey) -> Release:
        """Raises NotFound, ModelNotFound, InvalidValue, MissingParameter, Conflict."""
        alias = await asyncio.to_thread(self._alias, wanted.alias, key)
        candidate = self._directory.require(wanted.candidate, key)
        stable = self._directory.require(alias.model, key, alias=alias.name, shared=alias.tenant is None)
        if candidate.name == stable.name:
            raise InvalidValue(f"`{alias.name}` stands for `{candidate.name}` already.", param="candidate")
        check_served_alike(stable, candidate)
        release = await asyncio.to_thread(self._start, wanted, alias, key)
        await self._tell(release)
        return release

    async def page(self, key: ApiKey, *, alias: str | None, after: str | None, limit: int) -> list[Release]:
        return await asyncio.to_thread(self._releases.page, tenant=key.tenant, alias=alias, after=after, limit=limit)

    async def describe(self, release_id: str, key: ApiKey) -> ReleaseDetails:
        """Raises NotFound."""
        release = await asyncio.to_thread(self._require, release_id, key)
        moves = await asyncio.to_thread(self._releases.moves, release.id)
        evaluation = await asyncio.to_thread(self._progress, release)
        figures, controlled = None, False
        try:
            if release.current_stage is not None:
                figures = await self._figures.read(release.id, release.stage_name)
            controlled = await self._figures.controlled()
        except RedisError:
            raise ServiceUnavailable("The release's figures cannot be read.", retry_after_s=1) from None
        return ReleaseDetails(
            **ReleaseObject.of(release).model_dump(),
            moves=moves,
            evaluation=evaluation,
            evidence=release.evidence,
            figures=figures,
            controlled=controlled,
        )

    async def promote(self, release_id: str, key: ApiKey, reason: str | None) -> Release:
        """At once, whatever the gates say. Raises NotFound, Conflict."""
        move = Move(state="promoted", reason=reason or "Promoted by hand.")
        return await self._conclude(release_id, key, move, FINAL_STATES)

    async def roll_back(self, release_id: str, key: ApiKey, reason: str | None) -> Release:
        """At once, also after the promotion. Every gateway knows within a second. Raises NotFound, Conflict."""
        move = Move(state="rolled_back", reason=reason or "Rolled back by hand.")
        return await self._conclude(release_id, key, move, frozenset({"rolled_back"}))

    async def _conclude(self, release_id: str, key: ApiKey, move: Move, too_late: frozenset[ReleaseState]) -> Release:
        release = await asyncio.to_thread(self._conclude_now, release_id, key, move, too_late)
        await self._tell(release)
        return release

    def _conclude_now(self, release_id: str, key: ApiKey, move: Move, too_late: frozenset[ReleaseState]) -> Release:
        for _ in range(MOST_TRIES):
            release = self._require(release_id, key)
            if release.state in too_late:
                raise Conflict(f"The release has ended: it was {release.state.replace('_', ' ')}.", param="release_id")
            try:
                moved = self._releases.move(release, move, actor=key.id)
            except AliasTaken:
                raise Conflict(
                    f"`{release.alias}` has gone on to another model or release since.", param="release_id"
                ) from None
            if moved is not None:
                if moved.evaluation_job is not None:  # nobody waits for its result any more
                    self._jobs.cancel(moved.evaluation_job, tenant=moved.tenant)
                return moved
        raise Conflict("The release is being moved. Try again.", param="release_id")

    def _start(self, wanted: CreateRelease, alias: Alias, key: ApiKey) -> Release:
        try:
            return self._releases.start(
                alias,
                candidate=wanted.candidate,
                policy=wanted.policy,
                tenant=key.tenant,
                actor=key.id,
                evaluation_file=self._evaluation_file(wanted, key),
            )
        except AliasTaken:
            raise Conflict(f"Another release of `{alias.name}` is under way.", param="alias") from None

    def _evaluation_file(self, wanted: CreateRelease, key: ApiKey) -> StoredFile | None:
        if wanted.policy.evaluation is None:
            if wanted.evaluation_file is not None:
                raise InvalidValue("The policy has no `evaluation` that would use this file.", param="evaluation_file")
            return None
        if wanted.evaluation_file is None:
            raise MissingParameter("The policy's `evaluation` needs an `evaluation_file`.", param="evaluation_file")
        file = self._files.get(wanted.evaluation_file, tenant=key.tenant)
        if file is None:
            raise InvalidValue(f"No such file: `{wanted.evaluation_file}`.", param="evaluation_file")
        return file

    def _progress(self, release: Release) -> EvaluationProgress | None:
        job = None if release.evaluation_job is None else self._jobs.get(release.evaluation_job)
        if job is None:
            return None
        told = self._jobs.events(job.id, limit=1)
        return EvaluationProgress(status=job.status, message=told[0].message if told else None)

    def _alias(self, name: str, key: ApiKey) -> Alias:
        for owner in (key.tenant, None):
            if (alias := self._alias_rows.get(name, owner=owner)) is not None:
                return alias
        raise NotFound(f"No such alias: `{name}`.", param="alias")

    def _require(self, release_id: str, key: ApiKey) -> Release:
        release = self._releases.get(release_id)
        if release is None or release.owner not in (None, key.tenant):
            raise NotFound(f"No such release: `{release_id}`.", param="release_id")
        return release

    async def _tell(self, release: Release) -> None:
        await self._aliases.refresh()
        await tell_gateways(self._redis, release.alias)


def _service(request: Request) -> ReleaseService:
    service: ReleaseService = request.app.state.release_service
    return service


Service = Annotated[ReleaseService, Depends(_service)]
OfAlias = Annotated[str | None, Query(description="Only this alias's releases.")]


@router.post("", summary="Release a candidate for an alias.")
async def create_release(wanted: CreateRelease, key: AdminKey, service: Service) -> ReleaseObject:
    return ReleaseObject.of(await service.create(wanted, key))


@router.get("", summary="List releases, newest first.")
async def list_releases(
    key: AdminKey, service: Service, alias: OfAlias = None, after: After = None, limit: Limit = 20
) -> Page[ReleaseObject]:
    found = await service.page(key, alias=alias, after=after, limit=limit + 1)
    return Page.of([ReleaseObject.of(release) for release in found], limit)


@router.get("/{release_id}", summary="Retrieve a release with its moves and their evidence.")
async def retrieve_release(release_id: str, key: AdminKey, service: Service) -> ReleaseDetails:
    return await service.describe(release_id, key)


@router.post("/{release_id}/promote", summary="Make the candidate the stable model now.")
async def promote_release(
    release_id: str, key: AdminKey, service: Service, wanted: Conclude | None = None
) -> ReleaseObject:
    return ReleaseObject.of(await service.promote(release_id, key, wanted.reason if wanted else None))


@router.post("/{release_id}/rollback", summary="Go back to the stable model now, also after the promotion.")
async def roll_back_release(
    release_id: str, key: AdminKey, service: Service, wanted: Conclude | None = None
) -> ReleaseObject:
    return ReleaseObject.of(await service.roll_back(release_id, key, wanted.reason if wanted else None))
