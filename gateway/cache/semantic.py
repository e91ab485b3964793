"""A question in other words is answered from what is kept, for keys that ask for it."""

import asyncio
from dataclasses import dataclass, replace

import structlog
from redis.exceptions import RedisError

from contracts.errors import ApiError, NoEngineAvailable
from contracts.models import ModelCard
from contracts.openai import DataPathRequest
from contracts.settings import CacheSettings
from gateway.cache.answers import AnswerCache
from gateway.cache.embedder import Embedder, NotEmbedded
from gateway.cache.kept import KeptAnswer
from gateway.cache.question import Question, question_of
from gateway.cache.questions import KnownQuestions, PlacedQuestion, QuestionIndex
from gateway.cache.repeats import CacheUse
from gateway.cache.wording import may_share_an_answer
from gateway.metrics import Metrics
from gateway.relay.exchange import HeaderList
from gateway.relay.upstream import UpstreamError
from gateway.routing.models import ModelDirectory

SIMILARITY_HEADER = b"x-flywheel-cache-similarity"
MOST_COMPARED = 16
"""Near questions whose words are looked at, so that a look-up stays short."""


@dataclass(frozen=True, slots=True)
class SimilarAnswer:
    """The kept answer to a similar question."""

    answer: KeptAnswer
    similarity: float

    @property
    def headers(self) -> HeaderList:
        return [(SIMILARITY_HEADER, b"%.3f" % self.similarity)]


class SemanticCache:
    """Looks for the kept answer to a question that is near enough and whose words allow it (`wording`).

    Only for what the exact cache would keep, and only within a tenant and a context: all but the text of the last
    message is equal (`question`). Costs a look at Redis beside a request to an embedding engine, together at most
    `semantic_timeout_s`, and another look where something near is found. Raises nothing: where an engine or Redis is
    away, or late, there is no similar answer, and metrics say why.
    """

    def __init__(
        self,
        answers: AnswerCache,
        questions: QuestionIndex,
        embedder: Embedder,
        models: ModelDirectory,
        settings: CacheSettings,
        metrics: Metrics,
    ) -> None:
        self._answers = answers
        self._questions = questions
        self._embedder = embedder
        self._models = models
        self._settings = settings
        self._lookups = metrics.semantic_lookups
        self._log = structlog.get_logger(__name__)

    async def find(
        self, tenant: str, request: DataPathRequest, body: bytes, card: ModelCard, use: CacheUse
    ) -> tuple[CacheUse, SimilarAnswer | None]:
        """The similar answer, if there is one, and the use that also places this question for those who ask later."""
        embeddings = self._models.find(self._settings.semantic_model)
        if embeddings is None:
            self._count("no_engine")
            return use, None
        question = question_of(request, body, card, embeddings, use.policy)
        if question is None:
            return use, None
        try:
            async with asyncio.timeout(self._settings.semantic_timeout_s):
                return await self._look(tenant, question, embeddings, use)
        except TimeoutError:
            self._count("too_late")
        except NoEngineAvailable:
            self._count("no_engine")
        except (ApiError, UpstreamError, NotEmbedded, RedisError) as error:
            self._count("failed")
            self._log.info("question not compared", reason=type(error).__name__)
        return use, None

    async def _look(
        self, tenant: str, question: Question, embeddings: ModelCard, use: CacheUse
    ) -> tuple[CacheUse, SimilarAnswer | None]:
        looking = asyncio.create_task(self._questions.look(tenant, question.context))
        try:
            vector = await self._embedder.embed(question.text, embeddings)
            known = await looking
        finally:
            looking.cancel()
        placed = PlacedQuestion(question.context, question.text, vector)
        similar = await self._nearest(tenant, known, placed, use)
        self._count("no_similar" if similar is None else "answered")
        return replace(use, question=placed), similar

    async def _nearest(
        self, tenant: str, known: KnownQuestions, placed: PlacedQuestion, use: CacheUse
    ) -> SimilarAnswer | None:
        near = known.near(placed.vector, at_least=self._settings.semantic_threshold)
        for neighbour, _ in zip(near, range(MOST_COMPARED), strict=False):
            if not may_share_an_answer(placed.text, neighbour.text):
                continue
            its_use = replace(use, digest=neighbour.digest)
            answer = self._answers.recall(tenant, its_use) or await self._answers.look_up(tenant, its_use)
            if answer is not None:
                return SimilarAnswer(answer, neighbour.similarity)
            if use.max_age_s is None:
                known.forget(neighbour.digest)
        return None

    def _count(self, result: str) -> None:
        self._lookups.labels(result).inc()
