"""What each limit refuses and how, and OpenAI's headers that tell how a key stands."""

import struct
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis import Redis

import gateway.limits
from contracts.errors import RateLimitExceeded
from contracts.limits import Limits
from gateway.limits.headers import format_duration
from store import redis_names
from tests.gateway.admission import TENANT, admission_control, api_key, leases, spent

DAY_S = 86_400
SMALL = {
    "requests_per_minute": 2,
    "tokens_per_minute": 200,
    "concurrency": 2,
    "tokens_per_day": 200,
    "tokens_per_month": 200,
    "money_per_day": 200 * 2e-6,
    "money_per_month": 200 * 2e-6,
}
"""Each lets through two requests of 100 tokens, and no third."""


def limited_by(owner: str, limit: str) -> "tuple[object, dict[str, str]]":
    limits = {limit: SMALL[limit]}
    return api_key(**limits) if owner == "key" else api_key(tenant=Limits(**limits))


@pytest.mark.parametrize("owner", ["key", "tenant"])
@pytest.mark.parametrize(
    ("limit", "code", "told"),
    [
        ("requests_per_minute", "rate_limit_exceeded", "2 requests per minute"),
        ("tokens_per_minute", "rate_limit_exceeded", "200 tokens per minute"),
        ("concurrency", "rate_limit_exceeded", "2 requests at a time"),
        ("tokens_per_day", "insufficient_quota", "200 tokens a day"),
        ("tokens_per_month", "insufficient_quota", "200 tokens a month"),
        ("money_per_day", "insufficient_quota", "0.0004 a day"),
        ("money_per_month", "insufficient_quota", "0.0004 a month"),
    ],
)
async def test_each_limit_refuses_in_openais_shape(redis_url: str, owner: str, limit: str, code: str, told: str):
    key = limited_by(owner, limit)
    async with admission_control(redis_url) as control:
        for _ in range(2):
            await control.admit(key, 100)
        with pytest.raises(RateLimitExceeded) as refused:
            await control.admit(key, 100)

    error, headers = refused.value, refused.value.headers()
    assert (error.status, error.code) == (429, code)
    assert error.type == ("insufficient_quota" if code == "insufficient_quota" else "rate_limit_error")
    assert told in error.message
    assert f"the {owner}" in error.message
    assert int(headers["x-ratelimit-remaining-requests"]) >= 0
    assert headers.get("x-should-retry") == ("false" if code == "insufficient_quota" else None)
    assert 1 <= int(headers["retry-after"]) <= longest_wait_s(limit)


def longest_wait_s(limit: str) -> float:
    now = datetime.now(UTC)
    next_month = (now.replace(day=1) + timedelta(days=32)).replace(day=1)
    if limit.endswith("_month"):
        return (next_month - now).total_seconds() + 1
    if limit.endswith("_day"):
        return DAY_S - time.time() % DAY_S + 1
    return 30 if limit == "tokens_per_minute" else 60


@pytest.mark.parametrize("owner", ["key", "tenant"])
@pytest.mark.parametrize("limit", SMALL)
async def test_a_refused_request_takes_nothing(redis_url: str, owner: str, limit: str):
    everything = {**dict.fromkeys(SMALL, 1000), limit: SMALL[limit]}
    rest = dict.fromkeys(SMALL, 1000)
    key = api_key(**(everything if owner == "key" else rest), tenant=Limits(**(rest if owner == "key" else everything)))
    async with admission_control(redis_url) as control:
        for _ in range(2):
            await control.admit(key, 100)
        before = standing(redis_url)
        with pytest.raises(RateLimitExceeded):
            await control.admit(key, 100)

    assert standing(redis_url) == before


def standing(redis_url: str) -> list[object]:
    """Everything that is counted."""
    counted = []
    with Redis.from_url(redis_url) as redis:
        for owner in ("key", ""):
            counted += [
                redis.get(redis_names.buckets(TENANT, owner)),
                *spent(redis_url, owner),
                leases(redis_url, owner),
            ]
    return counted


async def test_the_headers_tell_of_the_tenant_where_it_has_less_left(redis_url: str):
    key = api_key(requests_per_minute=100, tokens_per_minute=500, tenant=Limits(requests_per_minute=50))
    async with admission_control(redis_url) as control:
        headers = dict((await control.admit(key, 100)).headers)

    assert headers[b"x-ratelimit-limit-requests"] == b"50"
    assert headers[b"x-ratelimit-remaining-requests"] == b"49"
    assert headers[b"x-ratelimit-reset-requests"] == b"1.2s"
    assert headers[b"x-ratelimit-limit-tokens"] == b"500"
    assert headers[b"x-ratelimit-remaining-tokens"] == b"400"
    assert headers[b"x-ratelimit-reset-tokens"] == b"12s"


