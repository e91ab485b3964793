"""Answers kept in Redis, for the tenant that asked."""

import asyncio
import time
from pathlib import Path

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.invalidation import Invalidation
from contracts.models import ModelCard
from contracts.openai import DataPathRequest
from contracts.settings import CacheSettings
from gateway.cache.claims import Claim
from gateway.cache.digest import QuestionDigests
from gateway.cache.kept import KeptAnswer, from_bytes, to_bytes
from gateway.cache.local import LocalAnswers
from gateway.cache.repeats import BYPASS, CacheUse, cache_use
from gateway.metrics import Metrics
from gateway.redis_pipe import Argument, Pipe
from store import redis_names
from store.news import publish_news

TOUCH_EVERY_S = 5.0
MOST_TOUCHED = 4096
SCRIPTS = Path(__file__).parent / "scripts"


class AnswerCache:
    """Keeps answers `ttl_s` long and a tenant's within `max_tenant_bytes`, those that were used last.

    The look-up itself travels with the request's admission; before it comes `local`. While Redis is away nothing is
    kept and nothing is found.
    """

    def __init__(self, pipe: Pipe, redis: Redis, settings: CacheSettings, metrics: Metrics) -> None:
        self._pipe = pipe
        self._redis = redis
        self._settings = settings
        self._metrics = metrics
        self._keep, self._clear = (pipe.script(_lua("forget_question", name)) for name in ("keep", "clear"))
        self._touch = pipe.script(_lua("touch"))
        self._digests = QuestionDigests()
        self._touched: dict[str, set[str]] = {}
        self._log = structlog.get_logger(__name__)
        self.local = LocalAnswers(max_bytes=settings.local_bytes, ttl_s=settings.local_ttl_s)

    def use(
        self,
        request: DataPathRequest,
        body: bytes,
        card: ModelCard,
        path: str,
        headers: dict[bytes, bytes],
        policy: str = "",
    ) -> CacheUse:
        """How a request uses the cache. `policy` is the digest of the guardrails that its answer goes over."""
        if not self._settings.enabled:
            return BYPASS
        return cache_use(request, body, card, path, headers, self._digests, policy)

    @property
    def max_entry_bytes(self) -> int:
        return self._settings.max_entry_bytes

    def recall(self, tenant: str, use: CacheUse) -> KeptAnswer | None:
        """An answer that this process holds, if it is young enough."""
        answer = self.local.get(tenant, use.digest) if use.read else None
        if answer is None or not _young_enough(answer, use):
            return None
        self._note_use(tenant, use.digest)
        return answer

    async def find(self, tenant: str, use: CacheUse) -> KeptAnswer | None:
        """An answer that Redis keeps, if it is young enough; none while Redis is away. One round trip."""
        try:
            return await self.look_up(tenant, use)
        except RedisError as error:
            self._fail("answer not found", error)
            return None

    async def look_up(self, tenant: str, use: CacheUse) -> KeptAnswer | None:
        """As `find`, but raises RedisError."""
        raw: bytes | None = await self._pipe.call("GET", redis_names.cached_answer(tenant, use.digest))
        return self.open(tenant, use, raw) if raw is not None else None

    def open(self, tenant: str, use: CacheUse, raw: bytes) -> KeptAnswer | None:
        """What Redis kept, if it is young enough; from now on also in this process."""
        answer = from_bytes(raw)
        if not _young_enough(answer, use):
            return None
        self._note_use(tenant, use.digest)
        self.local.put(tenant, use.digest, answer)
        return answer

    async def keep(self, tenant: str, use: CacheUse, answer: KeptAnswer, claim: Claim) -> bool:
        """Keeps an answer and ends the flight it came from. One round trip; a failure is counted, and false."""
        answer = KeptAnswer(answer.content_type, answer.body, time.time())
        names = [
            redis_names.cached_answer(tenant, use.digest),
            redis_names.flight(tenant, use.digest),
            redis_names.cache_epoch(tenant),
            redis_names.cache_uses(tenant),
            redis_names.cache_sizes(tenant),
            redis_names.cache_places(tenant),
        ]
        question = use.question
        try:
            kept = await self._keep(
                names,
                [
                    use.digest,
                    to_bytes(answer),
                    self._settings.ttl_s * 1000,
                    self._settings.max_tenant_bytes,
                    use.model,
                    claim.epoch,
                    claim.token,
                    redis_names.cached_answer(tenant, ""),
                    redis_names.LANDINGS,
                    f"{tenant} {use.digest}",
                    redis_names.cache_questions(tenant, ""),
                    self._settings.semantic_questions,
                    *((question.context, question.text, question.packed()) if question is not None else ()),
                ],
            )
        except RedisError as error:
            self._fail("answer not kept", error)
            return False
        if kept:
            self.local.put(tenant, use.digest, answer)
        return bool(kept)

    async def clear(self, tenant: str, model: str | None) -> int:
        """Drops a tenant's kept answers, of one model or all, on every gateway. Returns how many; raises RedisError.

        What is being generated meanwhile is not kept. Another gateway that does not hear the news may answer from its
        own memory for `local_ttl_s`.
        """
        names = [
            redis_names.cache_epoch(tenant),
            redis_names.cache_uses(tenant),
            redis_names.cache_sizes(tenant),
            redis_names.cache_places(tenant),
        ]
        cursor, dropped = b"0", 0
        while True:
            arguments: list[Argument] = [
                redis_names.cached_answer(tenant, ""),
                model or "",
                cursor,
                redis_names.cache_questions(tenant, ""),
            ]
            cursor, count = await self._clear(names, arguments)
            dropped += int(count)
            if cursor == b"0":
                break
        self.local.forget(tenant)
        await publish_news(self._redis, Invalidation(kind="cache", id=tenant))
        return dropped

    async def run(self) -> None:
        """Tells Redis now and then which answers were used, until cancelled."""
        while True:
            await asyncio.sleep(TOUCH_EVERY_S)
            touched, self._touched = self._touched, {}
            for tenant, digests in touched.items():
                try:
                    await self._touch([redis_names.cache_uses(tenant)], [*digests])
                except RedisError as error:
                    self._fail("uses not noted", error)

    def _note_use(self, tenant: str, digest: str) -> None:
        digests = self._touched.setdefault(tenant, set())
        if len(digests) < MOST_TOUCHED:
            digests.add(digest)

    def _fail(self, what: str, error: RedisError) -> None:
        self._metrics.redis_errors.labels("cache").inc()
        self._log.warning(what, reason=type(error).__name__)


def _lua(*parts: str) -> str:
    return "\n".join((SCRIPTS / f"{part}.lua").read_text() for part in parts)


def _young_enough(answer: KeptAnswer, use: CacheUse) -> bool:
    return use.max_age_s is None or answer.age_s() <= use.max_age_s
