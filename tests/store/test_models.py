import pytest

from contracts.models import ModelCard
from store.database import Database
from store.models import ModelRepository


@pytest.fixture
def models(database: Database) -> ModelRepository:
    return ModelRepository(database)


def card(name: str, **fields: object) -> ModelCard:
    values: dict[str, object] = {"kind": "base", "task": "generate", "weights": "w", "digest": "sha256:0"}
    values |= {"context_length": 2048, "created_at": 10}
    return ModelCard.model_validate(values | {"name": name} | fields)


def adapter(name: str, tenant: str, parent: str = "base") -> ModelCard:
    return card(name, kind="adapter", parent=parent, tenant=tenant, metrics={"train_loss": 0.5}, job="ftjob-1")


def test_a_card_comes_back_as_it_was_put(models: ModelRepository) -> None:
    for put in (card("base", on_demand=True), adapter("ft:base:acme::1", "acme")):
        models.put(put)
        assert models.get(put.name) == put


def test_a_replaced_card_keeps_the_time_it_was_made(models: ModelRepository) -> None:
    models.put(card("base", created_at=10))
    models.put(card("base", created_at=99, digest="sha256:1"))
    assert models.get("base") == card("base", created_at=10, digest="sha256:1")


def test_adapters_are_those_of_their_base(models: ModelRepository) -> None:
    for put in (card("base"), adapter("a", "acme"), adapter("b", "rival"), adapter("c", "acme", parent="other")):
        models.put(put)
    assert {found.name for found in models.adapters_of("base", named=["a", "c", "gone"], newest=9)} == {"a", "b"}


def test_of_many_adapters_those_asked_for_and_the_newest_are_read(models: ModelRepository) -> None:
    for age in range(20):
        models.put(adapter(f"age-{age}", "acme").model_copy(update={"created_at": 100 - age}))
    found = models.adapters_of("base", named=["age-9", "age-0"], newest=2)
    assert {one.name for one in found} == {"age-0", "age-1", "age-9"}


def test_a_tenant_deletes_its_own_models_only(models: ModelRepository) -> None:
    models.put(card("base"))
    models.put(adapter("a", "acme"))
    assert models.delete("a", tenant="rival") is None
    assert models.delete("base", tenant="acme") is None
    assert models.delete("a", tenant="acme") == adapter("a", "acme")
    assert [found.name for found in models.all()] == ["base"]
