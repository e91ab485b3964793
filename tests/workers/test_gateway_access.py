"""The keys by which jobs ask models."""

import time
from collections.abc import Callable

import pytest

from contracts.guardrails import GuardrailPolicy, PersonalDataRule
from contracts.jobs import Job
from contracts.keys import ApiKey
from store.keys import KeyRepository
from tests.gateway_process import PEPPER
from tests.workers.conftest import CountSpec, Workshop
from workers.gateway import Caller
from workers.run import JobResult, JobRun


@pytest.fixture
def keys(workshop: Workshop) -> KeyRepository:
    return KeyRepository(workshop.database, PEPPER)


def calling(creator: ApiKey, seen: Callable[[Caller], None]) -> Callable[[CountSpec, JobRun], JobResult]:
    def work(_: CountSpec, run: JobRun) -> JobResult:
        with run.calling(creator.id) as caller:
            seen(caller)
        return JobResult("Asked.")

    return work


def test_a_job_asks_with_its_creators_models_limits_and_guardrails_until_it_ends(
    workshop: Workshop, keys: KeyRepository
):
    policy = GuardrailPolicy(personal_data=PersonalDataRule(where="input"))
    creator = keys.create(
        tenant="acme", name="laptop", scopes=("jobs",), models=("small",), tokens_per_day=5, guardrails=policy
    ).key
    found: list[ApiKey | None] = []
    secrets: list[str] = []

    def look(caller: Caller) -> None:
        secrets.append(caller.secret)
        found.append(keys.find_by_secret(caller.secret))

    job = workshop.create_job()
    workshop.run(job, calling(creator, look))
    assert workshop.now(job).status == "succeeded"
    key = found[0]
    assert key is not None
    assert key.expires_at is not None
    assert (key.tenant, key.scopes, key.models, key.tokens_per_day) == ("acme", {"inference"}, {"small"}, 5)
    assert key.guardrails == policy
    assert keys.find_by_secret(secrets[0]) is None
    assert [key.name for key in keys.all()] == ["laptop"]


def test_the_key_of_a_killed_attempt_is_deleted_by_the_next(workshop: Workshop, keys: KeyRepository):
    creator = keys.create(tenant="acme", name="laptop", scopes=("jobs",)).key
    job: Job = workshop.create_job()
    keys.create(tenant="acme", name=f"job {job.id}", scopes=("inference",))
    keys.create(tenant="other", name=f"job {job.id}", scopes=("inference",))
    workshop.run(job, calling(creator, lambda _: None))
    assert sorted((key.tenant, key.name) for key in keys.all()) == [("acme", "laptop"), ("other", f"job {job.id}")]


def test_a_creator_without_a_valid_key_asks_nothing(workshop: Workshop, keys: KeyRepository):
    revoked = keys.create(tenant="acme", name="gone", scopes=("jobs",)).key
    keys.revoke(revoked.id)
    expired = keys.create(tenant="acme", name="old", scopes=("jobs",), expires_at=int(time.time()) - 1).key
    for creator in (revoked, expired):
        job = workshop.create_job()
        workshop.run(job, calling(creator, lambda _: pytest.fail("asked")))
        assert workshop.now(job).error.code == "key_revoked"  # type: ignore[union-attr]


def test_a_worker_without_the_pepper_says_what_it_needs(workshop: Workshop, keys: KeyRepository):
    creator = keys.create(tenant="acme", name="laptop", scopes=("jobs",)).key
    workshop.knows_pepper = False
    job = workshop.create_job()
    workshop.run(job, calling(creator, lambda _: pytest.fail("asked")))
    assert "FLYWHEEL_AUTH__PEPPER" in workshop.now(job).error.message  # type: ignore[union-attr]
