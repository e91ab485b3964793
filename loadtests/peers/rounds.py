"""Comparisons that bear a noisy machine: ours and a peer by turns, and ratios of neighbours only."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from loadtests.peers.servers import Server

Values = Mapping[str, float]
"""Figure → value, of one server."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What we and a peer reached, one right after the other."""

    peer: str
    ours: Values
    theirs: Values


def by_turns(measure: Callable[[Server], Values], ours: Server, peers: Sequence[Server], *, rounds: int) -> list[Pair]:
    """Each peer gets a measurement of ours next to it; who goes first changes with every round."""
    pairs = []
    for number in range(rounds):
        for peer in peers:
            if number % 2 == 0:
                mine, theirs = measure(ours), measure(peer)
            else:
                theirs, mine = measure(peer), measure(ours)
            pairs.append(Pair(peer.name, mine, theirs))
    return pairs


def compare(pairs: Sequence[Pair], figure: str) -> dict[str, Any]:
    """{ours, peer…, ratio: {peer: ours ÷ peer}}: medians over the rounds; the ratio is a median of ratios."""
    return _compare(pairs, figure, lambda met: median(pair.ours[figure] / pair.theirs[figure] for pair in met))


def compare_added(pairs: Sequence[Pair], figure: str) -> dict[str, Any]:
    """The same for a figure that is a difference and may be about nothing: the ratio is one of medians, or None."""

    def ratio(met: Sequence[Pair]) -> float | None:
        ours, theirs = (median(values[figure] for values in side) for side in _sides(met))
        return ours / theirs if ours > 0 and theirs > 0 else None

    return _compare(pairs, figure, ratio)


def _compare(pairs: Sequence[Pair], figure: str, ratio: Callable[[Sequence[Pair]], float | None]) -> dict[str, Any]:
    found: dict[str, Any] = {"ours": _rounded(median(pair.ours[figure] for pair in pairs))}
    ratios = {}
    for peer in dict.fromkeys(pair.peer for pair in pairs):
        met = [pair for pair in pairs if pair.peer == peer]
        found[peer] = _rounded(median(pair.theirs[figure] for pair in met))
        ratios[peer] = _rounded(ratio(met))
    return found | {"ratio": ratios}


def _sides(pairs: Sequence[Pair]) -> tuple[list[Values], list[Values]]:
    return [pair.ours for pair in pairs], [pair.theirs for pair in pairs]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
