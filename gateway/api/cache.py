"""/v1/flywheel/cache: forgets kept answers before their time."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel
from redis.exceptions import RedisError

from contracts.errors import ServiceUnavailable
from gateway.api.access import AdminKey
from gateway.cache.answers import AnswerCache

router = APIRouter(prefix="/v1/flywheel/cache", tags=["Cache"])


class CacheCleared(BaseModel):
    object: Literal["cache"] = "cache"
    tenant: str
    model: str | None
    deleted: int


def _cache(request: Request) -> AnswerCache:
    cache: AnswerCache = request.app.state.answer_cache
    return cache


@router.delete("", summary="Forget the answers kept for this tenant.")
async def clear_cache(
    key: AdminKey,
    cache: Annotated[AnswerCache, Depends(_cache)],
    model: Annotated[str | None, Query(description="Only this model's answers.")] = None,
) -> CacheCleared:
    try:
        deleted = await cache.clear(key.tenant, model)
    except RedisError:
        raise ServiceUnavailable("The cache cannot be reached. Try again shortly.", retry_after_s=1) from None
    return CacheCleared(tenant=key.tenant, model=model, deleted=deleted)
