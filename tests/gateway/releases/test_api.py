"""Aliases and releases as people see them."""

import pytest

from tests.gateway.conftest import CHAT, MODEL, chat_body, model_card, wait_until
from tests.gateway.releases.conftest import ALIAS, ALIASES, CANDIDATE, RELEASES, Releasing, short_policy


def test_an_alias_is_created_listed_used_and_deleted(releasing: Releasing):
    described = releasing.call("GET", f"{ALIASES}/{ALIAS}").json()
    assert (described["object"], described["model"], described["tenant"]) == ("alias", MODEL, releasing.tenant)
    assert releasing.call("GET", ALIASES).json() == {"object": "list", "data": [described]}

    listed = {model["id"]: model for model in releasing.call("GET", "/v1/models").json()["data"]}
    assert listed[ALIAS] | {"id": MODEL, "owned_by": "", "created": 0} == listed[MODEL] | {"owned_by": "", "created": 0}
    assert releasing.call("GET", f"/v1/models/{ALIAS}").json() == listed[ALIAS]
    answer = releasing.call("POST", CHAT, json=chat_body(model=ALIAS))
    assert (answer.status_code, answer.headers["x-flywheel-model"]) == (200, MODEL)

    assert releasing.call("DELETE", f"{ALIASES}/{ALIAS}").json()["deleted"] is True
    assert releasing.call("POST", CHAT, json=chat_body(model=ALIAS)).json()["error"]["code"] == "model_not_found"
    assert releasing.call("GET", f"{ALIASES}/{ALIAS}").status_code == 404


def test_what_cannot_be_an_alias_is_refused_by_its_field(releasing: Releasing, redis_sync):
    small = model_card("small", context_length=64)
    releasing.serving.register(redis_sync, small, model_card("embedder", task="embed"))
    wait_until(lambda: {"small", "embedder"} <= releasing.serving.models().keys())
    for path, body, status, param in (
        (ALIASES, {"name": ALIAS, "model": MODEL}, 409, "name"),
        (ALIASES, {"name": MODEL, "model": MODEL}, 400, "name"),
        (ALIASES, {"name": "no good", "model": MODEL}, 400, "name"),
        (ALIASES, {"name": "other", "model": "nothing"}, 404, "model"),
        (ALIASES, {"name": "other"}, 400, "model"),
        (RELEASES, {"alias": "nothing", "candidate": CANDIDATE}, 404, "alias"),
        (RELEASES, {"alias": ALIAS, "candidate": "nothing"}, 404, "model"),
        (RELEASES, {"alias": ALIAS, "candidate": MODEL}, 400, "candidate"),
        (RELEASES, {"alias": ALIAS, "candidate": "small"}, 400, "candidate"),
        (RELEASES, {"alias": ALIAS, "candidate": "embedder"}, 400, "candidate"),
        (RELEASES, {"alias": ALIAS, "candidate": CANDIDATE, "evaluation_file": "file-1"}, 400, "evaluation_file"),
        (RELEASES, {"alias": ALIAS, "candidate": CANDIDATE, "policy": {"canary": []}}, 400, "policy"),
        (RELEASES, {"alias": ALIAS, "candidate": CANDIDATE, "policy": {"canry": []}}, 400, "policy.canry"),
    ):
        answer = releasing.call("POST", path, json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), (body, answer.text)

    evaluated = short_policy(evaluation={"similarity": {"min_difference": 0}})
    body = {"alias": ALIAS, "candidate": CANDIDATE, "policy": evaluated}
    assert releasing.call("POST", RELEASES, json=body).json()["error"]["code"] == "missing_required_parameter"
    wrong = releasing.call("POST", RELEASES, json=body | {"evaluation_file": "file-1"}).json()["error"]
    assert (wrong["code"], wrong["param"]) == ("invalid_value", "evaluation_file")


