"""Permits taken ahead of the requests: fewer round trips, and the same bound."""

import asyncio
import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from contracts.keys import ApiKey
from contracts.limits import Limits
from gateway.limits.plan import PERMIT_REQUESTS, PERMIT_S, PERMIT_TOKENS, Rates
from store import redis_names
from tests.gateway.admission import TENANT, Control, admission_control, api_key
from tests.gateway.test_token_buckets import START_S, exceeds, run_on_a_clock

RATES = Rates(PERMIT_REQUESTS, PERMIT_TOKENS)
LIMITS = struct.pack("<6d", RATES.requests_per_minute, RATES.tokens_per_minute, RATES.burst, 0, 0, 0)
GENEROUS = {"requests_per_minute": PERMIT_REQUESTS, "tokens_per_minute": PERMIT_TOKENS}
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.sampled_from([0.01, 0.2, 0.45, 1, 10, 30, 70])),
        st.tuples(st.just("admit"), st.sampled_from([1, 3000])),
        st.tuples(st.just("take"), st.sampled_from([10, 500, 2000, 2975])),
        st.tuples(st.just("use"), st.sampled_from([1, 500, 2975])),
        st.tuples(st.just("settle"), st.sampled_from([0.0, 0.3, 1.0])),
    ),
    min_size=30,
    max_size=60,
)
TOKENS = 100
"""Of each request."""


