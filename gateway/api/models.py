"""/v1/models: what a key may use."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field
from redis.asyncio import Redis

from contracts.engine import EngineTask
from contracts.errors import Conflict, ModelNotFound
from contracts.invalidation import Invalidation
from contracts.keys import ApiKey
from contracts.models import ModelCard, ModelKind
from gateway.api.access import AnyKey, JobsKey
from gateway.routing.aliases import Aliases
from gateway.routing.fleet import Fleet
from gateway.routing.models import ModelDirectory
from gateway.routing.traffic import Traffic
from store.aliases import AliasRepository
from store.artifacts import ArtifactStore
from store.models import ModelHasChildren, ModelRepository
from store.news import publish_news

router = APIRouter(prefix="/v1/models", tags=["Models"])


class ModelObject(BaseModel):
    """OpenAI's model object, and where the model comes from."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    kind: ModelKind
    task: EngineTask
    max_model_len: int = Field(description="Longest prompt plus completion, in tokens.")
    state: Literal["live", "on_demand", "unavailable"] = Field(
        description="`on_demand`: its first request waits while an engine starts or loads it."
    )
    engines: list[str] = Field(description="Engines that serve it now.")
    parent: str | None = Field(description="The model that it was made from.")
    root: str = Field(description="The base model that it goes back to; itself for a base model.")
    job: str | None = Field(description="The job that made it.")
    digest: str | None = Field(description="`sha256:…` of its weights; null until an engine had them.")
    data_digest: str | None = Field(description="`sha256:…` of the file that it was trained with.")
    metrics: dict[str, float] = Field(description="What its job measured.")
    licence: str | None


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelObject]


class ModelDeleted(BaseModel):
    id: str
    object: Literal["model"] = "model"
    deleted: bool = True


class ModelService:
    def __init__(
        self,
        directory: ModelDirectory,
        aliases: Aliases,
        fleet: Fleet,
        models: ModelRepository,
        alias_rows: AliasRepository,
        artifacts: ArtifactStore,
        traffic: Traffic,
        redis: Redis,
    ) -> None:
        self.directory = directory
        self._aliases = aliases
        self._alias_rows = alias_rows
        self._fleet = fleet
        self._models = models
        self._artifacts = artifacts
        self._traffic = traffic
        self._redis = redis
        self._log = structlog.get_logger(__name__)

    def describe(self, card: ModelCard, engines: Mapping[str, list[str]] | None = None) -> ModelObject:
        engines = self._fleet.engines_by_model() if engines is None else engines
        return ModelObject(
            id=card.name,
            created=card.created_at,
            owned_by=card.tenant or "flywheel",
            kind=card.kind,
            task=card.task,
            max_model_len=card.context_length,
            state=_state(card, engines),
            engines=engines.get(card.name, []),
            parent=card.parent,
            root=self.directory.root_of(card),
            job=card.job,
            digest=card.digest or None,
            data_digest=card.data_digest,
            metrics=card.metrics,
            licence=card.licence,
        )

    def describe_all(self, cards: list[ModelCard]) -> list[ModelObject]:
        engines = self._fleet.engines_by_model()
        return [self.describe(card, engines) for card in cards]

    def describe_aliases(self, key: ApiKey) -> list[ModelObject]:
        """Each as the stable model that it stands for, which is its root."""
        engines = self._fleet.engines_by_model()
        return [
            self.describe(card, engines).model_copy(
                update={
                    "id": alias.name,
                    "root": card.name,
                    "owned_by": alias.tenant or "flywheel",
                    "created": alias.created_at,
                }
            )
            for alias, card in self._aliases.visible_to(key)
        ]

    async def delete(self, name: str, *, tenant: str) -> None:
        """Forgets a model and its weights; engines unload it. Raises ModelNotFound, Conflict."""
        if (use := self._traffic.use_of(name)) is not None:
            raise Conflict(f"The model `{name}` is in use: {use}.", param="model")
        if aliases := await asyncio.to_thread(self._alias_rows.using, name):
            raise Conflict(f"The alias `{aliases[0]}` stands for this model, or a release of it.", param="model")
        try:
            card = await asyncio.to_thread(self._models.delete, name, tenant=tenant)
        except ModelHasChildren as error:
            message = (
                f"Other models were made from `{name}` and need it: {', '.join(error.children)}. Delete them first."
            )
            raise Conflict(message, param="model") from None
        if card is None:
            raise ModelNotFound(name)
        await self.directory.refresh()
        await publish_news(self._redis, Invalidation(kind="model", id=name))
        try:
            await asyncio.to_thread(self._artifacts.delete, card.weights)
        except OSError as error:  # the model is gone all the same
            self._log.warning("weights not deleted", model=name, weights=card.weights, reason=type(error).__name__)


def _state(card: ModelCard, engines: Mapping[str, list[str]]) -> Literal["live", "on_demand", "unavailable"]:
    if card.name in engines:
        return "live"
    loads_on_demand = card.kind == "adapter" and card.parent in engines
    return "on_demand" if card.on_demand or loads_on_demand else "unavailable"


def _service(request: Request) -> ModelService:
    service: ModelService = request.app.state.model_service
    return service


Service = Annotated[ModelService, Depends(_service)]


@router.get("", summary="List the models that this key may use.")
async def list_models(key: AnyKey, service: Service) -> ModelList:
    models = service.describe_all(service.directory.visible_to(key))
    return ModelList(data=[*models, *service.describe_aliases(key)])


@router.get("/{model:path}", summary="Retrieve a model.")
async def retrieve_model(model: str, key: AnyKey, service: Service) -> ModelObject:
    for alias in service.describe_aliases(key):
        if alias.id == model:
            return alias
    return service.describe(service.directory.require(model, key))


@router.delete("/{model:path}", summary="Delete a model that a job of this tenant made, and its weights.")
async def delete_model(model: str, key: JobsKey, service: Service) -> ModelDeleted:
    await service.delete(model, tenant=key.tenant)
    return ModelDeleted(id=model)
