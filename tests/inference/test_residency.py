"""Which adapters an engine has, decided by numbers: by example, and as a property over random histories."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from contracts.models import ModelCard
from inference.residency import Resident, Step, next_step
from store.demand import AdapterDemand

RESIDENCE_S = 5.0
NOW = 1_000_000.0


def cards(*names: str, created_at: int = 0) -> dict[str, ModelCard]:
    return {
        name: ModelCard(
            name=name,
            kind="adapter",
            task="generate",
            parent="base",
            weights=name,
            digest=name,
            context_length=64,
            created_at=created_at,
        )
        for name in names
    }


def loaded(*names: str, at: float = NOW - 60) -> dict[str, Resident]:
    return {name: Resident(name, at) for name in names}


def step(known, residents, demand: AdapterDemand | None = AdapterDemand(), *, places: int = 2, **more) -> Step:  # noqa: B008
    return next_step(
        known, residents, demand, **{"in_flight": (), "places": places, "residence_s": RESIDENCE_S, "now": NOW} | more
    )


def test_a_free_place_goes_to_the_one_that_was_used_last():
    assert step(cards(*"abc"), loaded("a"), AdapterDemand({"b": 5, "c": 9})).load == cards("c")["c"]


def test_what_was_deleted_or_replaced_goes_first():
    assert step(cards("b"), loaded("a")) == Step(drop="a")
    assert step(cards("a"), {"a": Resident("old digest", NOW - 60)}) == Step(drop="a")


def test_one_that_is_waited_for_takes_the_place_of_the_one_used_longest_ago():
    demand = AdapterDemand({"a": NOW - 1, "b": NOW - 2}, {"c": NOW - 3})
    assert step(cards(*"abc"), loaded("a", "b"), demand) == Step(load=cards("c")["c"], dismiss="b")


def test_of_two_that_are_waited_for_the_one_that_waits_longer_comes_first():
    demand = AdapterDemand({}, {"c": NOW - 1, "d": NOW - 9})
    assert step(cards(*"abcd"), loaded("a"), demand).load == cards("d")["d"]


def test_a_new_adapter_counts_as_just_used():
    known = cards("a", "b") | cards("new", created_at=int(NOW))
    demand = AdapterDemand({"a": NOW - 100, "b": NOW - 200})
    assert step(known, loaded("a", "b"), demand) == Step(load=known["new"], dismiss="b")


def test_nobody_leaves_before_its_time_whoever_waits():
    demand = AdapterDemand({"a": NOW - 9, "b": NOW - 8}, {"c": NOW - 3})
    residents = loaded("a", at=NOW - 1) | loaded("b", at=NOW - 2)
    assert step(cards(*"abc"), residents, demand) == Step(again_in_s=4.0)


def test_one_with_requests_stays_before_one_without():
    demand = AdapterDemand({"a": NOW - 90, "b": NOW - 2}, {"c": NOW - 3})
    assert step(cards(*"abc"), loaded("a", "b"), demand, in_flight={"a"}).dismiss == "b"


def test_while_somebody_leaves_nobody_else_has_to_for_the_same_place():
    residents = loaded("a") | {"b": Resident("b", NOW - 60, leaving_since=NOW - 1)}
    assert step(cards(*"abc"), residents, AdapterDemand({}, {"c": NOW - 3})) == Step()


def test_without_redis_places_are_filled_and_nobody_leaves():
    assert step(cards(*"abc"), loaded("a"), None).load is not None
    assert step(cards("a", "b") | cards("c", created_at=int(NOW)), loaded("a", "b"), None) == Step()
    assert step(cards("b"), loaded("a", "b"), None) == Step(drop="a")


@given(
    uses=st.lists(st.tuples(st.integers(0, 9), st.floats(0.01, 3)), min_size=1, max_size=120),
    places=st.integers(1, 5),
)
def test_whatever_is_asked_for_places_and_residence_hold_and_everybody_gets_a_turn(
    uses: list[tuple[int, float]], places: int
):
    """A simulated engine under random requests: never more than `places`, nobody leaves early, and a request never
    waits longer than for the places that had to come free before its own."""
    known = cards(*map(str, range(10)))
    residents: dict[str, Resident] = {}
    used_at: dict[str, float] = {}
    waiting: dict[str, float] = {}
    now = NOW
    for number, pause_s in uses:
        now += pause_s
        name = str(number)
        if name in residents:
            used_at[name] = now
        else:
            waiting.setdefault(name, now)
        while True:
            after = next_step(
                known,
                residents,
                AdapterDemand(used_at, waiting),
                in_flight=(),
                places=places,
                residence_s=RESIDENCE_S,
                now=now,
            )
            if after.load is None:
                break
            if after.dismiss is not None:
                assert now - residents[after.dismiss].loaded_at >= RESIDENCE_S
                assert after.dismiss not in waiting
                del residents[after.dismiss]
            residents[after.load.name] = Resident(after.load.digest, now)
            if waiting.pop(after.load.name, None) is not None:
                used_at[after.load.name] = now
            assert len(residents) <= places
        longest_s = max((now - since for since in waiting.values()), default=0)
        turns = -(-len(known) // places)
        assert longest_s <= turns * RESIDENCE_S + turns * 3  # our own clock stands still up to 3 s between requests


def test_more_hot_adapters_than_places_are_exchanged_no_faster_than_residence_allows():
    known = cards(*"abc")
    residents: dict[str, Resident] = {}
    used_at: dict[str, float] = {}
    loads, now = 0, NOW
    while now < NOW + 100:
        now += 0.1
        waiting = {name: now for name in known if name not in residents}
        used_at |= dict.fromkeys(residents, now)
        after = step(known, residents, AdapterDemand(used_at, waiting), now=now)
        if after.dismiss is not None:
            residents.pop(after.dismiss)
        if after.load is not None:
            residents[after.load.name] = replace(Resident(after.load.digest, now))
            loads += 1
    assert loads <= 2 * 100 / RESIDENCE_S + 2
