"""How gateways that do not talk share one engine's capacity."""

import pytest

from gateway.routing.occupancy import WINDOW_S, Occupancy

CAPACITY = 64


def begin(occupancy: Occupancy, requests: int) -> None:
    for _ in range(requests):
        occupancy.begin()


def test_a_gateway_alone_may_fill_the_engine_whatever_an_old_lease_says():
    alone = Occupancy(CAPACITY)
    begin(alone, CAPACITY)
    for _ in range(CAPACITY):
        alone.end()
    alone.renew(reported=CAPACITY, capacity=CAPACITY, now=0)

    assert alone.free() == CAPACITY


def test_what_others_have_is_not_ours():
    ours = Occupancy(CAPACITY)
    begin(ours, 10)
    ours.renew(reported=30, capacity=CAPACITY, now=0)

    assert ours.free() == CAPACITY - 30


def test_a_peak_is_forgotten_after_two_windows():
    ours = Occupancy(CAPACITY)
    begin(ours, 50)
    for _ in range(50):
        ours.end()
    for look in range(4):
        ours.renew(reported=50, capacity=CAPACITY, now=look * WINDOW_S)

    assert ours.free() == CAPACITY - 50


@pytest.mark.parametrize("held", [[60, 4], [64, 0, 0], [1, 2, 30, 31]])
def test_busy_gateways_end_with_about_equal_parts(held: list[int]):
    gateways = [Occupancy(CAPACITY) for _ in held]
    for gateway, requests in zip(gateways, held, strict=True):
        begin(gateway, requests)
    for look in range(200):
        reported = sum(gateway.in_flight for gateway in gateways)
        for gateway in gateways:
            gateway.renew(reported=reported, capacity=CAPACITY, now=look * WINDOW_S)
            while gateway.free() > 0:
                gateway.begin()
            while gateway.free() < 0:
                gateway.end()

    parts = [gateway.in_flight for gateway in gateways]
    assert max(parts) <= 1.5 * min(parts)
    assert CAPACITY <= sum(parts) <= CAPACITY * (1 + len(parts) / 16) + len(parts)
