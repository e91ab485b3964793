"""The bound of the token buckets, over a clock that hypothesis turns."""

import struct
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

import gateway.limits

START_S = 1_800_000_000
PER_MINUTE = 600.0
"""Tokens; ten a second."""
LIMITS = struct.pack("<6d", 1e6, PER_MINUTE, 1, 0, 0, 0)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.sampled_from([0.01, 1, 10, 20, 40, 70, 150])),
        st.tuples(st.just("admit"), st.sampled_from([1, 50, 150, 300, 450, 600, 900])),
        st.tuples(st.just("settle"), st.tuples(st.integers(0, 5), st.sampled_from([0.0, 0.1, 1.0]))),
    ),
    min_size=20,
    max_size=50,
)


class Bucket:
    """admit.lua and settle.lua as they are, but for the clock."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._now_s = float(START_S)
        self._in_flight: list[tuple[int, int, int]] = []
        self.used: list[tuple[float, int]] = []
        """When a request was admitted, and what it used in the end, or has reserved."""

    def wait(self, seconds: float) -> None:
        self._now_s += seconds

    def admit(self, tokens: int) -> bool:
        refused_by, _, now_ms, *_ = self._run("admit", LIMITS, tokens, 0, "", "")
        if not refused_by:
            self._in_flight.append((tokens, now_ms, len(self.used)))
            self.used.append((self._now_s, min(tokens, int(PER_MINUTE))))
        return not refused_by

    def settle(self, choice: int, share: float) -> None:
        if not self._in_flight:
            return
        tokens, admitted_ms, index = self._in_flight.pop(choice % len(self._in_flight))
        used = int(share * min(tokens, PER_MINUTE))
        self._run(
            "settle",
            LIMITS,
            struct.pack("<6d", tokens, used, 0, 0, admitted_ms, 0),
            "",
        )
        self.used[index] = (self.used[index][0], used)

    def _run(self, script: str, *arguments: object) -> list[int]:
        return run_on_a_clock(self._redis, self._now_s, script, *arguments)


def run_on_a_clock(redis: Redis, now_s: float, script: str, *arguments: object) -> list[int]:
    """On the one bucket that there is."""
    return redis.eval(script_on_a_clock(script), 1, "bucket", *arguments, f"{now_s:.6f}")


def script_on_a_clock(name: str) -> str:
    folder = Path(gateway.limits.__file__).parent
    text = "\n".join((folder / f"{part}.lua").read_text() for part in ("buckets", "budgets", name))
    assert text.count('redis.call("TIME")') == 1
    return text.replace('redis.call("TIME")', "{ ARGV[#ARGV], 0 }")


def exceeds(admitted: Iterable[tuple[float, int]], per_minute: float, slack_s: float = 0.0) -> str | None:
    """The window, if there is one, in which more than the bucket's bound got through. Times in order.

    With S the tokens up to and with a request, the bound for the window from request i to request j is
    S(j) - S(i-1) <= n + n/60 (t(j) - t(i)), so what must not grow by more than n is S(j) - n/60 t(j) from any
    S(i-1) - n/60 t(i) on.
    """
    total, lowest = 0.0, float("inf")
    for at_s, tokens in admitted:
        lowest = min(lowest, total - per_minute / 60 * at_s)
        total += tokens
        excess = total - per_minute / 60 * at_s - lowest - per_minute - per_minute / 60 * slack_s
        if excess > 1e-6 * per_minute:
            return f"{excess} too many up to {at_s}"
    return None


@settings(max_examples=300, deadline=None)
@given(steps=STEPS)
def test_no_window_gets_more_than_the_bucket_and_what_flows_in(valkey: str, steps: list[tuple[str, object]]):
    with Redis.from_url(valkey) as redis:
        redis.delete("bucket")
        bucket = Bucket(redis)
        for action, value in steps:
            getattr(bucket, action)(*(value if isinstance(value, tuple) else (value,)))

    assert exceeds(bucket.used, PER_MINUTE) is None


def test_what_the_bucket_would_have_spilled_is_not_given_back(redis_url: str):
    with Redis.from_url(redis_url) as redis:
        bucket = Bucket(redis)
        assert bucket.admit(300)
        assert bucket.admit(300)
        bucket.wait(48)
        assert bucket.admit(480)
        bucket.settle(0, 0.0)
        bucket.settle(0, 0.0)

        # Had the two taken nothing, the bucket would have been full all the time, and now hold 600 - 480.
        assert not bucket.admit(121)
        assert bucket.admit(120)


def test_under_load_everything_that_was_not_used_comes_back(redis_url: str):
    """Requests reserve fifty times what they use, and yet get through at the full rate."""
    with Redis.from_url(redis_url) as redis:
        bucket = Bucket(redis)
        for _ in range(600):
            if bucket.admit(100):
                bucket.wait(0.2)
                bucket.settle(0, 0.02)
            else:
                bucket.wait(0.1)

    assert sum(used for _, used in bucket.used) == 1200


def test_what_a_killed_gateway_had_reserved_holds_nothing_back_for_long(redis_url: str):
    with Redis.from_url(redis_url) as redis:
        bucket = Bucket(redis)
        assert bucket.admit(600)  # and nobody will settle it
        bucket.wait(180)
        assert bucket.admit(600)
        bucket.settle(1, 0.0)
        assert bucket.admit(600)


def test_a_debt_is_kept_until_it_is_paid(redis_url: str):
    """A request that uses more than a bucket holds delays those that follow, however long the server runs."""
    with Redis.from_url(redis_url) as redis:
        bucket = Bucket(redis)
        assert bucket.admit(600)
        bucket._run(
            "settle",
            LIMITS,
            struct.pack("<6d", 600, 3000, 0, 0, START_S * 1000, 0),
            "",
        )
        assert redis.pttl("bucket") > 4 * 60_000
        bucket.wait(239)
        assert not bucket.admit(1)
        bucket.wait(2)
        assert bucket.admit(1)


@pytest.mark.parametrize("excess", [[(0.0, 601)], [(0.0, 600), (1.0, 11)], [(0.0, 1), (60.0, 600), (60.1, 2)]])
def test_the_check_sees_an_excess(excess: list[tuple[float, int]]):
    assert exceeds(excess, PER_MINUTE)
