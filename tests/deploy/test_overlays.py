"""What an operator applies: every overlay and the chart, as kustomize and Helm render them."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.evaluation.spec import read_spec
from contracts.settings import Settings
from deploy.checks.manifests import check_schemas, value_files, values
from deploy.checks.network import Network, Peer
from deploy.checks.render import CHART, KUSTOMIZATIONS, RenderFailed, helm, lint, pod_template
from deploy.checks.settings_names import variables
from gateway.__main__ import SHUTDOWN_GRACE_S
from inference.catalogue import Catalogue
from k8s.make import made, plain_name
from tests.debian import program
from tests.deploy.rendered import container, find, rendered, settings, texts
from tests.deploy.test_observability import OUR_METRIC, our_metrics
from tests.processes import ROOT


def test_every_rendering_is_valid_and_a_misspelt_field_is_not(tmp_path: Path) -> None:
    """By the schemas of Kubernetes 1.37, KEDA, the Prometheus operator and Kubeflow's Trainer."""
    files = [tmp_path / f"{name.replace('/', '-')}.yaml" for name in texts()]
    for file, text in zip(files, texts().values(), strict=True):
        file.write_text(text)
    chart = tmp_path / "chart.yaml"
    chart.write_text(yaml.safe_dump_all(helm({"secrets": {"existing": "mine"}})))
    misspelt = []
    for kind, field in [
        ("Deployment", "replica"),
        ("NetworkPolicy", "podSelectors"),
        ("ScaledObject", "trigger"),
        ("ServiceMonitor", "endpoint"),
    ]:
        wrong = next(each for each in rendered("overlays/production") if each["kind"] == kind)
        wrong["spec"][field] = 1
        misspelt.append(wrong)
    bad = tmp_path / "misspelt.yaml"
    bad.write_text(yaml.safe_dump_all(misspelt))

    outcome = check_schemas([*files, chart, bad])

    assert [fault.split(": ")[:2] for fault in outcome.faults] == [
        ["misspelt.yaml", f"{each['kind']} {each['metadata']['name']}"] for each in misspelt
    ]


@pytest.mark.parametrize(("file", "content"), [pytest.param(*each, id=each[0].name) for each in made()])
def test_what_is_made_of_other_files_is_up_to_date(file: Path, content: str) -> None:
    """Else run `make manifests`."""
    assert file.read_text() == content


def comparable(manifest: dict[str, Any]) -> dict[str, Any]:
    """Without what a chart cannot have: names by content. And without its own, the sum of the settings."""
    text = yaml.safe_dump(manifest)
    for word in set(text.split()):
        text = text.replace(word, plain_name(word))
    plain = yaml.safe_load(text)
    plain.get("spec", {}).get("template", {}).get("metadata", {}).pop("annotations", None)
    return plain


def test_the_chart_with_its_defaults_is_the_base() -> None:
    chart = {
        (each["kind"], each["metadata"]["name"]): comparable(each)
        for each in helm(
            {"secrets": {"existing": ""} | {"pepper": "p" * 32, "databaseUrl": "postgresql+psycopg://somewhere"}}
        )
    }
    base = {(each["kind"], plain_name(each["metadata"]["name"])): comparable(each) for each in rendered("base")}
    del base["Namespace", "flywheel"]
    secret, placeholders = chart.pop(("Secret", "flywheel-secrets")), base.pop(("Secret", "flywheel-secrets"))
    assert secret["stringData"].keys() == placeholders["data"].keys()
    assert chart == base


def test_values_of_the_chart_arrive_where_they_belong() -> None:
    chart = helm(
        {
            "images": {"engine": {"repository": "registry.example.com/engine-cuda", "tag": "2"}},
            "model": "qwen3-8b",
            "replicas": {"engine": 3},
            "engineStart": {"budgetSeconds": 4000},
            "resources": {"engine": {"limits": {"nvidia.com/gpu": "1"}}},
            "nodeSelector": {"engine": {"gpu": "true"}},
            "settings": {"FLYWHEEL_REDIS_URL": "redis://elsewhere:6379/0"},
            "secrets": {"existing": "mine"},
            "files": {"class": "shared"},
        },
        namespace="team",
    )
    engine = find(chart, "Deployment", "engine")
    assert engine["metadata"]["namespace"] == "team"
    assert engine["spec"]["replicas"] == 3
    assert engine["spec"]["template"]["spec"]["nodeSelector"] == {"gpu": "true"}
    only = container(engine)
    assert only["image"] == "registry.example.com/engine-cuda:2"
    assert only["command"][-1] == "qwen3-8b"
    assert only["startupProbe"]["failureThreshold"] == 400
    assert only["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": "1"}
    assert only["envFrom"][1] == {"secretRef": {"name": "mine"}}
    assert not [each for each in chart if each["kind"] == "Secret"]
    assert find(chart, "ConfigMap", "flywheel-settings")["data"]["FLYWHEEL_REDIS_URL"] == "redis://elsewhere:6379/0"
    assert find(chart, "PersistentVolumeClaim", "flywheel-files")["spec"]["storageClassName"] == "shared"


