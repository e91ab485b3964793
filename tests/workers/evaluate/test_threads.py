"""Asking many things at once."""

import threading
import time

import pytest

from workers.evaluate.threads import as_answered


def test_every_answer_comes_with_the_place_of_its_question():
    answers = as_answered(lambda number: number**2, range(100), at_once=8, look=lambda: None)
    assert sorted(answers) == [(number, number**2) for number in range(100)]
    assert list(as_answered(str, [], at_once=8, look=lambda: None)) == []


def test_no_more_are_asked_at_once_than_may_be():
    at_work, most, lock = 0, 0, threading.Lock()

    def ask(_: int) -> None:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.01)
        with lock:
            at_work -= 1

    list(as_answered(ask, range(40), at_once=5, look=lambda: None))
    assert most == 5


def test_what_a_question_raises_is_raised_and_no_more_are_asked():
    asked = []

    def ask(number: int) -> None:
        asked.append(number)
        if number == 3:
            raise ValueError(number)
        time.sleep(0.01)

    with pytest.raises(ValueError, match="3"):
        list(as_answered(ask, range(1000), at_once=2, look=lambda: None))
    time.sleep(0.05)
    assert len(asked) < 20


def test_who_waits_may_give_up_though_an_answer_never_comes():
    never = threading.Event()

    def look() -> None:
        if threading.active_count() > 1:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        list(as_answered(lambda _: never.wait(), [1], at_once=1, look=look))
    never.set()
