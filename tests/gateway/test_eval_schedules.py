"""/v1/flywheel/eval_schedules, and what it refuses. The runs that they make: tests/store, tests/workers/evaluate."""

import time
from typing import Any

import httpx
import pytest
from openai import OpenAI

from tests.gateway.conftest import EMBEDDER, Serving
from tests.gateway.test_evals import client, create, source

__all__ = ["client"]  # a fixture


class Schedules:
    def __init__(self, serving: Serving, sdk: OpenAI) -> None:
        self.eval_id = create(sdk).id
        self._url = f"{serving.gateway.base_url}/flywheel/eval_schedules"
        self.secret = sdk.api_key

    def call(self, method: str, path: str = "", **body: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.secret}"}
        return httpx.request(method, self._url + path, headers=headers, json=body or None)

    def create(self, **fields: Any) -> httpx.Response:
        wanted = {"eval_id": self.eval_id, "data_source": source(), "timing": {"cron": "0 4 * * *"}}
        return self.call("POST", **wanted | fields)


@pytest.fixture
def schedules(serving: Serving, client: OpenAI) -> Schedules:
    return Schedules(serving, client)


def test_a_schedule_is_made_listed_changed_paused_and_deleted(schedules: Schedules):
    made = schedules.create(name="nightly", criteria=["says aye"]).json()
    path = f"/{made['id']}"
    assert (made["object"], made["name"], made["baseline"]) == ("eval_schedule", "nightly", "first")
    assert made["next_run_at"] > time.time()
    assert "creator" not in made
    assert "tenant" not in made
    assert [each["id"] for each in schedules.call("GET").json()["data"]] == [made["id"]]
    changed = schedules.call("POST", path, timing={"every_s": 60}, alert={"p_value": 0.05}, baseline="last").json()
    assert (changed["timing"]["every_s"], changed["alert"]["p_value"], changed["baseline"]) == (60, 0.05, "last")
    assert (changed["name"], changed["criteria"]) == ("nightly", ["says aye"])
    paused = schedules.call("POST", f"{path}/pause").json()
    assert (paused["paused"], paused["next_run_at"]) == (True, None)
    assert schedules.call("POST", f"{path}/resume").json()["next_run_at"] is not None
    assert schedules.call("DELETE", path).json()["deleted"]
    assert schedules.call("GET", path).status_code == 404


def test_pages_hold_each_schedule_once(schedules: Schedules):
    made = {schedules.create().json()["id"] for _ in range(3)}
    first = schedules.call("GET", "?limit=2").json()
    rest = schedules.call("GET", f"?limit=2&after={first['last_id']}").json()
    assert {each["id"] for each in first["data"] + rest["data"]} == made
    assert (first["has_more"], rest["has_more"], len(rest["data"])) == (True, False, 1)


def test_schedules_of_others_are_not_there(schedules: Schedules, serving: Serving):
    path = f"/{schedules.create().json()['id']}"
    schedules.secret = serving.gateway.new_key().secret
    assert schedules.call("GET").json()["data"] == []
    for method, on in (("GET", ""), ("POST", "/pause"), ("POST", "/resume"), ("DELETE", "")):
        assert schedules.call(method, path + on).status_code == 404
    assert schedules.call("POST", path, name="mine").status_code == 404
    assert schedules.create().status_code == 404


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"timing": {}}, "timing"),
        ({"timing": {"cron": "0 4 * * *", "every_s": 60}}, "timing"),
        ({"timing": {"cron": "at four"}}, "timing.cron"),
        ({"timing": {"cron": "0 0 30 2 *"}}, "timing.cron"),
        ({"timing": {"every_s": 1}}, "timing.every_s"),
        ({"baseline": "evalrun_of_nobody"}, "baseline"),
        ({"criteria": ["unknown"]}, "criteria"),
        ({"alert": {"p_value": 2}}, "alert.p_value"),
        ({"data_source": source(model=EMBEDDER)}, "data_source.model"),
        ({"data_source": source(source={"type": "file_id", "id": "file-none"})}, "data_source.source.id"),
        ({"what": 1}, "what"),
    ],
)
@pytest.mark.usefixtures("embedder")
def test_what_a_schedule_cannot_do_is_refused_by_name(schedules: Schedules, fields: dict[str, Any], param: str):
    refused = schedules.create(**fields)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == param


def test_a_key_without_the_scope_makes_none(schedules: Schedules, serving: Serving):
    schedules.secret = serving.gateway.new_key(scopes=["inference"]).secret
    assert schedules.create().status_code == 403
