"""On a Redis cluster a script may touch names of one slot only."""

import inspect
from collections.abc import Callable

from redis.crc import key_slot

from store import redis_names

OF_A_TENANT = [
    function
    for _, function in inspect.getmembers(redis_names, inspect.isfunction)
    if next(iter(inspect.signature(function).parameters), "") == "tenant"
]


def test_all_names_of_a_tenant_lie_in_one_slot_and_tenants_in_many() -> None:
    def slots(tenant: str) -> set[int]:
        return {
            key_slot(function(tenant, *arguments).encode())
            for function in OF_A_TENANT
            for arguments in _arguments(function)
        }

    assert len(OF_A_TENANT) >= 10
    assert {len(slots(f"tenant-{number}")) for number in range(100)} == {1}
    assert len(set.union(*(slots(f"tenant-{number}") for number in range(100)))) > 90


def test_names_of_a_base_model_lie_in_one_slot() -> None:
    names = {name("smollm2-135m-instruct") for name in (redis_names.adapter_uses, redis_names.adapters_wanted)}
    assert (len(names), len({key_slot(name.encode()) for name in names})) == (2, 1)


def test_a_releases_figures_lie_in_one_slot() -> None:
    names = {redis_names.release_figures("release-1", stage, arm) for stage in "01" for arm in ("stable", "candidate")}
    assert (len(names), len({key_slot(name.encode()) for name in names})) == (4, 1)


def _arguments(function: Callable[..., str]) -> list[tuple[str, ...]]:
    others = len(inspect.signature(function).parameters) - 1
    return [("",) * others, ("another",) * others]
