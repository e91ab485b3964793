"""What is left of a tenant, or of a user, after an erasure: nothing, but for what is told."""

import io
import time
from pathlib import Path

import pytest
from redis import Redis

from contracts.invalidation import Invalidation
from contracts.models import ModelCard
from store import redis_names
from store.aliases import AliasRepository
from store.artifacts import ArtifactStore
from store.captures import CaptureRepository
from store.database import Database
from store.erasure.tenant import Erasure
from store.models import ModelRepository
from tests.gateway_process import PEPPER
from tests.tenant_data import BASE, TenantData, make_tenant_data, rows_of

NEIGHBOUR = "acme*"
"""Its name is a pattern that fits the other's, and the other way round."""


@pytest.fixture
def tenants(database: Database, artifacts: ArtifactStore, tmp_path: Path, client: Redis) -> list[TenantData]:
    made = [
        make_tenant_data(database, artifacts, tmp_path / "made", tenant=tenant, pepper=PEPPER)
        for tenant in ("acme", NEIGHBOUR)
    ]
    for data in made:
        client.set(redis_names.cached_answer(data.tenant, "digest"), "an answer")
        client.set(redis_names.buckets(data.tenant, data.key.key.id), "state")
        client.zadd(redis_names.adapter_uses(BASE), {data.model.name: time.time()})
    return made


@pytest.fixture
def client(redis_url: str):
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def erasure(database: Database, artifacts: ArtifactStore, client: Redis) -> Erasure:
    return Erasure(database, artifacts, client, pepper=PEPPER, sleep=lambda _: None)


def traces(tenant: TenantData, database_url: str, client: Redis, artifacts: ArtifactStore) -> set[str]:
    """Where something still names the tenant or what was its own. Other tenants' names are taken out first."""
    rows = [f"{table}: {row}" for table, found in rows_of(database_url).items() for row in found]
    names = [name.decode() for name in client.keys("*")]
    names += [member.decode() for member in client.zrange(redis_names.adapter_uses(BASE), 0, -1)]
    found = [text.replace(NEIGHBOUR, "") for text in (*rows, *names, *artifacts.files(""))]
    return {text for text in found for secret in tenant.secrets_of() if secret in text}


def test_nothing_of_an_erased_tenant_is_found_and_everything_of_another(
    erasure: Erasure,
    tenants: list[TenantData],
    empty_database_url: str,
    database: Database,
    artifacts: ArtifactStore,
    client: Redis,
) -> None:
    erased, kept = tenants
    before = [row for rows in rows_of(empty_database_url).values() for row in rows if NEIGHBOUR in row]
    files_before = len(artifacts.files(""))
    assert traces(erased, empty_database_url, client, artifacts)

    report = erasure.tenant(erased.tenant)

    assert traces(erased, empty_database_url, client, artifacts) == {redis_names.cache_epoch(erased.tenant)}
    assert [row for rows in rows_of(empty_database_url).values() for row in rows if NEIGHBOUR in row] == before
    assert len(artifacts.files("")) == files_before / 2
    assert client.get(redis_names.cached_answer(kept.tenant, "digest")) == b"an answer"
    assert report.erased == {
        "captured answers": 2,
        "feedback": 2,
        "evaluations": 1,
        "files": 1,
        "uploads": 1,
        "models": 1,
        "jobs": 3,
        "releases": 1,
        "aliases": 1,
        "keys": 1,
        "limits": 1,
        "entries in Redis": 2,
    }
    assert any(erased.model.digest.replace(":", "-") in left.why for left in report.left)
    again = erasure.tenant(erased.tenant)
    assert sum(again.erased.values()) == 0


def test_services_hear_of_it(erasure: Erasure, tenants: list[TenantData], client: Redis) -> None:
    """Gateways forget the key and kept answers, workers let go of the job, engines unload the model."""
    data = tenants[0]
    with client.pubsub(ignore_subscribe_messages=True) as news:
        news.subscribe(redis_names.INVALIDATIONS)
        news.get_message(timeout=1)
        erasure.tenant(data.tenant)
        heard = set()
        while (message := news.get_message(timeout=0.5)) is not None:
            heard.add(Invalidation.model_validate_json(message["data"]))
    assert heard >= {
        Invalidation(kind="key", id=data.key.key.id),
        Invalidation(kind="job", id=data.job.id),
        Invalidation(kind="model", id=data.model.name),
        Invalidation(kind="cache", id=data.tenant),
    }


def test_an_answer_that_is_generated_meanwhile_is_not_kept(
    erasure: Erasure, tenants: list[TenantData], client: Redis
) -> None:
    """It may only be kept under the epoch in which it began (gateway/cache/scripts/keep.lua)."""
    began = client.get(redis_names.cache_epoch("acme"))
    erasure.tenant("acme")
    assert client.get(redis_names.cache_epoch("acme")) != began


def test_a_model_that_others_use_stays_and_is_told(
    erasure: Erasure, tenants: list[TenantData], database: Database, artifacts: ArtifactStore
) -> None:
    """And so does the one that it was made from."""
    data = tenants[0]
    child = ModelCard.model_validate(
        data.model.model_dump()
        | {"name": f"{data.model.name}:child", "parent": data.model.name, "weights": "models/c/1"}
    )
    artifacts.write("models/c/1/adapter_model.safetensors", io.BytesIO(b"weights"))
    ModelRepository(database).put(child)
    AliasRepository(database).create("everyones", owner=None, model=child.name)

    report = erasure.tenant(data.tenant)

    kept = {card.name for card in ModelRepository(database).all()}
    assert {data.model.name, child.name} <= kept
    assert artifacts.files("models/c/1") != []
    assert artifacts.files(data.model.weights) != []
    assert sum("and its weights" in left.what for left in report.left) == 2
    AliasRepository(database).delete("everyones", owner=None)
    assert erasure.tenant(data.tenant).erased["models"] == 2
    assert artifacts.files("models/c/1") == []


def test_of_a_user_captures_with_their_feedback_go_and_the_tenants_kept_answers(
    erasure: Erasure, tenants: list[TenantData], database: Database, client: Redis, artifacts: ArtifactStore
) -> None:
    data = tenants[0]
    report = erasure.user(data.user, data.tenant)

    left = CaptureRepository(database).page(tenant=data.tenant)
    assert report.erased == {"captured answers": 1, "feedback": 1, "entries in Redis": 2}
    assert [judged.feedback is not None for judged in left] == [True]
    assert client.get(redis_names.cached_answer(data.tenant, "digest")) is None
    assert client.get(redis_names.cached_answer(NEIGHBOUR, "digest")) == b"an answer"
    assert "1 files and 1 models of the tenant" in {left.what for left in report.left}
    assert b"".join(artifacts.read(data.file.artifact)) != b""
    assert erasure.user(data.user, data.tenant).erased["captured answers"] == 0
