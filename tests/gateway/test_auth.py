"""Who may call: keys, scopes, revocation, and the guard against guessing."""

import time
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from contracts.errors import ServiceUnavailable
from contracts.invalidation import Invalidation
from gateway.auth.address import AddressGuard, create_edge_limiter
from gateway.auth.keys import Authenticator
from store import redis_names
from store.database import Database
from store.keys import KeyRepository, NewApiKey
from tests.gateway.conftest import CHAT, MODEL, Serving, chat_body, model_card, wait_until
from tests.gateway_process import GatewayProcess


def post_chat(gateway: GatewayProcess, authorization: str | None) -> httpx.Response:
    headers = {} if authorization is None else {"authorization": authorization}
    return httpx.post(gateway.url + CHAT, json=chat_body(), headers=headers)


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "missing_api_key"),
        ("", "missing_api_key"),
        ("Bearer sk-fw-this-key-never-existed", "invalid_api_key"),
        ("Bearer not-of-ours", "invalid_api_key"),
        ("Basic dXNlcjpwYXNz", "invalid_api_key"),
        ("Bearer sk-fw-" + "x" * 10_000, "invalid_api_key"),
    ],
)
def test_without_a_valid_key_nothing_is_answered(serving: Serving, authorization: str | None, code: str):
    answer = post_chat(serving.gateway, authorization)

    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"]["type"] == "authentication_error"
    assert serving.engine.requests() == []


def test_a_key_without_the_scope_is_refused(serving: Serving):
    jobs_only = serving.gateway.new_key(scopes=["jobs"])
    inference_only = serving.gateway.new_key(scopes=["inference"])

    refused = post_chat(serving.gateway, f"Bearer {jobs_only.secret}")
    files = httpx.get(f"{serving.gateway.base_url}/files", headers={"authorization": f"Bearer {inference_only.secret}"})

    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_permissions")
    assert (files.status_code, files.json()["error"]["code"]) == (403, "insufficient_permissions")


def test_a_revoked_key_is_refused_within_a_second_on_a_gateway_that_knew_it(serving: Serving, redis_sync):
    key = serving.gateway.new_key()
    assert post_chat(serving.gateway, f"Bearer {key.secret}").status_code == 200

    serving.gateway.keys.revoke(key.key.id)
    redis_sync.publish(redis_names.INVALIDATIONS, Invalidation(kind="key", id=key.key.id).model_dump_json())

    wait_until(lambda: post_chat(serving.gateway, f"Bearer {key.secret}").status_code == 401, timeout_s=1)
    assert "revoked" in post_chat(serving.gateway, f"Bearer {key.secret}").json()["error"]["message"]


async def test_while_sql_is_away_known_keys_stay_known(tmp_path: Path):
    database = Database(f"sqlite:///{tmp_path}/flywheel.db")
    database.migrate()
    keys = KeyRepository(database, "p" * 32)
    known, unknown = (keys.create(tenant="acme", name=name, scopes=["inference"]) for name in ("known", "unknown"))
    guard = AddressGuard(create_edge_limiter(), failures_per_minute=60)
    authenticator = Authenticator(keys, guard, key_cache_s=0)

    async def asked_with(key: NewApiKey) -> str:
        found = await authenticator.authenticate(
            f"Bearer {key.secret}", address=lambda: "192.0.2.1", scopes=["inference"]
        )
        return found.id

    await asked_with(known)
    with database.session() as session:
        session.execute(text("DROP TABLE api_keys"))

    assert await asked_with(known) == known.key.id
    with pytest.raises(ServiceUnavailable):
        await asked_with(unknown)
    database.dispose()


def test_an_expired_key_is_refused(serving: Serving):
    key = serving.gateway.new_key(expires_at=int(time.time()) - 1)

    answer = post_chat(serving.gateway, f"Bearer {key.secret}")

    assert answer.status_code == 401
    assert "expired" in answer.json()["error"]["message"]


def test_a_key_sees_and_uses_only_the_models_of_its_list_and_its_tenant(serving: Serving, redis_sync):
    serving.register(redis_sync, model_card("other-model"), model_card("ft:private", tenant="someone-else"))
    wait_until(lambda: "other-model" in serving.models())
    key = serving.gateway.new_key(models=[MODEL])
    headers = {"authorization": f"Bearer {key.secret}"}

    listed = httpx.get(f"{serving.gateway.base_url}/models", headers=headers).json()["data"]
    other = httpx.post(serving.gateway.url + CHAT, json=chat_body(model="other-model"), headers=headers)

    assert [model["id"] for model in listed] == [MODEL]
    assert (other.status_code, other.json()["error"]["code"]) == (404, "model_not_found")
    assert "ft:private" not in serving.models()


@pytest.mark.parametrize("gateway", [{"FLYWHEEL_AUTH__FAILURES_PER_MINUTE": "5"}], indirect=True)
def test_an_address_that_guesses_is_slowed_down_and_its_neighbours_are_not(serving: Serving):
    known, unseen = serving.gateway.new_key(), serving.gateway.new_key()
    assert post_chat(serving.gateway, f"Bearer {known.secret}").status_code == 200
    for attempt in range(5):
        assert post_chat(serving.gateway, f"Bearer sk-fw-guess-{attempt}").status_code == 401

    guessed_right = post_chat(serving.gateway, f"Bearer {unseen.secret}")
    neighbour = post_chat(serving.gateway, f"Bearer {known.secret}")

    assert guessed_right.status_code == 429
    assert int(guessed_right.headers["retry-after"]) > 0
    assert neighbour.status_code == 200


@pytest.mark.parametrize("gateway", [{"FLYWHEEL_LIMITS__EDGE_REQUESTS_PER_MINUTE": "50"}], indirect=True)
def test_routes_without_a_key_are_limited_by_address(gateway: GatewayProcess):
    statuses = [httpx.get(f"{gateway.url}/metrics").status_code for _ in range(55)]

    assert statuses[0] == 200
    assert statuses[-1] == 429
    assert httpx.get(f"{gateway.url}/metrics").json()["error"]["code"] == "rate_limit_exceeded"
