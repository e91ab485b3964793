"""The engines that a gateway knows, from leases in a real Valkey."""

from redis.asyncio import Redis

from contracts.engine import EngineLease
from gateway.routing.acquaintances import Acquaintances
from store.leases import LeaseStore

MOST = 10


async def put(store: LeaseStore, names: list[str], model: str = "a") -> None:
    for name in names:
        lease = EngineLease(
            engine=name, url="http://127.0.0.1:9", model=model, task="generate", capacity=8, context_length=2048
        )
        await store.put(lease, ttl_s=60)


async def known(acquaintances: Acquaintances) -> set[str]:
    return {lease.engine for lease in await acquaintances.leases()}


async def test_all_engines_are_known_unless_a_number_is_given(redis: Redis):
    store = LeaseStore(redis)
    await put(store, [f"engine-{number}" for number in range(30)])

    assert len(await known(Acquaintances(store, "gateway", None))) == 30
    assert len(await known(Acquaintances(store, "gateway", 40))) == 30


async def test_the_number_is_of_each_model(redis: Redis):
    store = LeaseStore(redis)
    await put(store, [f"a-{number}" for number in range(30)], "a")
    await put(store, [f"b-{number}" for number in range(4)], "b")

    names = await known(Acquaintances(store, "gateway", MOST))

    assert len({name for name in names if name.startswith("a")}) == MOST
    assert len({name for name in names if name.startswith("b")}) == 4


async def test_an_engine_that_goes_is_replaced_and_all_others_stay(redis: Redis):
    store = LeaseStore(redis)
    await put(store, [f"engine-{number}" for number in range(30)])
    acquaintances = Acquaintances(store, "gateway", MOST)
    before = await known(acquaintances)
    gone = min(before)
    await store.remove(gone)
    after = await known(acquaintances)

    assert len(after) == MOST
    assert before - after == {gone}

    await put(store, [gone])
    assert await known(acquaintances) == before


async def test_an_engine_whose_lease_ran_out_is_replaced_at_the_next_look(redis: Redis):
    store = LeaseStore(redis)
    await put(store, [f"engine-{number}" for number in range(30)])
    acquaintances = Acquaintances(store, "gateway", MOST)
    gone = min(await known(acquaintances))
    await redis.delete(f"flywheel:lease:{gone}")

    assert len(await known(acquaintances)) == MOST - 1
    assert len(await known(acquaintances)) == MOST


async def test_gateways_know_different_engines_and_together_all(redis: Redis):
    store = LeaseStore(redis)
    everyone = [f"engine-{number}" for number in range(30)]
    await put(store, everyone)
    parts = [await known(Acquaintances(store, f"gateway-{number}", MOST)) for number in range(30)]

    assert len({frozenset(part) for part in parts}) == 30
    assert set.union(*parts) == set(everyone)
    times_known = [sum(engine in part for part in parts) for engine in everyone]
    assert max(times_known) < 3 * MOST
