from contracts.models import ModelCard
from store.database import Database
from store.job_checkpoints import CheckpointRepository
from store.job_usage import JobUsage
from store.jobs import JobRepository
from store.models import ModelRepository


def test_a_tenants_states_and_models_count_until_they_are_deleted(database: Database) -> None:
    jobs, checkpoints, usage = JobRepository(database), CheckpointRepository(database), JobUsage(database)
    assert usage.artifact_bytes("acme") == 0
    job = jobs.create(family="f", tenant="acme", spec={}, trace_context={})
    taken = jobs.acquire(job.id, lease_s=60)
    assert taken is not None
    for step in (1, 2, 3):
        checkpoints.add(job.id, taken[1], step=step, artifact=f"c/{step}", digest="d", bytes=10, metrics={})
    assert usage.artifact_bytes("acme") == 20
    assert usage.artifact_bytes("rival") == 0

    card = ModelCard(
        name="ft:x",
        kind="adapter",
        task="generate",
        parent="base",
        tenant="acme",
        weights="models/x",
        digest="d",
        context_length=1,
        created_at=1,
    )
    jobs.finish(job.id, taken[1], "succeeded", message="done", result_model="ft:x", artifact_bytes=5, model=card)
    checkpoints.forget_states(job.id)
    assert usage.artifact_bytes("acme") == 5
    ModelRepository(database).delete("ft:x", tenant="acme")
    assert usage.artifact_bytes("acme") == 0
