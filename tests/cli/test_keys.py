"""`flywheel keys` on a real database and a real Valkey."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis.asyncio import Redis

from cli.home import PEPPER, Home
from contracts.guardrails import GuardrailPolicy
from contracts.invalidation import Invalidation
from store import redis_names
from store.database import Database
from store.keys import KeyRepository
from tests.cli.conftest import Flywheel


@pytest.fixture
def keys(database: Database, tmp_path: Path) -> KeyRepository:
    """The keys of the home that `flywheel` uses: both fixtures keep theirs in tmp_path/flywheel.db."""
    return KeyRepository(database, Home(tmp_path).secrets()[PEPPER])


def test_a_made_key_is_found_by_its_secret_with_all_that_was_asked_for(flywheel: Flywheel, keys: KeyRepository) -> None:
    options = ("--name", "ci", "--tenant", "acme", "--scope", "inference", "--model", "m", "--rpm", "5", "--tpm", "700")
    done = flywheel("keys", "create", *options, "--expires-in", "2h")
    key = keys.find_by_secret(done.stdout.strip())
    assert key is not None
    assert (key.name, key.tenant, key.scopes, key.models) == ("ci", "acme", {"inference"}, {"m"})
    assert (key.requests_per_minute, key.tokens_per_minute) == (5, 700)
    assert key.expires_at is not None
    assert 7100 < key.expires_at - time.time() <= 7200


def test_the_list_shows_ids_whole_and_secrets_not(flywheel: Flywheel, keys: KeyRepository) -> None:
    made = keys.create(tenant="acme", name="ci", scopes=["inference"])
    done = flywheel("keys", "list")
    assert made.key.id in done.stdout
    assert made.secret not in done.stdout


async def test_a_revoked_key_is_announced_to_gateways(
    flywheel: Flywheel, keys: KeyRepository, redis: "Redis", redis_url: str
) -> None:
    made = keys.create(tenant="acme", name="ci", scopes=["inference"])
    async with redis.pubsub(ignore_subscribe_messages=True) as news:
        await news.subscribe(redis_names.INVALIDATIONS)
        await news.get_message(timeout=1)
        done = await asyncio.to_thread(flywheel, "keys", "revoke", made.key.id, FLYWHEEL_REDIS_URL=redis_url)
        message: Any = await news.get_message(timeout=5)
    assert done.returncode == 0
    assert Invalidation.model_validate_json(message["data"]) == Invalidation(kind="key", id=made.key.id)
    revoked = keys.find_by_secret(made.secret)
    assert revoked is not None
    assert revoked.revoked_at is not None


def test_an_unknown_key_cannot_be_revoked(flywheel: Flywheel, keys: KeyRepository) -> None:
    done = flywheel("keys", "revoke", "key_none")
    assert (done.returncode, "There is no key `key_none`." in done.stderr) == (1, True)


def test_without_redis_a_key_is_revoked_all_the_same_and_the_delay_is_told(
    flywheel: Flywheel, keys: KeyRepository
) -> None:
    made = keys.create(tenant="acme", name="ci", scopes=["inference"])
    done = flywheel("keys", "revoke", made.key.id, FLYWHEEL_REDIS_URL="redis://127.0.0.1:1/0")
    assert (done.returncode, "30 s" in done.stderr) == (0, True)
    assert keys.all()[0].revoked_at is not None


def test_concurrency_and_budgets_are_kept_with_the_key(flywheel: Flywheel, keys: KeyRepository) -> None:
    budgets = ("--budget-tokens-day", "1000", "--budget-tokens-month", "20000", "--budget-money-day", "0.5")
    done = flywheel("keys", "create", "--concurrency", "4", *budgets, "--budget-money-month", "9")
    key = keys.find_by_secret(done.stdout.strip())
    assert key is not None
    assert (key.concurrency, key.tokens_per_day, key.tokens_per_month) == (4, 1000, 20_000)
    assert (key.money_per_day, key.money_per_month) == (0.5, 9.0)
    assert "4 at a time, 1,000 tokens/day" in flywheel("keys", "list").stdout


def test_a_tenants_limits_reach_its_keys_and_are_replaced_as_a_whole(flywheel: Flywheel, keys: KeyRepository) -> None:
    made = keys.create(tenant="acme", name="ci", scopes=["inference"])
    assert flywheel("tenants", "set", "acme", "--rpm", "60", "--budget-money-day", "2.5").returncode == 0
    assert "60 rpm, 2.5 money/day" in flywheel("tenants", "list").stdout
    limited = keys.find_by_secret(made.secret)
    flywheel("tenants", "set", "acme", "--concurrency", "2")
    replaced = keys.find_by_secret(made.secret)
    assert limited is not None
    assert replaced is not None
    assert (limited.tenant_limits.requests_per_minute, limited.tenant_limits.money_per_day) == (60, 2.5)
    assert replaced.tenant_limits.requests_per_minute is None
    assert replaced.tenant_limits.concurrency == 2


async def test_a_tenants_new_limits_are_announced_to_gateways(
    flywheel: Flywheel, keys: KeyRepository, redis: "Redis", redis_url: str
) -> None:
    async with redis.pubsub(ignore_subscribe_messages=True) as news:
        await news.subscribe(redis_names.INVALIDATIONS)
        await news.get_message(timeout=1)
        await asyncio.to_thread(flywheel, "tenants", "set", "acme", "--rpm", "5", FLYWHEEL_REDIS_URL=redis_url)
        message: Any = await news.get_message(timeout=5)
    assert Invalidation.model_validate_json(message["data"]) == Invalidation(kind="tenant", id="acme")


def test_a_key_opts_in_to_capture_when_it_is_made_or_later_and_out_again(
    flywheel: Flywheel, keys: KeyRepository
) -> None:
    secret = flywheel("keys", "create", "--capture", "0.25").stdout.strip()
    made = keys.find_by_secret(secret)
    assert made is not None
    assert "0.25" in flywheel("keys", "list").stdout
    flywheel("keys", "capture", made.id, "0.5")
    changed = keys.find_by_secret(secret)
    done = flywheel("keys", "capture", made.id, "0")
    ended = keys.find_by_secret(secret)
    unknown = flywheel("keys", "capture", "key_none", "1")

    assert changed is not None
    assert ended is not None
    assert (made.capture, changed.capture, ended.capture) == (0.25, 0.5, None)
    assert "nothing is captured" in done.stdout
    assert (unknown.returncode, "There is no key `key_none`." in unknown.stderr) == (1, True)


def test_a_semantic_cache_is_an_option_of_the_key(flywheel: Flywheel, keys: KeyRepository) -> None:
    asked = keys.find_by_secret(flywheel("keys", "create", "--semantic-cache").stdout.strip())
    plain = keys.find_by_secret(flywheel("keys", "create").stdout.strip())
    assert asked is not None
    assert plain is not None
    assert (asked.semantic_cache, plain.semantic_cache) == (True, False)
    listed = flywheel("keys", "list").stdout.splitlines()
    assert "semantic" in next(line for line in listed if asked.id in line)
    assert "exact" in next(line for line in listed if plain.id in line)


def test_guardrails_are_set_from_a_file_shown_and_cleared(
    flywheel: Flywheel, keys: KeyRepository, tmp_path: Path
) -> None:
    made = keys.create(tenant="acme", name="ci", scopes=["inference"]).key
    example = Path(__file__).parents[2] / "examples" / "guardrails.yaml"
    flywheel("keys", "guard", made.id, "--policy", str(example))
    guarded = keys.get(made.id)
    assert guarded is not None
    assert guarded.guardrails is not None
    assert guarded.guardrails.topics[0].name == "gambling"
    shown = flywheel("keys", "guard", made.id).stdout
    assert GuardrailPolicy.model_validate(yaml.safe_load(shown)) == guarded.guardrails
    flywheel("keys", "guard", made.id, "--clear")
    assert flywheel("keys", "guard", made.id).stdout == "none\n"
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("topics: [{name: a, patterns: ['(?=b)']}]")
    refused = flywheel("keys", "guard", made.id, "--policy", str(wrong))
    assert refused.returncode != 0
    assert "topics[0].patterns[0]" in refused.stderr
    wrong.write_text("injection: {threshold: 3}")
    assert "injection.threshold" in flywheel("keys", "guard", made.id, "--policy", str(wrong)).stderr
