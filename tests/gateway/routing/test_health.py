"""When an engine is ejected, tried again, and taken back."""

import pytest

from gateway.routing import health
from gateway.routing.health import EngineHealth, fit_among, probe_among
from tests.gateway.routing.conftest import CAPACITY, Clock, engines, occupy


@pytest.fixture
def engine_health(clock: Clock) -> EngineHealth:
    return EngineHealth(clock)


def fail(engine_health: EngineHealth, times: int = health.CONSECUTIVE_FAILURES) -> None:
    for _ in range(times):
        engine_health.failed()


def eject(engine_health: EngineHealth, clock: Clock) -> float:
    """Fails until ejected; returns the seconds until a probe is wanted, and waits for them."""
    began = clock.now
    fail(engine_health)
    assert not engine_health.fit
    while not engine_health.wants_probe:
        clock.now += 0.5
    return clock.now - began


def test_failures_in_a_row_eject_and_single_ones_do_not(engine_health: EngineHealth):
    for _ in range(20):
        fail(engine_health, health.CONSECUTIVE_FAILURES - 1)
        for _ in range(4):
            engine_health.succeeded()
    assert engine_health.fit

    fail(engine_health)
    assert not engine_health.fit


def test_an_engine_that_nobody_listens_at_is_ejected_at_once(engine_health: EngineHealth):
    engine_health.failed(unreachable=True)

    assert not engine_health.fit


def test_a_high_share_of_failures_ejects(engine_health: EngineHealth):
    for _ in range(health.FEWEST_REQUESTS):
        engine_health.failed()
        engine_health.succeeded()

    assert not engine_health.fit


def test_failures_long_ago_do_not_count(engine_health: EngineHealth, clock: Clock):
    for _ in range(health.FEWEST_REQUESTS):
        engine_health.failed()
        engine_health.succeeded()
        clock.now += health.WINDOW_S + 1

    assert engine_health.fit


def test_ejections_grow_up_to_a_bound(engine_health: EngineHealth, clock: Clock):
    lengths = [eject(engine_health, clock)]
    for _ in range(7):
        engine_health.begin_probe()
        lengths.append(eject(engine_health, clock))

    assert lengths[:4] == [2, 4, 8, 16]
    assert lengths[-1] == health.LONGEST_EJECTION_S


def test_one_request_probes_and_its_success_takes_the_engine_back(engine_health: EngineHealth, clock: Clock):
    eject(engine_health, clock)
    engine_health.begin_probe()
    assert not engine_health.wants_probe
    assert not engine_health.fit

    engine_health.succeeded()
    assert engine_health.fit


def test_a_probe_that_tells_nothing_is_followed_by_another(engine_health: EngineHealth, clock: Clock):
    eject(engine_health, clock)
    engine_health.begin_probe()
    clock.now += health.PROBE_TIMEOUT_S

    assert engine_health.wants_probe


def test_a_late_success_does_not_end_an_ejection(engine_health: EngineHealth):
    fail(engine_health)
    engine_health.succeeded()

    assert not engine_health.fit


def test_after_a_long_good_time_ejections_start_short_again(engine_health: EngineHealth, clock: Clock):
    for _ in range(4):
        eject(engine_health, clock)
        engine_health.begin_probe()
        engine_health.succeeded()
    clock.now += health.LONGEST_EJECTION_S + 1

    assert eject(engine_health, clock) == health.FIRST_EJECTION_S


def test_an_ejected_engine_is_left_out():
    good, bad = engines(2)
    fail(bad.health)

    assert list(fit_among([good, bad])) == [good]


def test_all_are_asked_when_all_failed():
    both = engines(2)
    for engine in both:
        fail(engine.health)

    assert list(fit_among(both)) == both


def test_the_few_that_are_left_are_not_overfilled():
    good, *bad = engines(4)
    for engine in bad:
        fail(engine.health)
    assert list(fit_among([good, *bad])) == [good]

    occupy(good, CAPACITY)
    assert list(fit_among([good, *bad])) == [good, *bad]


def test_half_of_the_engines_stay_out_however_full_the_rest_is():
    good, bad = engines(2)
    fail(bad.health)
    occupy(good, CAPACITY)

    assert list(fit_among([good, bad])) == [good]


def test_a_probe_is_given_once(clock: Clock):
    good, bad = engines(2)
    bad.health = EngineHealth(clock)
    fail(bad.health)
    assert probe_among([good, bad]) is None

    clock.now += health.FIRST_EJECTION_S
    assert [probe_among([good, bad]) for _ in range(3)] == [bad, None, None]
