"""/v1/models: where a model comes from, where it is served, and when it can be deleted."""

import io

import pytest
from openai import OpenAI

from contracts.models import ModelCard
from store.models import ModelRepository
from tests.gateway.conftest import MODEL, Serving, model_card, wait_until

TENANT = "lineage"
FULL = f"ft:{MODEL}:{TENANT}:law:1"
ADAPTER = f"ft:{FULL}:{TENANT}:tone:2"
IN_USE = f"ft:{MODEL}:{TENANT}:used:3"


@pytest.fixture
def family(serving: Serving, redis_sync) -> Serving:
    """A base, a whole model made from it, and an adapter of that."""
    made = {"tenant": TENANT, "digest": "sha256:w", "data_digest": "sha256:d", "licence": "Apache-2.0", "created_at": 7}
    serving.register(
        redis_sync,
        made_model(FULL, "full", MODEL, weights="models/ftjob-1/1", job="ftjob-1", metrics={"loss": 0.5}, **made),
        made_model(ADAPTER, "adapter", FULL, weights="models/ftjob-2/1", job="ftjob-2", **made),
        made_model(IN_USE, "adapter", MODEL, weights="models/ftjob-3/1", job="ftjob-3", **made),
    )
    wait_until(lambda: ADAPTER in serving.models() or ModelRepository(serving.gateway.database).get(ADAPTER))
    return serving


def made_model(name: str, kind: str, parent: str, **fields: object) -> ModelCard:
    return model_card(name, kind=kind, parent=parent, on_demand=kind == "full", **fields)


def sdk(serving: Serving) -> OpenAI:
    return OpenAI(
        base_url=serving.gateway.base_url, api_key=serving.gateway.new_key(tenant=TENANT).secret, max_retries=0
    )


def test_lineage_is_told_and_the_sdk_reads_it(family: Serving):
    with sdk(family) as client:
        wait_until(lambda: {FULL, ADAPTER} <= {model.id for model in client.models.list()})
        base, full, adapter = (client.models.retrieve(name).model_dump() for name in (MODEL, FULL, ADAPTER))

    assert (base["kind"], base["parent"], base["root"], base["state"]) == ("base", None, MODEL, "live")
    assert len(base["engines"]) == 1
    assert (full["kind"], full["parent"], full["root"], full["state"]) == ("full", MODEL, MODEL, "on_demand")
    assert (full["job"], full["digest"], full["data_digest"]) == ("ftjob-1", "sha256:w", "sha256:d")
    assert (full["metrics"], full["licence"], full["created"]) == ({"loss": 0.5}, "Apache-2.0", 7)
    assert (full["owned_by"], full["task"], full["max_model_len"], full["engines"]) == (TENANT, "generate", 2048, [])
    assert (adapter["parent"], adapter["root"], adapter["kind"]) == (FULL, MODEL, "adapter")


async def test_a_model_goes_with_its_weights_but_not_before_what_was_made_from_it(family: Serving):
    family.gateway.artifacts.write("models/ftjob-1/1/model.safetensors", io.BytesIO(b"x"))
    key = family.gateway.new_key(tenant=TENANT).secret
    async with family.gateway.client(key) as client:
        early = await client.delete(f"/v1/models/{FULL}")
        adapter = await client.delete(f"/v1/models/{ADAPTER}")
        late = await client.delete(f"/v1/models/{FULL}")
        gone = await client.get(f"/v1/models/{FULL}")

    assert (early.status_code, early.json()["error"]["code"]) == (409, "conflict")
    assert ADAPTER in early.json()["error"]["message"]
    assert (adapter.status_code, late.status_code, gone.status_code) == (200, 200, 404)
    with pytest.raises(FileNotFoundError):
        list(family.gateway.artifacts.read("models/ftjob-1/1/model.safetensors"))


async def test_nobody_deletes_a_base_or_what_belongs_to_others(family: Serving):
    async with family.gateway.client() as stranger:
        for name in (MODEL, ADAPTER):
            assert (await stranger.delete(f"/v1/models/{name}")).status_code == 404


@pytest.mark.parametrize(
    "gateway", [{"FLYWHEEL_GATEWAY__ROUTING_FILE": "tests/gateway/routing/table_of_made_models.yaml"}], indirect=True
)
async def test_a_model_that_an_alias_stands_for_is_kept(family: Serving):
    key = family.gateway.new_key(tenant=TENANT).secret
    async with family.gateway.client(key) as client:
        answer = await client.delete(f"/v1/models/{IN_USE}")

    assert answer.status_code == 409
    assert "the alias `assistant`" in answer.json()["error"]["message"]
