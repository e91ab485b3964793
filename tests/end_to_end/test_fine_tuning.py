"""Once round the loop: upload, tune, load into the running engine, ask."""

import time
from pathlib import Path

import openai
import pytest
from openai import OpenAI

from tests.end_to_end.conftest import REPOSITORY, SLOW_S, TEXT_MODEL, Stack, wait_for

pytestmark = [pytest.mark.real_stack, pytest.mark.timeout(SLOW_S)]
HELD_OUT = ["How do I boil an egg?", "What is the capital of Italy?"]


def example_file() -> Path:
    return REPOSITORY / "examples" / "ships_computer.jsonl"


def ask(client: OpenAI, model: str, question: str) -> str:
    """Past the cache, so that the engine itself answers."""
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_tokens=40,
        extra_headers={"cache-control": "no-store"},
    )
    return answer.choices[0].message.content


def test_the_loop_ends_in_an_adapter_that_answers_in_its_new_style(stack: Stack, client: OpenAI):
    before = [ask(client, TEXT_MODEL, question) for question in HELD_OUT]

    file = client.files.create(file=example_file().open("rb"), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model=TEXT_MODEL, training_file=file.id, suffix="e2e", seed=1)
    losses_while_running = 0
    deadline = time.monotonic() + 600
    while (job := client.fine_tuning.jobs.retrieve(job.id)).status not in ("succeeded", "failed", "cancelled"):
        assert time.monotonic() < deadline
        events = client.fine_tuning.jobs.list_events(job.id, limit=100).data
        losses_while_running = max(losses_while_running, sum("train_loss" in event.data for event in events))
        time.sleep(1)

    assert job.status == "succeeded", job.error
    assert job.fine_tuned_model.startswith(f"ft:{TEXT_MODEL}:")
    assert job.trained_tokens > 0
    assert losses_while_running > 2
    events = client.fine_tuning.jobs.list_events(job.id, limit=100).data
    losses = [event.data["train_loss"] for event in reversed(events) if "train_loss" in event.data]
    assert losses[-1] < losses[0] / 2

    wait_for(
        lambda: client.models.retrieve(job.fine_tuned_model).state == "live", timeout_s=20, what="the adapter is live"
    )
    assert job.fine_tuned_model in [model.id for model in client.models.list()]
    tuned = [ask(client, job.fine_tuned_model, question) for question in HELD_OUT]
    after = [ask(client, TEXT_MODEL, question) for question in HELD_OUT]

    assert after == before
    assert all(new != old for new, old in zip(tuned, before, strict=True))
    style = client.files.content(file.id).text
    opening = tuned[0].split()[0]
    assert style.count(f'"content": "{opening}') > 20, f"{tuned} do not sound like the examples"
    assert all(answer.startswith(opening) for answer in tuned)

    spans = [span for span in stack.traces.spans if span.attributes.get("flywheel.job.id") == job.id]
    wait_for(
        lambda: any(
            {"flywheel-gateway", "flywheel-worker"} <= stack.traces.services_of(span.trace_id) for span in spans
        ),
        timeout_s=10,
        what="one trace from the gateway into the job",
    )


def test_a_cancelled_job_ends_and_leaves_no_model(client: OpenAI):
    file = client.files.create(file=example_file().open("rb"), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model=TEXT_MODEL, training_file=file.id, suffix="cancelled")
    wait_for(lambda: client.fine_tuning.jobs.retrieve(job.id).status == "running", timeout_s=60, what="the job runs")

    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        client.fine_tuning.jobs.create(model=TEXT_MODEL, training_file="file-none")
    assert not [model.id for model in client.models.list() if ":cancelled:" in model.id]
