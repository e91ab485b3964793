"""/v1/models: what a key may use."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from redis.asyncio import Redis

from contracts.errors import Conflict, ModelNotFound
from contracts.invalidation import Invalidation
from contracts.keys import ApiKey
from contracts.models import ModelCard
from gateway.api.access import AnyKey, JobsKey
from gateway.routing.aliases import Aliases
from gateway.routing.fleet import Fleet
from gateway.routing.models import ModelDirectory
from store.aliases import AliasRepository
from store.models import ModelRepository
from store.news import publish_news

router = APIRouter(prefix="/v1/models", tags=["Models"])


class ModelObject(BaseModel):
    """OpenAI's model object, and where the model comes from."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    root: str
    parent: str | None
    task: Literal["generate", "embed"]
    max_model_len: int
    state: Literal["live", "on_demand", "unavailable"]
    job: str | None
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
        redis: Redis,
    ) -> None:
        self.directory = directory
        self._aliases = aliases
        self._alias_rows = alias_rows
        self._fleet = fleet
        self._models = models
        self._redis = redis

    def describe(self, card: ModelCard, live: set[str] | None = None) -> ModelObject:
        live = self._fleet.live_models() if live is None else live
        return ModelObject(
            id=card.name,
            created=card.created_at,
            owned_by=card.tenant or "flywheel",
            root=card.parent or card.name,
            parent=card.parent,
            task=card.task,
            max_model_len=card.context_length,
            state="live" if card.name in live else "on_demand" if card.on_demand else "unavailable",
            job=card.job,
            licence=card.licence,
        )

    def describe_all(self, cards: list[ModelCard]) -> list[ModelObject]:
        live = self._fleet.live_models()
        return [self.describe(card, live) for card in cards]

    def describe_aliases(self, key: ApiKey) -> list[ModelObject]:
        """Each as the stable model that it stands for, which is its root."""
        live = self._fleet.live_models()
        return [
            self.describe(card, live).model_copy(
                update={
                    "id": alias.name,
                    "root": card.name,
                    "owned_by": alias.tenant or "flywheel",
                    "created": alias.created_at,
                }
            )
            for alias, card in self._aliases.visible_to(key)
        ]

    async def delete(self, name: str, *, tenant: str) -> bool:
        """Raises Conflict where an alias stands for the model."""
        if aliases := await asyncio.to_thread(self._alias_rows.using, name):
            raise Conflict(f"The alias `{aliases[0]}` stands for this model, or a release of it.", param="model")
        card = await asyncio.to_thread(self._models.delete, name, tenant=tenant)
        if card is None:
            return False
        await self.directory.refresh()
        await publish_news(self._redis, Invalidation(kind="model", id=name))
        return True


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


@router.delete("/{model:path}", summary="Delete a fine-tuned model of this tenant.")
async def delete_model(model: str, key: JobsKey, service: Service) -> ModelDeleted:
    if not await service.delete(model, tenant=key.tenant):
        raise ModelNotFound(model)
    return ModelDeleted(id=model)
