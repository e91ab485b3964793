"""Two trainings that live at once and make their steps by turns, so that each step has a neighbour to compare with.

A training calls its referee before each step and at the end (loadtests/finetune/player.py). It tells how long its last
step took, all included that it did until then, and waits until it may go on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Listener


@dataclass(frozen=True, slots=True)
class Played:
    """What one training told of its steps: seconds, CPU seconds of all its threads, losses; and what it had read from
    the disk before the first.
    """

    read_bytes: int
    seconds: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


class Referee:
    """Who goes first changes with every step. Nobody may go while the other one does."""

    def __init__(self, listener: Listener, names: Sequence[str]) -> None:
        self._listener, self._names = listener, names

    def run(self) -> dict[str, Played]:
        """Raises EOFError if a training ends early."""
        players: dict[str, Connection] = {}
        played: dict[str, Played] = {}
        for _ in self._names:
            connection = self._listener.accept()
            told = connection.recv()
            players[told["name"]], played[told["name"]] = connection, Played(told["read_bytes"])
        order = list(self._names)
        while players:
            for name in order:
                players[name].send("go")
                told = players[name].recv()
                played[name].seconds.append(told["seconds"])
                played[name].cpu_s.append(told["cpu_s"])
                played[name].losses.append(told["loss"])
                if told["ended"]:
                    players.pop(name).send("bye")
            order = [name for name in reversed(order) if name in players]
        return played
