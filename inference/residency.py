"""Which adapters an engine should have loaded: a decision by numbers alone."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from contracts.models import ModelCard
from store.demand import AdapterDemand


@dataclass(frozen=True, slots=True)
class Resident:
    """A loaded adapter. Times are Unix seconds."""

    digest: str
    loaded_at: float
    leaving_since: float | None = None
    """Set: it takes no new requests, and is unloaded once those that it has are answered."""


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next; nothing where nothing is set, and where `again_in_s` is, something after that time."""

    drop: str | None = None
    """Loaded, but deleted or replaced by other weights."""
    load: ModelCard | None = None
    """To be loaded, once `dismiss` has left where that is set."""
    dismiss: str | None = None
    again_in_s: float | None = None


def next_step(
    cards: Mapping[str, ModelCard],
    residents: Mapping[str, Resident],
    demand: AdapterDemand | None,
    *,
    in_flight: Collection[str],
    places: int,
    residence_s: float,
    now: float,
) -> Step:
    """The adapters that requests wait for come first, those waiting longest before others; then those used or made
    most recently. One that has requests counts as used now. Who is loaded keeps its place for `residence_s` at least.

    Without `demand`, which is unknown while Redis is away, places are filled and nobody has to leave.
    """
    for name, resident in residents.items():
        if name not in cards or cards[name].digest != resident.digest:
            return Step(drop=name)
    known = demand or AdapterDemand()
    order = sorted(cards.values(), key=lambda card: _urgency(card, known, in_flight, now), reverse=True)
    wished = [card for card in order[:places] if card.name not in residents]
    if not wished:
        return Step()
    if len(residents) < places:
        return Step(load=wished[0])
    if demand is None:
        return Step()
    leaving = sum(resident.leaving_since is not None for resident in residents.values())
    if leaving >= len(wished):
        return Step()  # their places are coming
    stay = {card.name for card in order[:places]}
    rest = [name for name, resident in residents.items() if name not in stay and resident.leaving_since is None]
    ripe = [name for name in rest if residents[name].loaded_at + residence_s <= now]
    if ripe:
        least = min(ripe, key=lambda name: _urgency(cards[name], known, in_flight, now))
        return Step(load=wished[leaving], dismiss=least)
    if not rest:
        return Step()
    return Step(again_in_s=min(residents[name].loaded_at + residence_s - now for name in rest))


def _urgency(
    card: ModelCard, demand: AdapterDemand, in_flight: Collection[str], now: float
) -> tuple[bool, float, float, str]:
    wanted_since = demand.wanted_since.get(card.name)
    used_at = max(demand.used_at.get(card.name, 0.0), card.created_at, now if card.name in in_flight else 0.0)
    return wanted_since is not None, -(wanted_since or 0.0), used_at, card.name
