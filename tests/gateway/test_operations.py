"""What operators see: health, metrics, the API's documentation, logs and traces."""

import json

import httpx

from store.jobs import JobRepository
from tests.gateway.conftest import CHAT, MODEL, Serving, chat_body, wait_until
from tests.gateway_process import GatewayProcess


def test_health_tells_what_is_up(serving: Serving):
    assert httpx.get(f"{serving.gateway.url}/health/live").json() == {"status": "ok"}
    ready = httpx.get(f"{serving.gateway.url}/health/ready")
    assert ready.status_code == 200
    assert ready.json() == {"status": "ready", "database": "up", "redis": "up", "engines": 1}


async def test_metrics_count_requests_tokens_and_cache(serving: Serving):
    async with serving.gateway.client() as client:
        await client.post(CHAT, json=chat_body(stream=True))
        await client.post(CHAT, json=chat_body(model="no-such-model-of-a-stranger"))
    text = httpx.get(f"{serving.gateway.url}/metrics").text

    assert f'flywheel_requests_total{{model="{MODEL}",route="{CHAT}",status="200"}}' in text
    assert f'flywheel_tokens_total{{direction="output",model="{MODEL}"}}' in text
    assert f'flywheel_time_to_first_token_seconds_count{{model="{MODEL}"}}' in text
    assert "no-such-model-of-a-stranger" not in text


async def test_metrics_are_in_the_form_that_the_scraper_takes(serving: Serving):
    async with serving.gateway.client() as client:
        await client.post(CHAT, json=chat_body(stream=True))
    url = f"{serving.gateway.url}/metrics"
    plain = httpx.get(url)
    open_metrics = httpx.get(url, headers={"accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"})

    assert plain.headers["content-type"].startswith("text/plain")
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert open_metrics.text.endswith("# EOF\n")
    assert "flywheel_requests_total" in plain.text
    assert "flywheel_requests_total" in open_metrics.text
    assert "_created" not in plain.text + open_metrics.text
    assert "trace_id" not in open_metrics.text  # nobody keeps this gateway's traces


def test_metrics_tell_how_many_jobs_wait_and_run_in_each_queue(gateway: GatewayProcess):
    jobs = JobRepository(gateway.database)
    names = [f'flywheel_jobs{{queue="cpu",state="{state}"}}' for state in ("queued", "running")]

    def told() -> list[float]:
        lines = httpx.get(f"{gateway.url}/metrics").text.splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if line.startswith("flywheel_jobs{"))
        assert len(values) == 8
        return [float(values[name]) for name in names]

    queued, running = told()
    waits, runs = (jobs.create(family="f", tenant="acme", spec={}, trace_context={}) for _ in range(2))
    assert jobs.acquire(runs.id, lease_s=60) is not None
    assert told() == [queued + 1, running + 1]
    for job in (waits, runs):
        jobs.cancel(job.id, tenant="acme")
    assert told() == [queued, running]


def test_the_documentation_describes_every_route_and_loads_nothing_from_elsewhere(gateway: GatewayProcess):
    document = httpx.get(f"{gateway.url}/openapi.json").json()
    page = httpx.get(f"{gateway.url}/docs")

    assert {CHAT, "/v1/completions", "/v1/embeddings", "/v1/models", "/v1/files", "/v1/fine_tuning/jobs"} <= set(
        document["paths"]
    )
    request = document["components"]["schemas"]["ChatCompletionRequest"]
    assert {"model", "messages", "temperature", "stream"} <= set(request["properties"])
    assert page.status_code == 200
    assert "https://" not in page.text
    assert unresolved_references(document) == []


def unresolved_references(document: dict) -> list[str]:
    found = set()

    def walk(node: object) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                found.add(node["$ref"])
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document)
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    return sorted(found - known)


async def test_a_requests_log_line_carries_its_trace_and_never_its_prompt(serving: Serving):
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with serving.gateway.client() as client:
        answer = await client.post(
            CHAT, json=chat_body("a very private prompt"), headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
        )
    wait_until(lambda: answer.headers["x-request-id"] in serving.gateway.process.log.read_text())
    log = serving.gateway.process.log.read_text()
    line = next(json.loads(line) for line in log.splitlines() if answer.headers["x-request-id"] in line)

    assert line["trace_id"] == trace_id
    assert (line["service"], line["status"], line["model"]) == ("flywheel-gateway", 200, MODEL)
    assert "a very private prompt" not in log
    assert serving.engine.requests()[0]["headers"]["traceparent"].split("-")[1] == trace_id
