"""A real Prometheus scrapes the real stack; every query of every dashboard gets an answer."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
import yaml
from jsonschema import Draft202012Validator
from openai import OpenAI
from redis import Redis

from contracts.engine import EngineLease
from store import redis_names
from tests.debian import program
from tests.deploy.test_observability import DASHBOARDS, OBSERVABILITY, queries
from tests.end_to_end.conftest import SLOW_S, TEXT_MODEL, Stack, wait_for
from tests.processes import ROOT, Process, free_port

pytestmark = [pytest.mark.real_stack, pytest.mark.timeout(SLOW_S)]
NOTHING_HAPPENED = (
    "flywheel_cost_total",
    "flywheel_fallbacks_total",
    "flywheel_release_share",
    "flywheel_shadow_requests_total",
)
"""Series that this stack does not have: it has no prices and no release, and their labels name what happened."""


class Prometheus:
    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url)

    def ready(self) -> bool:
        try:
            return self._http.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def query(self, expression: str) -> list[dict]:
        answer = self._http.get("/api/v1/query", params={"query": expression.replace("$__rate_interval", "1m")}).json()
        assert answer["status"] == "success", answer
        return answer["data"]["result"]

    def exemplars(self, series: str) -> list[str]:
        """Their trace ids."""
        span = {"start": time.time() - 600, "end": time.time() + 60}
        answer = self._http.get("/api/v1/query_exemplars", params={"query": series} | span).json()
        assert answer["status"] == "success", answer
        return [each["labels"]["trace_id"] for found in answer["data"] for each in found["exemplars"]]

    def alerts(self) -> list[str]:
        told = self._http.get("/api/v1/alerts").json()["data"]["alerts"]
        return [alert["labels"]["alertname"] for alert in told]


def targets(stack: Stack) -> dict[str, list[str]]:
    settings = stack.local["settings"]
    with Redis.from_url(settings["FLYWHEEL_REDIS_URL"], decode_responses=True) as redis:
        raw = redis.mget([redis_names.lease(engine) for engine in redis.smembers(redis_names.ENGINES)])
    leases = [EngineLease.model_validate_json(lease) for lease in raw if lease is not None]
    return {
        "gateway": [url.removeprefix("http://") for url in stack.gateway_urls],
        "engine": [lease.url.removeprefix("http://") for lease in leases],
    }


@pytest.fixture
def prometheus(stack: Stack, tmp_path: Path) -> Iterator[Prometheus]:
    """Deployed rules and jobs, with this stack's addresses in the place of names, and a clock that runs faster."""
    config = yaml.safe_load((OBSERVABILITY / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(OBSERVABILITY / "rules/*.yml")]
    addresses = targets(stack)
    for job in config["scrape_configs"]:
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": addresses[job["job_name"]]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    options = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    process = Process(
        [*program("prometheus"), *options, "--enable-feature=exemplar-storage", f"--web.listen-address={address}"],
        log=tmp_path / "prometheus.log",
    )
    server = Prometheus(f"http://{address}")
    process.wait_until(server.ready)
    yield server
    process.stop()


def use(stack: Stack, client: OpenAI) -> None:
    """Something of all that is counted: answers whole and streamed, repeats, a refusal by a limit."""
    question = [{"role": "user", "content": "What is the capital of Italy?"}]
    for temperature in (0, 0, 1):
        client.chat.completions.create(model=TEXT_MODEL, messages=question, temperature=temperature, max_tokens=4)
    for _ in client.chat.completions.create(model=TEXT_MODEL, messages=question, max_tokens=8, stream=True):
        pass
    _, secret = stack.new_key("--rpm", "1")
    limited = {"model": TEXT_MODEL, "messages": question, "max_tokens": 1}
    stack.client(secret).chat.completions.create(**limited)
    with pytest.raises(openai.RateLimitError):
        stack.client(secret).chat.completions.create(**limited)


def schedule(client: OpenAI) -> None:
    """An evaluation on New Year's Eve: schedules are counted, and nothing runs."""
    check = {"type": "string_check", "name": "rome", "input": "{{ sample.output_text }}", "reference": "Rome"}
    of = client.evals.create(
        data_source_config={"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True},
        testing_criteria=[check | {"operation": "like"}],
    )
    question = {"role": "user", "content": "What is the capital of {{ item.country }}?"}
    source = {
        "type": "completions",
        "model": TEXT_MODEL,
        "input_messages": {"type": "template", "template": [question]},
        "source": {"type": "file_content", "content": [{"item": {"country": "Italy"}}]},
    }
    body = {"eval_id": of.id, "data_source": source, "timing": {"cron": "0 0 31 12 *"}}
    client.post("/flywheel/eval_schedules", body=body, cast_to=object)


def test_every_panel_shows_something_and_no_alert_is_raised(stack: Stack, client: OpenAI, prometheus: Prometheus):
    wait_for(lambda: len(prometheus.query("up == 1")) >= 2, timeout_s=30, what="Prometheus has scraped all")
    schedule(client)
    for _ in range(2):  # a rate needs the counter before and after
        use(stack, client)
        time.sleep(3)

    empty = {
        query: dashboard.stem
        for dashboard in DASHBOARDS
        for query in queries(dashboard)
        if not prometheus.query(query) and not any(series in query for series in NOTHING_HAPPENED)
    }
    assert empty == {}
    assert prometheus.alerts() == []


@pytest.mark.parametrize("series", ["flywheel_request_duration_seconds", "flywheel_time_to_first_token_seconds"])
def test_a_bucket_leads_to_the_trace_of_a_request(stack: Stack, client: OpenAI, prometheus: Prometheus, series: str):
    use(stack, client)
    wait_for(lambda: prometheus.exemplars(f"{series}_bucket"), timeout_s=30, what="Prometheus has an exemplar")
    for trace_id in prometheus.exemplars(f"{series}_bucket"):
        wait_for(lambda of=trace_id: "flywheel-gateway" in stack.traces.services_of(of), timeout_s=10, what="its trace")


def test_every_line_of_every_service_is_as_the_schema_of_logs_says(stack: Stack, client: OpenAI):
    use(stack, client)
    time.sleep(1)  # requests are written in batches
    schema = Draft202012Validator(json.loads((ROOT / "telemetry/log.schema.json").read_text()))
    logs = {log.stem: log.read_text().splitlines() for log in (stack.home / "logs").glob("*.log")}
    every = [json.loads(line) for name, lines in logs.items() if name != "valkey" for line in lines if line[:1] == "{"]

    # What Python, torch and Celery print as engines and workers start and end is nobody's to form.
    assert all(line[:1] == "{" for name in ("gateway", "releases", "supervisor") for line in logs[name])
    assert {"flywheel-engine", "flywheel-gateway", "flywheel-worker"} < {line["service"] for line in every}
    assert any(line["logger"].startswith("vllm") for line in every)
    assert any(line["logger"] == "gateway.access" for line in every)
    assert [(line, fault.message) for line in every for fault in schema.iter_errors(line)] == []
