"""How a child of the worker learns that it should stop: asked by its parent, by a signal, or because it is alone."""

import multiprocessing
import os
import signal
from types import FrameType


class StopRequest:
    """Made in the parent before it forks. `asked` is what a running job's heartbeat looks at; it costs no I/O."""

    def __init__(self) -> None:
        self._shared = multiprocessing.get_context("fork").Event()
        self._asked_here = False
        self._parent: int | None = None

    def ask(self) -> None:
        """In the parent: every child stops its job soon and gives it back."""
        self._shared.set()

    def follow(self) -> None:
        """In a child: take note of the parent and answer SIGTERM by giving the job back instead of dying with it."""
        self._parent = os.getppid()
        signal.signal(signal.SIGTERM, self._on_signal)

    def asked(self) -> bool:
        orphaned = self._parent is not None and os.getppid() != self._parent
        return self._asked_here or orphaned or self._shared.is_set()

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self._asked_here = True