class Gateways:
    """What the gateways do with a key's buckets, as the scripts are but for the clock; permits are used at any time."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._now_s = float(START_S)
        self._permits: list[list[float]] = []
        self._in_flight: list[tuple[int, int]] = []
        self.requests: list[tuple[float, int]] = []
        self.tokens: list[tuple[float, int]] = []

    def wait(self, seconds: float) -> None:
        self._now_s += seconds

    def admit(self, requests: int) -> None:
        """One by one; many are as good as as many permits that are used at once."""
        if requests == 1:
            refused_by, _, now_ms, *_ = self._run("admit", TOKENS, 0, "", "")
            if not refused_by:
                self._begin(1, now_ms)
        else:
            self.take(requests)
            self.use(requests)

    def take(self, requests: int) -> None:
        given, now_ms, *_ = self._run("lease", requests, TOKENS * requests)
        if given:
            self._permits.append([self._now_s + PERMIT_S, requests, now_ms])

    def use(self, requests: int) -> None:
        for permits in self._permits:
            if permits[0] > self._now_s:
                some = int(min(requests, permits[1]))
                permits[1] -= some
                self._begin(some, int(permits[2]))

    def settle(self, share: float) -> None:
        """All that are in flight, which use less than they reserved, and give back what was never used."""
        for index, taken_ms in self._in_flight:
            at_s, reserved = self.tokens[index]
            used = int(share * reserved)
            self._settle(reserved, used, taken_ms)
            self.tokens[index] = (at_s, used)
        self._in_flight.clear()
        for permits in self._permits:
            if permits[0] <= self._now_s:
                self._settle(TOKENS * int(permits[1]), 0, int(permits[2]))
                permits[1] = 0

    def _begin(self, requests: int, taken_ms: int) -> None:
        self._in_flight.append((len(self.tokens), taken_ms))
        self.requests.append((self._now_s, requests))
        self.tokens.append((self._now_s, TOKENS * requests))

    def _settle(self, reserved: int, used: int, taken_ms: int) -> None:
        self._run("settle", struct.pack("<6d", reserved, used, 0, 0, taken_ms, 0), "")

    def _run(self, script: str, *arguments: object) -> list[int]:
        return run_on_a_clock(self._redis, self._now_s, script, LIMITS, *arguments)


@settings(max_examples=100, deadline=None)
@given(steps=STEPS)
def test_no_window_gets_more_whenever_permits_are_used(valkey: str, steps: list[tuple[str, float]]):
    with Redis.from_url(valkey) as redis:
        redis.delete("bucket")
        gateways = Gateways(redis)
        for action, value in steps:
            getattr(gateways, action)(value)

    assert exceeds(gateways.requests, RATES.requests_per_minute) is None
    assert exceeds(gateways.tokens, RATES.tokens_per_minute) is None


async def ask_steadily(control: Control, key: ApiKey, *, requests: int, pause_s: float = 0.005) -> int:
    """How many of them did without a round trip."""
    spared = 0
    for _ in range(requests):
        admission = await control.admit(key, TOKENS)
        spared += admission.permits is not None
        control.settle(admission, 60)
        await asyncio.sleep(pause_s)
    return spared


def scripts_run(redis_url: str) -> int:
    with Redis.from_url(redis_url) as redis:
        stats = redis.info("commandstats")
        return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha"))


def level(redis_url: str, owner: str = "key") -> tuple[float, float]:
    """Requests and tokens in the buckets when they were written last."""
    with Redis.from_url(redis_url) as redis:
        state = redis.get(redis_names.buckets(TENANT, owner))
    _, requests, tokens, *_ = struct.unpack("<6d", state)
    return requests, tokens


@pytest.mark.parametrize("tenant", [Limits(), Limits(requests_per_minute=60_000)])
async def test_steady_requests_wait_for_redis_only_at_first(redis_url: str, tenant: Limits):
    async with admission_control(redis_url) as control:
        before = scripts_run(redis_url)
        spared = await ask_steadily(control, api_key(**GENEROUS, tenant=tenant), requests=200)
        await control.flush()

    assert spared > 140
    assert scripts_run(redis_url) - before < 120


async def test_a_few_requests_take_no_permits(redis_url: str):
    async with admission_control(redis_url) as control:
        assert await ask_steadily(control, api_key(**GENEROUS), requests=5, pause_s=0.3) == 0


@pytest.mark.parametrize(
    "limits",
    [
        {"requests_per_minute": PERMIT_REQUESTS - 1},
        {"tokens_per_minute": PERMIT_TOKENS - 1},
        {"concurrency": 1000},
        {"tokens_per_day": 10**12},
        {"tenant": Limits(requests_per_minute=PERMIT_REQUESTS - 1)},
        {"tenant": Limits(money_per_month=10**6)},
    ],
)
async def test_low_rates_budgets_and_concurrency_are_counted_one_by_one(redis_url: str, limits: dict):
    async with admission_control(redis_url) as control:
        assert await ask_steadily(control, api_key(**GENEROUS | limits), requests=60) == 0


async def test_near_the_limit_requests_are_counted_one_by_one(redis_url: str):
    """So the last permits go where they are asked for, and none lie idle in a gateway that does not need them."""
    async with admission_control(redis_url) as control:
        key = api_key(**GENEROUS)
        await control.run(key, PERMIT_TOKENS * 6 // 10, used=PERMIT_TOKENS * 6 // 10)
        assert await ask_steadily(control, key, requests=100) == 0


async def test_tokens_that_were_not_used_go_back(redis_url: str):
    async with admission_control(redis_url) as control:
        key = api_key(**GENEROUS)
        assert await ask_steadily(control, key, requests=100)
        await asyncio.sleep(PERMIT_S + 0.2)
        await control.run(key, 0, used=0)
        _, tokens = level(redis_url)

    # 100 requests used 60 each. What was reserved beside is there again; what flowed in is not counted, so at least.
    assert tokens >= PERMIT_TOKENS * RATES.burst - 100 * 60
    assert tokens < PERMIT_TOKENS


async def test_a_gateway_that_stops_gives_back_what_it_holds(redis_url: str):
    async with admission_control(redis_url) as control:
        assert await ask_steadily(control, api_key(**GENEROUS), requests=100)
    _, tokens = level(redis_url)

    assert tokens >= PERMIT_TOKENS * RATES.burst - 100 * 60


async def test_the_headers_count_down_with_permits_too(redis_url: str):
    async with admission_control(redis_url) as control:
        key, left = api_key(**GENEROUS), []
        for _ in range(150):
            admission = await control.admit(key, TOKENS)
            left.append(int(dict(admission.headers)[b"x-ratelimit-remaining-requests"]))
            control.settle(admission, TOKENS)
            await asyncio.sleep(0.002)

    assert left[0] == PERMIT_REQUESTS * RATES.burst - 1
    assert sorted(left, reverse=True)[:10] == left[:10]
    assert left[-1] < left[0] - 149 + 150  # a hundred flow in a second


async def test_an_old_permit_is_no_good(redis_url: str):
    async with admission_control(redis_url) as control:
        key = api_key(**GENEROUS)
        assert await ask_steadily(control, key, requests=60)
        time.sleep(PERMIT_S)  # noqa: ASYNC251 (not even the loop's timers have run)
        assert (await control.admit(key, TOKENS)).permits is None
