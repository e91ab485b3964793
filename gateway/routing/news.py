"""Acts on news of changes, so that what this process caches is forgotten in milliseconds."""

from redis.asyncio import Redis

from contracts.invalidation import Invalidation
from gateway.auth.keys import Authenticator
from gateway.cache.local import LocalAnswers
from gateway.cache.questions import QuestionIndex
from gateway.job_watch import JobWatch
from gateway.routing.aliases import Aliases
from gateway.routing.fleet import Fleet
from gateway.routing.models import ModelDirectory
from store.news import follow_news


class NewsListener:
    def __init__(
        self,
        redis: Redis,
        authenticator: Authenticator,
        models: ModelDirectory,
        aliases: Aliases,
        fleet: Fleet,
        answers: LocalAnswers,
        questions: QuestionIndex,
        jobs: JobWatch,
    ) -> None:
        self._redis = redis
        self._aliases = aliases
        self._authenticator = authenticator
        self._models = models
        self._fleet = fleet
        self._answers = answers
        self._questions = questions
        self._jobs = jobs

    async def run(self) -> None:
        """Listens until cancelled. Where news may have been missed, all is looked up anew."""
        async for news in follow_news(self._redis):
            self._act_on(news)

    def _act_on(self, news: Invalidation | None) -> None:
        if news is None or news.kind in ("key", "tenant"):
            self._authenticator.forget()
        if news is None or news.kind == "model":
            self._models.refresh_soon()
        if news is None or news.kind == "alias":
            self._aliases.refresh_soon()
        if news is None or news.kind == "engine":
            self._fleet.look_soon()
        if news is None or news.kind == "job":
            self._jobs.look_soon(None if news is None else news.id)
        if news is None:
            self._answers.clear()
            self._questions.clear()
        elif news.kind == "cache":
            self._answers.forget(news.id)
            self._questions.forget(news.id)
