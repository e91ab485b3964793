"""How a child of the worker learns that it should give its job back: asked by its parent or by a signal.

A child whose parent is killed needs no request: Celery has the kernel kill it too (`set_pdeathsig`).
"""

import multiprocessing
import signal
from types import FrameType


class StopRequest:
    """Made in the parent before it forks. `asked` is what a running job's heartbeat looks at; it costs no I/O."""

    def __init__(self) -> None:
        self._shared = multiprocessing.get_context("fork").Event()
        self._asked_here = False

    def ask(self) -> None:
        """In the parent: every child stops its job soon and gives it back."""
        self._shared.set()

    def follow(self) -> None:
        """In a child: answer SIGTERM, which a whole process group may get, by giving the job back."""
        signal.signal(signal.SIGTERM, self._on_signal)

    def asked(self) -> bool:
        return self._asked_here or self._shared.is_set()

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self._asked_here = True
