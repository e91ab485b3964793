"""/v1/flywheel/aliases: names that stand for a model, and go on standing for something while the models change."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.errors import Conflict, InvalidValue, NotFound
from contracts.invalidation import Invalidation
from contracts.keys import ApiKey
from contracts.models import ModelCard
from contracts.releases import Alias, AliasName
from gateway.api.access import AdminKey
from gateway.routing.aliases import Aliases
from gateway.routing.models import ModelDirectory
from store.aliases import AliasBusy, AliasExists, AliasRepository
from store.news import publish_news

router = APIRouter(prefix="/v1/flywheel/aliases", tags=["Releases"])


class CreateAlias(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: AliasName
    model: str
    shared: bool = False
    """Every tenant may use it, and by it the models that it stands for."""


class AliasObject(Alias):
    object: Literal["alias"] = "alias"

    @classmethod
    def of(cls, alias: Alias) -> "AliasObject":
        return cls(**alias.model_dump())


class AliasList(BaseModel):
    object: Literal["list"] = "list"
    data: list[AliasObject]


class AliasDeleted(BaseModel):
    name: str
    object: Literal["alias"] = "alias"
    deleted: bool = True


class AliasService:
    """Aliases of the key's tenant, and the shared ones, which every key of scope `admin` may change."""

    def __init__(self, rows: AliasRepository, aliases: Aliases, directory: ModelDirectory, redis: Redis) -> None:
        self._rows = rows
        self._aliases = aliases
        self._directory = directory
        self._redis = redis

    async def create(self, wanted: CreateAlias, key: ApiKey) -> Alias:
        """Raises ModelNotFound, InvalidValue, Conflict."""
        card = self._directory.require(wanted.model, key)
        if self._directory.has(wanted.name):
            raise InvalidValue(f"`{wanted.name}` is the name of a model.", param="name")
        owner = None if wanted.shared else key.tenant
        try:
            alias = await asyncio.to_thread(self._rows.create, wanted.name, owner=owner, model=card.name)
        except AliasExists:
            raise Conflict(f"The alias `{wanted.name}` exists already.", param="name") from None
        await self._tell(alias.name)
        return alias

    async def list(self, key: ApiKey) -> list[Alias]:
        return await asyncio.to_thread(self._rows.visible_to, key.tenant)

    async def require(self, name: str, key: ApiKey) -> Alias:
        """The tenant's own before a shared one. Raises NotFound."""
        for owner in (key.tenant, None):
            if (alias := await asyncio.to_thread(self._rows.get, name, owner=owner)) is not None:
                return alias
        raise NotFound(f"No such alias: `{name}`.", param="name")

    async def delete(self, name: str, key: ApiKey) -> None:
        """Raises NotFound, Conflict."""
        alias = await self.require(name, key)
        try:
            await asyncio.to_thread(self._rows.delete, name, owner=alias.tenant)
        except AliasBusy:
            raise Conflict(f"A release of `{name}` is under way. Roll it back first.", param="name") from None
        await self._tell(name)

    async def _tell(self, name: str) -> None:
        await self._aliases.refresh()
        await tell_gateways(self._redis, name)


async def tell_gateways(redis: Redis, alias: str) -> None:
    """Gateways that do not hear of it, because Redis is away, find out by themselves within a second."""
    try:
        await publish_news(redis, Invalidation(kind="alias", id=alias))
    except RedisError:
        return


def check_served_alike(stable: ModelCard, candidate: ModelCard) -> None:
    """Raises InvalidValue where the candidate would refuse what the stable model answers."""
    if candidate.task != stable.task:
        raise InvalidValue(f"`{candidate.name}` is for another task than `{stable.name}`.", param="candidate")
    if candidate.context_length < stable.context_length:
        raise InvalidValue(
            f"The context of `{candidate.name}` is shorter than that of `{stable.name}`: "
            f"{candidate.context_length} and {stable.context_length} tokens.",
            param="candidate",
        )


def _service(request: Request) -> AliasService:
    service: AliasService = request.app.state.alias_service
    return service


Service = Annotated[AliasService, Depends(_service)]


@router.post("", summary="Create an alias of a model.")
async def create_alias(wanted: CreateAlias, key: AdminKey, service: Service) -> AliasObject:
    return AliasObject.of(await service.create(wanted, key))


@router.get("", summary="List the aliases of this tenant and the shared ones.")
async def list_aliases(key: AdminKey, service: Service) -> AliasList:
    return AliasList(data=[AliasObject.of(alias) for alias in await service.list(key)])


@router.get("/{name}", summary="Retrieve an alias.")
async def retrieve_alias(name: str, key: AdminKey, service: Service) -> AliasObject:
    return AliasObject.of(await service.require(name, key))


@router.delete("/{name}", summary="Delete an alias; its models stay.")
async def delete_alias(name: str, key: AdminKey, service: Service) -> AliasDeleted:
    await service.delete(name, key)
    return AliasDeleted(name=name)
