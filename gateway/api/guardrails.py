"""/v1/flywheel/keys/{id}/guardrails: what the requests and answers of an API key must keep to."""

import asyncio
from contextlib import suppress
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.errors import InvalidValue, NotFound
from contracts.guardrails import GuardrailPolicy
from contracts.guardrails.checking import BadPolicy, check_policy
from contracts.invalidation import Invalidation
from contracts.keys import ApiKey
from gateway.api.access import AdminKey
from gateway.auth.keys import Authenticator
from store.keys import KeyRepository
from store.news import publish_news

router = APIRouter(prefix="/v1/flywheel/keys/{key_id}/guardrails", tags=["Guardrails"])


class KeyGuardrails(BaseModel):
    key: str
    object: Literal["key.guardrails"] = "key.guardrails"
    guardrails: GuardrailPolicy | None

    @classmethod
    def of(cls, key: ApiKey) -> "KeyGuardrails":
        return cls(key=key.id, guardrails=key.guardrails)


class GuardrailService:
    """The policies of a tenant's keys. A change counts at once here, and within a second at the other gateways."""

    def __init__(self, keys: KeyRepository, authenticator: Authenticator, redis: Redis) -> None:
        self._keys = keys
        self._authenticator = authenticator
        self._redis = redis

    async def require(self, key_id: str, admin: ApiKey) -> ApiKey:
        """Raises NotFound."""
        key = await asyncio.to_thread(self._keys.get, key_id)
        if key is None or key.tenant != admin.tenant:
            raise NotFound(f"No such API key: `{key_id}`.", param="key_id")
        return key

    async def put(self, key_id: str, policy: GuardrailPolicy | None, admin: ApiKey) -> ApiKey:
        """Raises NotFound and InvalidValue."""
        await self.require(key_id, admin)
        if policy is not None:
            try:
                check_policy(policy)
            except BadPolicy as error:
                raise InvalidValue(error.message, param=error.field) from None
        changed = await asyncio.to_thread(self._keys.set_guardrails, key_id, policy)
        if changed is None:
            raise NotFound(f"No such API key: `{key_id}`.", param="key_id")
        self._authenticator.forget()
        with suppress(RedisError):  # gateways that do not hear of it read the key again after `auth.key_cache_s`
            await publish_news(self._redis, Invalidation(kind="key", id=key_id))
        return changed


def _service(request: Request) -> GuardrailService:
    service: GuardrailService = request.app.state.guardrail_service
    return service


Service = Annotated[GuardrailService, Depends(_service)]


@router.get("", summary="Retrieve the guardrails of an API key.")
async def retrieve_guardrails(key_id: str, key: AdminKey, service: Service) -> KeyGuardrails:
    return KeyGuardrails.of(await service.require(key_id, key))


@router.put("", summary="Set the guardrails of an API key, in place of those that it had.")
async def set_guardrails(key_id: str, policy: GuardrailPolicy, key: AdminKey, service: Service) -> KeyGuardrails:
    return KeyGuardrails.of(await service.put(key_id, policy, key))


@router.delete("", summary="Take the guardrails of an API key away.")
async def clear_guardrails(key_id: str, key: AdminKey, service: Service) -> KeyGuardrails:
    return KeyGuardrails.of(await service.put(key_id, None, key))
