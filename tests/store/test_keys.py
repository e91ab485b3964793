import time

import pytest
from sqlalchemy import text

from store.database import Database
from store.keys import SECRET_PREFIX, KeyRepository

PEPPER = "p" * 32


@pytest.fixture
def keys(database: Database) -> KeyRepository:
    return KeyRepository(database, PEPPER)


def test_the_secret_is_found_again_and_stored_nowhere(keys: KeyRepository, database: Database) -> None:
    made = keys.create(tenant="acme", name="laptop", scopes=["inference"])
    assert made.secret.startswith(SECRET_PREFIX)
    assert keys.find_by_secret(made.secret) == made.key
    with database.session() as session:
        stored = repr(session.execute(text("SELECT * FROM api_keys")).all())
    assert made.secret not in stored
    assert made.secret.removeprefix(SECRET_PREFIX)[4:-4] not in stored


def test_a_wrong_secret_finds_nothing(keys: KeyRepository) -> None:
    made = keys.create(tenant="acme", name="laptop", scopes=["inference"])
    assert keys.find_by_secret(made.secret[:-1]) is None
    assert keys.find_by_secret("") is None


def test_another_pepper_knows_no_key(keys: KeyRepository, database: Database) -> None:
    secret = keys.create(tenant="acme", name="laptop", scopes=["inference"]).secret
    assert KeyRepository(database, "q" * 32).find_by_secret(secret) is None


def test_a_short_pepper_is_refused(database: Database) -> None:
    with pytest.raises(ValueError, match="FLYWHEEL_AUTH__PEPPER"):
        KeyRepository(database, "short")


def test_every_field_comes_back(keys: KeyRepository) -> None:
    expires_at = int(time.time()) + 60
    made = keys.create(
        tenant="acme",
        name="ci",
        scopes=["jobs", "inference"],
        models=["b", "a"],
        requests_per_minute=7,
        tokens_per_minute=900,
        expires_at=expires_at,
        semantic_cache=True,
    )
    found = keys.find_by_secret(made.secret)
    assert found is not None
    assert found.scopes == {"inference", "jobs"}
    assert found.models == {"a", "b"}
    assert (found.requests_per_minute, found.tokens_per_minute, found.expires_at) == (7, 900, expires_at)
    assert found.revoked_at is None
    assert found.semantic_cache
    assert made.secret.startswith(found.hint.split("…")[0])
    assert made.secret.endswith(found.hint.split("…")[1])


def test_a_revoked_key_is_still_found_and_says_when(keys: KeyRepository) -> None:
    made = keys.create(tenant="acme", name="laptop", scopes=["inference"])
    revoked = keys.revoke(made.key.id)
    assert revoked is not None
    assert revoked.revoked_at is not None
    assert keys.find_by_secret(made.secret) == revoked


def test_revoking_again_keeps_the_first_time(keys: KeyRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    made = keys.create(tenant="acme", name="laptop", scopes=["inference"])
    first = keys.revoke(made.key.id)
    monkeypatch.setattr(time, "time", lambda: 9_999_999_999.0)
    assert keys.revoke(made.key.id) == first


def test_revoking_an_unknown_key_says_so(keys: KeyRepository) -> None:
    assert keys.revoke("key_unknown") is None


def test_all_lists_every_tenants_keys(keys: KeyRepository) -> None:
    made = {keys.create(tenant=tenant, name="n", scopes=["admin"]).key.id for tenant in ("a", "b")}
    assert {key.id for key in keys.all()} == made
