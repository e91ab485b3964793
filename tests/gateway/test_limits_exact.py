"""Eight processes, as so many gateways, on one key: limits hold exactly, and no lease is lost with a process."""

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from contracts.keys import ApiKey
from contracts.limits import Limits
from store import redis_names
from tests.gateway.admission import TENANT, api_key, leases, spent
from tests.gateway.test_token_buckets import exceeds
from tests.processes import ROOT, python

PROCESSES = 8
LEASE_S = 1.0
CLOCK_S = 0.001
"""Redis tells the time of an admission in whole milliseconds."""


class Client:
    def __init__(self, redis_url: str) -> None:
        self._child = subprocess.Popen(
            python("-m", "tests.gateway.limits_client", redis_url),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_until_ready(self) -> None:
        assert self._child.stdout.readline() == "ready\n"

    def order(self, key: ApiKey, **order: Any) -> None:
        print(json.dumps({"key": key.model_dump(mode="json"), **order}), file=self._child.stdin, flush=True)

    def result(self) -> list[Any]:
        return json.loads(self._child.stdout.readline())

    def kill(self) -> None:
        self._child.kill()
        self._child.wait()

    def close(self) -> None:
        self._child.stdin.close()
        self._child.wait(10)
        self._child.stdout.close()


@pytest.fixture(scope="module")
def _clients(valkey: str) -> Iterator[list[Client]]:
    clients = [Client(valkey) for _ in range(PROCESSES)]
    for client in clients:
        client.wait_until_ready()
    yield clients
    for client in clients:
        client.close()


@pytest.fixture
def clients(_clients: list[Client], redis_url: str) -> list[Client]:
    return _clients


def hammer(clients: list[Client], *keys: ApiKey, seconds: float, tokens: int, longest_s: float) -> list[list[Any]]:
    """What all of them got through, in the order of admission; the keys go round among the processes."""
    for number, client in enumerate(clients):
        client.order(keys[number % len(keys)], do="hammer", seconds=seconds, tokens=tokens, longest_s=longest_s)
    return sorted(
        [*request, keys[number % len(keys)].id] for number, client in enumerate(clients) for request in client.result()
    )


def test_never_more_requests_than_the_bucket_and_what_flows_in(clients: list[Client]):
    """Two keys of a tenant, each with a limit of its own, the tenant with a tighter one than both together."""
    shared = Limits(requests_per_minute=900)
    keys = [api_key(name, requests_per_minute=600, tenant=shared) for name in ("one", "two")]
    admitted = hammer(clients, *keys, seconds=3, tokens=1, longest_s=0.005)

    assert exceeds([(at / 1000, 1) for at, *_ in admitted], 900, CLOCK_S) is None
    for key in keys:
        assert exceeds([(at / 1000, 1) for at, *_, name in admitted if name == key.id], 600, CLOCK_S) is None
    flowed_in = (admitted[-1][0] - admitted[0][0]) / 1000 * 900 / 60
    assert len(admitted) >= 900 + flowed_in - 5  # and what is allowed does get through


def test_never_more_tokens_than_the_bucket_and_what_flows_in(clients: list[Client]):
    key = api_key(requests_per_minute=10**6, tokens_per_minute=60_000)
    admitted = hammer(clients, key, seconds=4, tokens=2000, longest_s=0.1)

    assert exceeds([(at / 1000, used) for at, _, used, *_ in admitted], 60_000, CLOCK_S) is None
    flowed_in = (admitted[-1][0] - admitted[0][0]) / 1000 * 1000
    assert sum(used for _, _, used, *_ in admitted) >= 0.8 * (60_000 + flowed_in)


def test_permits_taken_ahead_let_no_more_through(clients: list[Client]):
    shared = Limits(requests_per_minute=6000)
    rates = {"requests_per_minute": 6000, "tokens_per_minute": 600_000}
    keys = [api_key(name, **rates, tenant=shared) for name in ("one", "two")]
    admitted = hammer(clients, *keys, seconds=6, tokens=180, longest_s=0.01)

    lent = sum(lent for *_, lent, _ in admitted)
    assert lent > len(admitted) / 10  # until the buckets are half empty
    assert exceeds([(at / 1000, 1) for at, *_ in admitted], 6000, CLOCK_S) is None
    for key in keys:
        own = [(at / 1000, used) for at, _, used, *_, name in admitted if name == key.id]
        assert exceeds([(at, 1) for at, _ in own], 6000, CLOCK_S) is None
        assert exceeds(own, 600_000, CLOCK_S) is None
    flowed_in = (admitted[-1][0] - admitted[0][0]) / 1000 * 6000 / 60
    assert len(admitted) >= 0.8 * (6000 + flowed_in)


def test_budgets_are_charged_exactly_and_never_exceeded(clients: list[Client], redis_url: str):
    budgets = {"tokens_per_day": 20_000, "money_per_month": 1.0}
    key = api_key(requests_per_minute=10**6, tokens_per_minute=10**9, **budgets, tenant=Limits(**budgets))
    admitted = hammer(clients, key, seconds=2, tokens=100, longest_s=0.01)

    used = sum(used for _, _, used, *_ in admitted)
    assert 20_000 - 100 <= used <= 20_000
    assert [spent(redis_url, owner) for owner in ("key", "")] == [(used, used * 2000, used, used * 2000)] * 2


def test_never_more_requests_at_a_time_than_allowed(clients: list[Client], redis_url: str):
    shared = Limits(concurrency=7)
    keys = [api_key(name, requests_per_minute=10**6, concurrency=5, tenant=shared) for name in ("one", "two")]
    admitted = hammer(clients, *keys, seconds=2, tokens=1, longest_s=0.05)

    assert most_at_a_time(admitted) == 7
    assert max(most_at_a_time([each for each in admitted if each[-1] == key.id]) for key in keys) <= 5
    assert leases(redis_url, "") == 0


def most_at_a_time(admitted: list[list[Any]]) -> int:
    """An end in the millisecond of a beginning came before it: Redis rounds the beginning down."""
    changes = sorted([(at, 1) for at, *_ in admitted] + [(float(int(end)), -1) for _, end, *_ in admitted])
    count = most = 0
    for _, change in changes:
        count += change
        most = max(most, count)
    return most


def test_a_killed_process_leaves_its_places_and_a_living_one_keeps_them(clients: list[Client], redis_url: str):
    key = api_key(concurrency=PROCESSES)
    for client in clients:
        client.order(key, do="hold")
    assert [client.result() for client in clients] == [[1]] * PROCESSES

    killed_at = time.monotonic()
    for client in clients[:3]:
        client.kill()
    places = []
    while time.monotonic() < killed_at + 3 * LEASE_S:
        places.append((time.monotonic() - killed_at, held(redis_url)))
        time.sleep(0.02)

    assert [count for at_s, count in places if at_s > 1.5 * LEASE_S] == [PROCESSES - 3] * len(
        [at_s for at_s, _ in places if at_s > 1.5 * LEASE_S]
    )
    clients[3].order(key, do="hold")
    assert clients[3].result() == [1]
    for number in range(3):
        clients[number] = Client(redis_url)
    for client in clients[:3]:
        client.wait_until_ready()


def held(redis_url: str) -> int:
    """Leases that count: those that have not expired by Redis' clock."""
    with Redis.from_url(redis_url) as redis:
        seconds, microseconds = redis.time()
        name = redis_names.concurrency_leases(TENANT, "key")
        return redis.zcount(name, seconds * 1000 + microseconds / 1000, "+inf")