async def test_the_keys_of_a_tenant_share_its_limits(redis_url: str):
    shared = Limits(requests_per_minute=3)
    async with admission_control(redis_url) as control:
        for name in ("one", "two", "one"):
            await control.admit(api_key(name, tenant=shared))
        with pytest.raises(RateLimitExceeded):
            await control.admit(api_key("two", tenant=shared))


async def test_a_kept_answer_costs_a_request_and_nothing_else(redis_url: str):
    key = api_key(requests_per_minute=3, concurrency=1, tokens_per_day=100)
    with Redis.from_url(redis_url) as redis:
        redis.set(redis_names.cached_answer(TENANT, "digest"), "kept")
    async with admission_control(redis_url) as control:
        await control.run(key, 100, used=100)  # the day's budget is used up
        hits = [await control.admit(key, 100, digest="digest") for _ in range(2)]
        with pytest.raises(RateLimitExceeded, match="3 requests per minute"):
            await control.admit(key, 100, digest="digest")

    assert [hit.cached for hit in hits] == [b"kept", b"kept"]
    assert spent(redis_url)[0] == 100
    assert leases(redis_url) == 0


async def test_budgets_are_charged_with_what_was_used_to_the_last_token(redis_url: str):
    budgets = {"tokens_per_day": 1000, "money_per_month": 1.0}
    key = api_key(**budgets, tenant=Limits(**budgets))
    async with admission_control(redis_url) as control:
        for used in (7, 0, 100, None):
            await control.run(key, 100, used=used)

    for owner in ("key", ""):
        assert spent(redis_url, owner) == (207, 207 * 2000, 207, 207 * 2000)


async def test_a_new_day_and_a_new_month_start_at_nothing(redis_url: str):
    key = api_key(tokens_per_day=100, tokens_per_month=1000)
    async with admission_control(redis_url) as control:
        await control.run(key, 100, used=100)
        with pytest.raises(RateLimitExceeded, match="100 tokens a day"):
            await control.admit(key, 100)
        move(redis_url, days=-1)
        await control.run(key, 100, used=100)
        assert spent(redis_url)[:3:2] == (100, 200)
        move(redis_url, days=-1, months=-1)
        await control.admit(key, 100)

    assert spent(redis_url)[:3:2] == (100, 100)


async def test_what_is_settled_on_a_later_day_does_not_touch_that_day(redis_url: str):
    key = api_key(tokens_per_day=1000)
    async with admission_control(redis_url) as control:
        yesterdays = await control.admit(key, 100)
        yesterdays.admitted_ms -= DAY_S * 1000
        control.settle(yesterdays, 1)

    assert spent(redis_url)[0] == 100


def move(redis_url: str, *, days: int, months: int = 0) -> None:
    """Makes what was counted today that of another day and month."""
    with Redis.from_url(redis_url) as redis:
        name = redis_names.budgets(TENANT, "key")
        day, day_tokens, day_nanos, month, month_tokens, month_nanos = struct.unpack("<6d", redis.get(name))
        redis.set(
            name, struct.pack("<6d", day + days, day_tokens, day_nanos, month + months, month_tokens, month_nanos)
        )


def test_months_turn_on_the_first_for_a_century(redis_url: str):
    script = (Path(gateway.limits.__file__).parent / "budgets.lua").read_text()
    count = """
      local months = {}
      for day = tonumber(ARGV[1]), tonumber(ARGV[2]) do months[#months + 1] = month_of(day) end
      return months"""
    first = datetime(2000, 1, 1, tzinfo=UTC)
    days = [first + timedelta(days=number) for number in range(36_525)]
    with Redis.from_url(redis_url) as redis:
        number = int(first.timestamp()) // DAY_S
        months = redis.eval("local floor = math.floor\n" + script + count, 0, number, number + len(days) - 1)

    turned = {day for day, before, month in zip(days[1:], months, months[1:], strict=False) if month != before}
    assert turned == {day for day in days[1:] if day.day == 1}
    assert months[-1] - months[0] == 100 * 12 - 1


async def test_leases_end_with_their_requests(redis_url: str):
    key = api_key(concurrency=2, tenant=Limits(concurrency=1))
    async with admission_control(redis_url) as control:
        for _ in range(5):
            await control.run(key, 1, used=1)
            assert (leases(redis_url), leases(redis_url, "")) == (0, 0)
        await control.admit(key, 1)
        assert (leases(redis_url), leases(redis_url, "")) == (1, 1)


async def test_a_key_without_concurrency_and_budgets_leaves_no_trace_of_them(redis_url: str):
    async with admission_control(redis_url) as control:
        await control.run(api_key(), 100, used=10)

    with Redis.from_url(redis_url) as redis:
        assert redis.keys("flywheel:*") == [redis_names.buckets(TENANT, "key").encode()]


@pytest.mark.parametrize(("milliseconds", "text"), [(0, b"0ms"), (120, b"120ms"), (7500, b"7.5s"), (72_000, b"1m12s")])
def test_durations_are_written_as_openai_writes_them(milliseconds: int, text: bytes):
    assert format_duration(milliseconds) == text
