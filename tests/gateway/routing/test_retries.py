"""How many retries there may be."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.retries import FLOOR, SHARE, STEPS, WINDOW_S, RetryBudget
from tests.gateway.routing.conftest import Clock


def test_a_few_retries_are_always_allowed(clock: Clock):
    budget = RetryBudget(clock)

    assert [budget.take() for _ in range(FLOOR + 2)] == [True] * FLOOR + [False] * 2


def test_a_fifth_of_many_requests_may_be_retried(clock: Clock):
    budget = RetryBudget(clock)
    for _ in range(1000):
        budget.note_request()

    assert sum(budget.take() for _ in range(1000)) == 200


def test_what_was_spent_comes_back_with_time(clock: Clock):
    budget = RetryBudget(clock)
    while budget.take():
        pass
    clock.now += WINDOW_S

    assert budget.take()


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 40), st.integers(0, 40)), max_size=40))
def test_no_window_holds_more_retries_than_the_budget(steps: list[tuple[float, int, int]]):
    clock, requests, retries = Clock(), [], []
    budget = RetryBudget(clock)
    for pause_s, new_requests, wanted in steps:
        clock.now += pause_s
        for _ in range(new_requests):
            budget.note_request()
            requests.append(clock.now)
        granted = [clock.now for _ in range(wanted) if budget.take()]
        retries += granted

        def lately(times: list[float], span_s: float, now: float = clock.now) -> int:
            return sum(now - time < span_s for time in times)

        allowed = max(FLOOR, SHARE * lately(requests, WINDOW_S))
        assert not granted or lately(retries, WINDOW_S * (1 - 1 / STEPS)) <= allowed + 1
