"""The disaster drill: everything is lost but a backup and the pepper, and then found again; and a tenant's erasure."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from redis import Redis

from contracts.identifiers import new_id
from contracts.models import ModelCard
from store import redis_names
from store.artifacts import ArtifactStore
from store.database import Database
from store.models import ModelRepository
from tests.cli.conftest import Flywheel
from tests.conftest import LeaseGiver
from tests.fake_engine.process import FakeEngineProcess
from tests.gateway.conftest import CHAT, MODEL, chat_body, model_card, wait_until
from tests.gateway_process import PEPPER, GatewayProcess
from tests.postgres_process import PostgresProcess
from tests.s3_server import BUCKET
from tests.tenant_data import ROWS, TenantData, make_tenant_data

StartGateway = Callable[..., GatewayProcess]


@pytest.fixture
def stack_settings(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> Iterator[dict[str, str]]:
    settings = {
        "FLYWHEEL_REDIS_URL": redis_url,
        "FLYWHEEL_ARTIFACTS_URL": f"file://{tmp_path}/artifacts",
        "FLYWHEEL_AUTH__PEPPER": PEPPER,
    }
    if getattr(request, "param", "local") == "local":
        yield settings | {"FLYWHEEL_DATABASE_URL": f"sqlite:///{tmp_path}/flywheel.db"}
        return
    request.getfixturevalue("s3")
    postgres: PostgresProcess = request.getfixturevalue("postgres")
    with postgres.new_database() as url:
        artifacts = f"s3://{BUCKET}/{new_id('test')}/artifacts"
        yield settings | {"FLYWHEEL_DATABASE_URL": url, "FLYWHEEL_ARTIFACTS_URL": artifacts}


@pytest.fixture
def data(stack_settings: dict[str, str], tmp_path: Path) -> TenantData:
    database = Database(stack_settings["FLYWHEEL_DATABASE_URL"])
    database.migrate()
    ModelRepository(database).put(model_card())
    artifacts = ArtifactStore(stack_settings["FLYWHEEL_ARTIFACTS_URL"])
    made = make_tenant_data(database, artifacts, tmp_path / "made", tenant="acme", pepper=PEPPER)
    database.dispose()
    return made


def client_of(gateway: GatewayProcess, data: TenantData) -> httpx.Client:
    return httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {data.key.secret}"}, timeout=15)


def what_the_tenant_sees(client: httpx.Client, data: TenantData) -> dict[str, object]:
    of_model, of_job = (f"/v1/fine_tuning/jobs/{job}" for job in (data.model.job, data.job.id))
    flywheel = [f"/v1/flywheel/{name}" for name in ("captures", "aliases", "releases")]
    lists = ["/v1/files", "/v1/fine_tuning/jobs", f"{of_model}/events", f"{of_job}/checkpoints", *flywheel]
    seen: dict[str, object] = {path: client.get(path).raise_for_status().json() for path in lists}
    model = client.get(f"/v1/models/{data.model.name}").raise_for_status().json()
    seen["model"] = (model["digest"], model["metrics"], model["job"])
    seen["file"] = client.get(f"/v1/files/{data.file.id}/content").raise_for_status().content
    return seen


def lose_everything(settings: dict[str, str], tmp_path: Path, redis_url: str) -> None:
    database = Database(settings["FLYWHEEL_DATABASE_URL"])
    database.migrate_down("base")
    database.dispose()
    if settings["FLYWHEEL_DATABASE_URL"].startswith("sqlite"):
        for file in tmp_path.glob("flywheel.db*"):
            file.unlink()
    parent, _, folder = settings["FLYWHEEL_ARTIFACTS_URL"].rpartition("/")
    ArtifactStore(parent).delete(folder)
    with Redis.from_url(redis_url) as redis:
        redis.flushall()


@pytest.mark.parametrize("stack_settings", ["production"], indirect=True, ids=["PostgreSQL and S3"])
def test_a_stack_that_lost_everything_answers_from_its_backup(
    stack_settings: dict[str, str],
    data: TenantData,
    start_gateway: StartGateway,
    fake_engine: FakeEngineProcess,
    lease: LeaseGiver,
    flywheel: Flywheel,
    tmp_path: Path,
    redis_url: str,
) -> None:
    gateway = start_gateway(**stack_settings)
    with client_of(gateway, data) as client:
        before = what_the_tenant_sees(client, data)
    place = f"s3://{BUCKET}/{new_id('test')}/backup"
    made = flywheel("backup", place, **stack_settings)
    gateway.stop()
    lose_everything(stack_settings, tmp_path, redis_url)

    restored = flywheel("restore", place, **stack_settings)

    assert (made.returncode, restored.returncode) == (0, 0), made.stderr + restored.stderr
    assert " 4 artifacts, " in restored.stdout
    gateway = start_gateway(**stack_settings)
    load = {"lora_name": data.model.name, "lora_path": "/nowhere"}
    httpx.post(f"{fake_engine.url}/v1/load_lora_adapter", json=load).raise_for_status()
    lease(fake_engine, model=MODEL, adapters=(data.model.name,))
    with client_of(gateway, data) as client:
        after = what_the_tenant_sees(client, data)
        wait_until(lambda: client.get(f"/v1/models/{data.model.name}").json()["state"] == "live")
        answers = [client.post(CHAT, json=chat_body(model=model)) for model in (MODEL, data.model.name)]
        rated = client.post("/v1/feedback", json={"response_id": answers[0].json()["id"], "rating": "up"})
    assert after == before
    assert after["file"] == ROWS
    assert [answer.status_code for answer in (*answers, rated)] == [200, 200, 200]


def test_what_cannot_be_restored_is_said_in_a_line(
    stack_settings: dict[str, str], data: TenantData, flywheel: Flywheel, tmp_path: Path
) -> None:
    nothing = flywheel("restore", f"{tmp_path}/nothing", **stack_settings)
    made = flywheel("backup", f"{tmp_path}/backup", **stack_settings)
    over = flywheel("restore", f"{tmp_path}/backup", **stack_settings)
    elsewhere = stack_settings | {"FLYWHEEL_DATABASE_URL": f"sqlite:///{tmp_path}/new.db"}
    pepper = flywheel("restore", f"{tmp_path}/backup", **elsewhere | {"FLYWHEEL_AUTH__PEPPER": PEPPER[::-1]})

    assert "no key is good without it" in made.stdout
    assert (nothing.returncode, over.returncode, pepper.returncode) == (1, 1, 0)
    assert "There is no complete backup." in nothing.stderr
    assert "The database is not empty" in over.stderr
    assert "none of its keys is good" in pepper.stderr


@pytest.mark.parametrize("stack_settings", ["production"], indirect=True, ids=["PostgreSQL and S3"])
def test_a_bucket_that_is_not_reached_is_said_in_a_line(
    stack_settings: dict[str, str], data: TenantData, flywheel: Flywheel, tmp_path: Path
) -> None:
    place = f"s3://{BUCKET}/{new_id('test')}/backup"
    made = flywheel("backup", place, **stack_settings)
    away = stack_settings | {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}
    empty = away | {"FLYWHEEL_DATABASE_URL": f"sqlite:///{tmp_path}/new.db"}
    misspelt = {
        "FLYWHEEL_DATABASE_URL": f"sqlite:///{tmp_path}/other.db",
        "FLYWHEEL_ARTIFACTS_URL": "s3://misspelt/artifacts",
    }

    refused = [
        flywheel("backup", f"{place}-2", **away),
        flywheel("restore", place, **empty),
        flywheel("tenants", "erase", "acme", "--yes", **away),
        flywheel("backup", "s3://misspelt/backup", **stack_settings),
        flywheel("restore", place, **stack_settings | misspelt),
    ]

    assert made.returncode == 0
    assert [done.returncode for done in refused] == [1, 1, 1, 1, 1]
    assert all("Traceback" not in done.stderr for done in refused)
    assert all("127.0.0.1:9" in done.stderr for done in refused[:3])
    assert all("bucket does not exist" in done.stderr for done in refused[3:])
    assert data.tenant in flywheel("tenants", "list", **stack_settings).stdout


def test_an_erased_tenant_is_refused_and_told_what_is_left(
    stack_settings: dict[str, str],
    data: TenantData,
    start_gateway: StartGateway,
    fake_engine: FakeEngineProcess,
    lease: LeaseGiver,
    flywheel: Flywheel,
    redis_url: str,
) -> None:
    gateway, redis = start_gateway(**stack_settings), Redis.from_url(redis_url)
    lease(fake_engine, model=MODEL)
    with client_of(gateway, data) as client:
        wait_until(lambda: client.get(f"/v1/models/{MODEL}").json()["state"] == "live")
        asked = [client.post(CHAT, json=chat_body(temperature=0))]
        wait_until(lambda: redis.exists(redis_names.cache_uses(data.tenant)))
        asked.append(client.post(CHAT, json=chat_body(temperature=0)))
        of_user = flywheel("tenants", "erase", "acme", "--user", data.user, "--yes", **stack_settings)
        again = client.post(CHAT, json=chat_body(temperature=0))
        whole = flywheel("tenants", "erase", "acme", "--yes", **stack_settings)
        after = client.post(CHAT, json=chat_body(temperature=0))

    assert [answer.headers["x-flywheel-cache"] for answer in (*asked, again)] == ["miss", "hit", "miss"]
    assert "1 captured answers erased" in of_user.stdout
    assert after.status_code == 401
    assert "1 files erased" in whole.stdout
    assert "backups: " in whole.stdout
    assert data.model.digest.replace(":", "-") in whole.stdout


def test_nothing_is_erased_while_redis_is_away(
    stack_settings: dict[str, str], data: TenantData, flywheel: Flywheel
) -> None:
    away = stack_settings | {"FLYWHEEL_REDIS_URL": "redis://127.0.0.1:1/0"}
    done = flywheel("tenants", "erase", "acme", "--yes", **away)
    database = Database(stack_settings["FLYWHEEL_DATABASE_URL"])
    kept: ModelCard | None = ModelRepository(database).get(data.model.name)
    database.dispose()
    assert (done.returncode, "Redis is not reached" in done.stderr) == (1, True)
    assert kept is not None
