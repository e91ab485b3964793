import pytest

from contracts.engine import EngineLease
from contracts.keys import ApiKey


def a_key(models: frozenset[str] | None) -> ApiKey:
    return ApiKey(id="k", tenant="t", name="n", hint="h", scopes=frozenset({"inference"}), models=models, created_at=1)


@pytest.mark.parametrize(
    ("models", "model", "parent", "allowed"),
    [
        (None, "anything", None, True),
        (frozenset({"smol"}), "smol", None, True),
        (frozenset({"smol"}), "other", None, False),
        (frozenset({"smol"}), "ft:smol:t::1", "smol", True),
        (frozenset({"ft:smol:t::1"}), "ft:smol:t::1", "smol", True),
        (frozenset({"ft:smol:t::1"}), "smol", None, False),
        (frozenset(), "smol", None, False),
    ],
)
def test_an_allow_list_names_models_and_the_parents_of_adapters(
    models: frozenset[str] | None, model: str, parent: str | None, allowed: bool
) -> None:
    assert a_key(models).may_use(model, parent=parent) is allowed


def test_a_lease_serves_its_model_and_its_adapters() -> None:
    lease = EngineLease(
        engine="e",
        url="http://127.0.0.1:1",
        model="smol",
        task="generate",
        adapters=("ft:a",),
        capacity=1,
        context_length=2048,
    )
    assert [lease.serves(model) for model in ("smol", "ft:a", "ft:b")] == [True, True, False]
    assert EngineLease.model_validate_json(lease.model_dump_json()) == lease