def test_a_catalogue_reaches_engines_and_workers_and_a_changed_one_restarts_them() -> None:
    told = values(CHART / "../values/gpu.yaml")
    chart = helm(told)
    catalogue = find(chart, "ConfigMap", "flywheel-catalogue")["data"]["catalogue.yaml"]
    engine = find(chart, "Deployment", "engine")
    Catalogue.model_validate(yaml.safe_load(catalogue)).require(container(engine)["command"][-1])
    folder, file = settings(chart, engine)["FLYWHEEL_ENGINE__CATALOGUE"].rsplit("/", 1)
    assert file == "catalogue.yaml"
    for workload in (engine, find(chart, "Deployment", "worker")):
        (volume,) = (each for each in container(workload)["volumeMounts"] if each["mountPath"] == folder)
        volumes = workload["spec"]["template"]["spec"]["volumes"]
        assert {"name": volume["name"], "configMap": {"name": "flywheel-catalogue"}} in volumes
    assert engine["spec"]["strategy"] == {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}

    told["catalogue"]["models"][0]["context_length"] = 4096
    restarted = find(helm(told), "Deployment", "engine")
    assert restarted["spec"]["template"]["metadata"] != engine["spec"]["template"]["metadata"]


@pytest.mark.parametrize("file", value_files(), ids=lambda file: file.stem)
def test_files_of_values_are_taken_by_the_chart(file: Path) -> None:
    assert lint(values(file)) == []
    assert find(helm(values(file)), "Deployment", "gateway")


