"""Asks many things at once, from threads that nobody has to wait for."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

LOOK_EVERY_S = 0.2
Asked = TypeVar("Asked")
Said = TypeVar("Said")


def as_answered(
    ask: Callable[[Asked], Said], asked: Sequence[Asked], *, at_once: int, look: Callable[[], None]
) -> Iterator[tuple[int, Said]]:
    """Each answer with the place of its question, as they come. `look` is called every moment, and may raise.

    Raises what `ask` raises. Questions that are under way when it ends are left to daemon threads: a connection on
    which an answer is waited for cannot be closed from outside, and a process should end without it.
    """
    waiting: queue.SimpleQueue[tuple[int, Asked]] = queue.SimpleQueue()
    answered: queue.SimpleQueue[tuple[int, Any, Exception | None]] = queue.SimpleQueue()
    for numbered in enumerate(asked):
        waiting.put(numbered)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            try:
                place, question = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                answered.put((place, ask(question), None))
            except Exception as error:  # noqa: BLE001 (raised where answers are waited for)
                answered.put((place, None, error))

    for _ in range(min(at_once, len(asked))):
        threading.Thread(target=work, daemon=True).start()
    left = len(asked)
    try:
        while left:
            look()
            try:
                place, said, error = answered.get(timeout=LOOK_EVERY_S)
            except queue.Empty:
                continue
            if error is not None:
                raise error
            left -= 1
            yield place, said
    finally:
        stop.set()
