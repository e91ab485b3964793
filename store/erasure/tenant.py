"""Erases a tenant, or a user of one."""

import time
from collections.abc import Callable, Iterable

from redis import Redis

from contracts.invalidation import Invalidation
from store import redis_names
from store.artifacts import ArtifactStore
from store.captures import CaptureRepository, hash_user
from store.database import Database
from store.erasure.answers import forget_models, forget_releases, forget_tenant
from store.erasure.report import Left, Report
from store.erasure.rows import Holdings, delete_rows, find_holdings
from store.jobs import JobRepository
from store.keys import KeyRepository

SETTLE_S = 5.0
"""Gateways refuse a revoked key within a second, and workers let go of a cancelled job within two."""


class Erasure:
    """Deletes from the artifact store, from SQL and from Redis, in this order, so that a second call ends what a first
    one could not. Raises RedisError, OSError and SQLAlchemyError where one of them is away.
    """

    def __init__(
        self,
        database: Database,
        artifacts: ArtifactStore,
        redis: Redis,
        *,
        pepper: str,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._database, self._artifacts, self._redis = database, artifacts, redis
        self._pepper, self._sleep = pepper, sleep

    def tenant(self, tenant: str) -> Report:
        """Revokes the tenant's keys, cancels its jobs, and deletes all that is kept of it.

        An answer that is under way is still captured at its end, if its key was captured: erase again after it.
        """
        self._redis.ping()
        self._stop(tenant, self._find(tenant))
        while (holdings := self._find(tenant)).active_jobs:  # one was made before its key was refused
            self._stop(tenant, holdings)
        for path in holdings.artifacts:
            self._artifacts.delete(path)
        with self._database.session() as session:
            erased = delete_rows(session, tenant, holdings)
        erased["entries in Redis"] = forget_tenant(self._redis, tenant)
        forget_models(self._redis, holdings.models)
        forget_releases(self._redis, holdings.releases)
        self._announce(Invalidation(kind="model", id=card.name) for card in holdings.models)
        self._announce([Invalidation(kind="cache", id=tenant), Invalidation(kind="alias", id="")])
        return Report(erased, tuple(_left_of_tenant(holdings)))

    def user(self, user: str, tenant: str) -> Report:
        """Deletes what is kept of a request's `user`: captures with their feedback, and the tenant's kept answers,
        which do not say who asked.
        """
        self._redis.ping()
        holdings = self._find(tenant)
        captures, feedback = CaptureRepository(self._database).erase(
            tenant=tenant, user_hash=hash_user(user, tenant, self._pepper)
        )
        entries = forget_tenant(self._redis, tenant)
        self._announce([Invalidation(kind="cache", id=tenant)])
        erased = {"captured answers": captures, "feedback": feedback, "entries in Redis": entries}
        return Report(erased, tuple(_left_of_user(holdings)))

    def _find(self, tenant: str) -> Holdings:
        with self._database.session() as session:
            return find_holdings(session, tenant)

    def _stop(self, tenant: str, holdings: Holdings) -> None:
        keys, jobs = KeyRepository(self._database, self._pepper), JobRepository(self._database)
        for key in holdings.keys:
            keys.revoke(key)
        for job in holdings.active_jobs:
            jobs.cancel(job, tenant=tenant)
        self._announce(Invalidation(kind="key", id=key) for key in holdings.keys)
        self._announce(Invalidation(kind="job", id=job) for job in holdings.active_jobs)
        if holdings.keys or holdings.active_jobs:
            self._sleep(SETTLE_S)

    def _announce(self, news: Iterable[Invalidation]) -> None:
        for each in news:
            self._redis.publish(redis_names.INVALIDATIONS, each.model_dump_json())


def _left_of_tenant(holdings: Holdings) -> Iterable[Left]:
    for model, reason in holdings.needed.items():
        yield Left(f"the model `{model}` and its weights", f"{reason}; end that, and erase again")
    for release in holdings.shared_releases:
        yield Left(f"the release `{release}`", "it is one of an alias that others use, and names the tenant")
    for card in holdings.models:
        folder = card.digest.replace(":", "-")
        yield Left(
            f"copies of `{card.name}` on disks of engines that do not run",
            f"those that run delete theirs; elsewhere delete `{folder}` below FLYWHEEL_ENGINE__WEIGHTS_DIR",
        )
    yield _BACKUPS
    yield _TELEMETRY


def _left_of_user(holdings: Holdings) -> Iterable[Left]:
    files = sum(path.startswith("files/") for path in holdings.artifacts)
    if files or holdings.models:
        yield Left(
            f"{files} files and {len(holdings.models)} models of the tenant",
            "nothing tells which of them were made from captured answers",
        )
    yield _BACKUPS
    yield _TELEMETRY


_BACKUPS = Left("backups", "they are as old as they are; erase again after restoring one, or delete them")
_TELEMETRY = Left("logs, traces and metrics", "they name tenants and keys, and never hold prompts or answers")