def test_the_linter_finds_a_value_that_the_chart_does_not_know() -> None:
    assert any("modle" in fault for fault in lint({"modle": "qwen3-8b"}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"secrets": {}},
        {"secrets": {"existing": "mine"}, "settings": {"FLYWHEEL_REDIS_UR": "redis://elsewhere"}},
        {"secrets": {"existing": "mine"}, "replicas": {"engine": "many"}},
        {"secrets": {"existing": "mine"}, "modle": "qwen3-8b"},
        {"secrets": {"existing": "mine"}, "catalogue": {"models": [{"name": "qwen3-8b", "context_length": 32768}]}},
    ],
    ids=["no secrets", "unknown setting", "wrong type", "unknown value", "a model without weights"],
)
def test_the_chart_refuses_values_that_cannot_be_meant(wrong: dict[str, Any]) -> None:
    with pytest.raises(RenderFailed):
        helm(wrong)


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_every_variable_of_ours_is_a_setting(name: str) -> None:
    config = next(
        each for each in rendered(name) if each["kind"] == "ConfigMap" and "settings" in each["metadata"]["name"]
    )
    assert {each for each in config["data"] if each.startswith("FLYWHEEL_")} <= set(variables(Settings))


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_engines_get_the_time_that_they_need_to_start_and_to_drain(name: str) -> None:
    engine = find(rendered(name), "Deployment", "engine")
    told = settings(rendered(name), engine)
    defaults = Settings().engine
    start_s = float(told.get("FLYWHEEL_ENGINE__START_TIMEOUT_S", defaults.start_timeout_s))
    drain_s = float(told.get("FLYWHEEL_ENGINE__DRAIN_TIMEOUT_S", defaults.drain_timeout_s))
    probe = container(engine)["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] > start_s
    assert engine["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > drain_s


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_gateways_are_let_drain_and_end_their_answers(name: str) -> None:
    gateway = find(rendered(name), "Deployment", "gateway")
    drain_s = float(settings(rendered(name), gateway)["FLYWHEEL_GATEWAY__DRAIN_S"])
    probe = container(gateway)["readinessProbe"]
    assert drain_s > probe["periodSeconds"]
    assert gateway["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > drain_s + SHUTDOWN_GRACE_S


def test_engines_on_gpus_have_a_model_of_their_catalogue_and_its_weights() -> None:
    gpu = rendered("overlays/gpu")
    (catalogue,) = (each for each in gpu if each["kind"] == "ConfigMap" and "catalogue" in each["metadata"]["name"])
    models = Catalogue.model_validate(yaml.safe_load(catalogue["data"]["catalogue.yaml"])).models
    engine, weights = container(find(gpu, "Deployment", "engine")), container(find(gpu, "Job", "weights"))
    assert engine["command"][-1] == weights["command"][-1] == models[0].name
    assert engine["image"] == weights["image"]
    assert engine["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in weights["resources"]["limits"]
    told = settings(gpu, find(gpu, "Job", "weights"))
    for each in (engine, weights):
        mounts = {mount["mountPath"] for mount in each["volumeMounts"]}
        assert {str(Path(told["FLYWHEEL_ENGINE__CATALOGUE"]).parent), "/var/lib/flywheel"} <= mounts
    assert told["HF_HOME"].startswith("/var/lib/flywheel/")


def test_production_holds_no_secret_and_takes_them_from_a_vault() -> None:
    production = rendered("overlays/production")
    assert not [each for each in production if each["kind"] == "Secret"]
    external = find(production, "ExternalSecret", "flywheel-secrets")["spec"]
    (placeholders,) = (each for each in rendered("base") if each["kind"] == "Secret")
    assert {each["secretKey"] for each in external["data"]} == placeholders["data"].keys()
    for each in production:
        if each["kind"] == "Deployment":
            assert {"secretRef": {"name": external["target"]["name"]}} in container(each)["envFrom"]


def test_users_reach_the_gateways_service() -> None:
    service = find(rendered("base"), "Service", "gateway")
    (port,) = service["spec"]["ports"]
    (rule,) = find(rendered("overlays/production"), "HTTPRoute", "gateway")["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": "gateway", "port": port["port"]}]
    ingress = yaml.safe_load((ROOT / "k8s/components/ingress/ingress.yaml").read_text())
    (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"] == {"name": "gateway", "port": {"name": port["name"]}}
    annotations = ingress["metadata"]["annotations"]
    gateway = Settings().gateway
    assert int(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > gateway.idle_timeout_s
    assert int(annotations["nginx.ingress.kubernetes.io/proxy-body-size"].rstrip("m")) << 20 > gateway.max_upload_bytes


def test_engines_scale_by_metrics_that_exist(tmp_path: Path) -> None:
    production = rendered("overlays/production")
    scaler = find(production, "ScaledObject", "engine")["spec"]
    queries = [trigger["metadata"]["query"] for trigger in scaler["triggers"]]
    assert {trigger["name"] for trigger in scaler["triggers"]} == {"queue", "kv-cache", "first-token"}
    assert set(OUR_METRIC.findall(" ".join(queries))) <= our_metrics()
    file = tmp_path / "queries.yml"
    as_rules = [{"record": f"query_{number}", "expr": query} for number, query in enumerate(queries)]
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": as_rules}]}))
    subprocess.run([*program("promtool"), "check", "rules", file], check=True, capture_output=True)
    assert "replicas" not in find(production, "Deployment", "engine")["spec"]


def test_backups_are_made_of_what_gateways_use_and_old_ones_go_last() -> None:
    job = pod_template(find(rendered("overlays/production"), "CronJob", "backup"))
    assert job is not None
    (only,) = job["spec"]["containers"]
    gateway = container(find(rendered("overlays/production"), "Deployment", "gateway"))
    assert only["envFrom"] == gateway["envFrom"]
    assert only["command"][:2] == ["sh", "-euc"]
    script = only["command"][2]
    assert script.index("python -m cli backup") < script.index("-exec rm")
    told = {each["name"]: each["value"] for each in only["env"]}
    assert told["BACKUP_TO"] in {each["mountPath"] for each in only["volumeMounts"]}


def test_a_failed_backup_leaves_old_ones_and_a_good_one_prunes_them(tmp_path: Path) -> None:
    """The CronJob's own script, with a `python` that makes the backup or fails."""
    job = pod_template(find(rendered("overlays/production"), "CronJob", "backup"))
    assert job is not None
    script = job["spec"]["containers"][0]["command"][2]
    backups, python = tmp_path / "backups", tmp_path / "bin/python"
    for folder in (python.parent, backups / "2020-01-01T02-30-00", backups / "lost+found"):
        folder.mkdir(parents=True)
        os.utime(folder, (0, 0))
    said = {"PATH": f"{python.parent}:/usr/bin:/bin", "BACKUP_TO": str(backups), "KEEP_DAYS": "14"}
    for ends, left in ((1, 1), (0, 0)):
        python.write_text(f'#!/bin/sh\n[ "$*" != "${{*#-m cli backup }}" ] && exit {ends}\nexit 9\n')
        python.chmod(0o755)
        done = subprocess.run(["sh", "-euc", script], env=said, check=False)
        assert done.returncode == ends
        assert len(list(backups.glob("2020*"))) == left
    assert (backups / "lost+found").exists()


def test_the_nightly_eval_can_be_read_and_asks_the_model_that_is_served() -> None:
    spec, rows = read_spec(ROOT / "k8s/components/evals/eval.yaml")
    assert spec.criteria
    assert rows
    production = rendered("overlays/production")
    job = pod_template(find(production, "CronJob", "evals"))
    assert job is not None
    (only,) = job["spec"]["containers"]
    assert only["command"][-1] == container(find(production, "Deployment", "engine"))["command"][-1]
    (config,) = (each["configMap"]["name"] for each in job["spec"]["volumes"] if "configMap" in each)
    assert find(production, "ConfigMap", config)["data"].keys() == {"eval.yaml", "rows.jsonl"}


def test_monitors_find_the_services_and_name_jobs_as_the_rules_do() -> None:
    production = rendered("overlays/production")
    for monitor in (each for each in production if each["kind"] == "ServiceMonitor"):
        labels = monitor["spec"]["selector"]["matchLabels"]
        (service,) = (
            each
            for each in production
            if each["kind"] == "Service" and labels.items() <= each["metadata"]["labels"].items()
        )
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
        job = service["metadata"]["labels"][monitor["spec"]["jobLabel"]]
        assert f'up{{job="{job}"}}' in (ROOT / "deploy/observability/rules/services.yml").read_text()


UNITS = {"": 1, "m": 0.001, "Mi": 1 << 20, "Gi": 1 << 30}


def quantity(text: str) -> float:
    number = text.rstrip("mMGi")
    return float(number) * UNITS[text.removeprefix(number)]


def test_the_quota_holds_every_workload_at_its_most() -> None:
    production = rendered("overlays/production")
    most = {
        "gateway": find(production, "HorizontalPodAutoscaler", "gateway")["spec"]["maxReplicas"],
        "engine": find(production, "ScaledObject", "engine")["spec"]["maxReplicaCount"],
    }
    needed: dict[str, float] = {}
    for each in production:
        if (template := pod_template(each)) is not None:
            count = most.get(each["metadata"]["name"], each["spec"].get("replicas", 1))
            resources = template["spec"]["containers"][0]["resources"]
            for kind, name in [("requests", "cpu"), ("requests", "memory"), ("limits", "memory")]:
                key = f"{kind}.{name}"
                needed[key] = needed.get(key, 0) + count * quantity(resources[kind][name])
            gpus = resources["limits"].get("nvidia.com/gpu", "0")
            needed["requests.nvidia.com/gpu"] = needed.get("requests.nvidia.com/gpu", 0) + count * int(gpus)
    hard = find(production, "ResourceQuota", "flywheel")["spec"]["hard"]
    assert {key for key, value in needed.items() if value > quantity(hard[key])} == set()
    assert {key for key, value in needed.items() if value < quantity(hard[key]) / 3} == set(), "it bounds nothing"


def test_an_engine_that_spans_machines_has_as_many_as_its_model_is_split_into() -> None:
    large = rendered("multi-node")
    group = find(large, "LeaderWorkerSet", "engine-large")["spec"]["leaderWorkerTemplate"]
    (leader,), (follower,) = (group[f"{which}Template"]["spec"]["containers"] for which in ("leader", "worker"))
    (catalogue,) = (each for each in large if each["kind"] == "ConfigMap" and "catalogue" in each["metadata"]["name"])
    models = Catalogue.model_validate(yaml.safe_load(catalogue["data"]["catalogue.yaml"]))
    (model,) = (each for each in models.models if each.engine.pipeline_parallel_size > 1)
    assert group["size"] == model.engine.pipeline_parallel_size
    for each, module in ((leader, "inference.agent"), (follower, "inference.follower")):
        assert f"exec python -m {module} {model.name}" in each["command"][-1]
        assert set(re.findall(r"FLYWHEEL_[A-Z_]+", each["command"][-1])) <= set(variables(Settings))
        assert each["resources"]["limits"]["nvidia.com/gpu"] == str(model.engine.tensor_parallel_size)
        assert each["image"] == container(find(large, "Deployment", "engine"))["image"]
    assert model.name in container(find(large, "Job", "weights"))["command"][-1]
    network = Network(large)
    machines = [Peer(which, group[f"{which}Template"]["metadata"]["labels"]) for which in ("leader", "worker")]
    assert network.may(machines[0], machines[1], 29501)
    assert network.may(machines[1], machines[0], 41234)
    assert network.may(network.pods["gateway"], machines[0], 8100)
    assert not network.may(network.pods["gateway"], machines[1], 8100)
    assert not network.may(network.pods["worker"], machines[1], 29501)