def test_a_release_is_one_at_a_time_and_ends_by_hand(releasing: Releasing):
    release = releasing.start()
    again = releasing.call("POST", RELEASES, json={"alias": ALIAS, "candidate": CANDIDATE})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
    assert releasing.call("DELETE", f"{ALIASES}/{ALIAS}").status_code == 409

    promoted = releasing.call("POST", f"{RELEASES}/{release}/promote", json={"reason": "It is obvious."})
    assert (promoted.json()["state"], promoted.json()["share"]) == ("promoted", 1.0)
    answer = releasing.call("POST", CHAT, json=chat_body(model=ALIAS))
    assert answer.headers["x-flywheel-model"] == CANDIDATE
    assert releasing.call("POST", f"{RELEASES}/{release}/promote").status_code == 409

    assert releasing.call("POST", f"{RELEASES}/{release}/rollback").json()["state"] == "rolled_back"
    assert releasing.call("POST", CHAT, json=chat_body(model=ALIAS)).headers["x-flywheel-model"] == MODEL
    assert releasing.call("POST", f"{RELEASES}/{release}/rollback").status_code == 409

    found = releasing.release(release)
    assert [move["reason"] for move in found["moves"][1:]] == ["It is obvious.", "Rolled back by hand."]
    assert {move["actor"][:4] for move in found["moves"]} == {"key_"}
    assert [each["id"] for each in releasing.call("GET", RELEASES, params={"alias": ALIAS}).json()["data"]] == [release]


def test_a_model_that_an_alias_stands_for_is_not_deleted(releasing: Releasing, redis_sync):
    own = model_card("ft:own", tenant=releasing.tenant, kind="adapter", parent=MODEL)
    releasing.serving.register(redis_sync, own)
    wait_until(lambda: releasing.call("GET", "/v1/models/ft:own").status_code == 200)
    release = releasing.start(candidate="ft:own")
    refused = releasing.call("DELETE", "/v1/models/ft:own")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
    releasing.call("POST", f"{RELEASES}/{release}/rollback")
    assert releasing.call("DELETE", "/v1/models/ft:own").status_code == 200


@pytest.mark.parametrize("shared", [False, True])
def test_other_tenants_see_shared_aliases_only_and_by_them_the_models(releasing: Releasing, redis_sync, shared: bool):
    own = model_card("ft:private", tenant=releasing.tenant)
    releasing.serving.register(redis_sync, own)
    wait_until(lambda: releasing.call("GET", "/v1/models/ft:private").status_code == 200)
    name = f"helper-{shared}"
    releasing.call("POST", ALIASES, json={"name": name, "model": "ft:private", "shared": shared})

    stranger = releasing.gateway.new_key().secret
    theirs = Releasing(releasing.serving, releasing.candidate, stranger, "", releasing.rows)
    assert (name in {model["id"] for model in theirs.call("GET", "/v1/models").json()["data"]}) == shared
    assert theirs.call("GET", f"{ALIASES}/{name}").status_code == (200 if shared else 404)
    assert theirs.call("POST", CHAT, json=chat_body(model="ft:private")).json()["error"]["code"] == "model_not_found"
    code = theirs.call("POST", CHAT, json=chat_body(model=name)).json()["error"]["code"]
    assert code == ("no_engine_available" if shared else "model_not_found")  # it is known, and nobody has loaded it
    releasing.call("DELETE", f"{ALIASES}/{name}")


def test_only_a_key_of_scope_admin_may_release(releasing: Releasing):
    user = releasing.gateway.new_key(tenant=releasing.tenant, scopes=("inference", "jobs")).secret
    theirs = Releasing(releasing.serving, releasing.candidate, user, releasing.tenant, releasing.rows)
    assert theirs.call("POST", CHAT, json=chat_body(model=ALIAS)).status_code == 200
    for method, path in (("GET", ALIASES), ("POST", ALIASES), ("GET", RELEASES), ("POST", f"{RELEASES}/x/rollback")):
        assert theirs.call(method, path).status_code == 403
