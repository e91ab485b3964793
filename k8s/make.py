"""`make manifests`: writes what is made of other files, so that there is one truth of each.

components/monitoring/rules.yaml holds deploy/observability/rules; chart/ what k8s/base renders to, with values where
installations differ.
"""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from contracts.settings import Settings
from deploy.checks.render import CHART, REPOSITORY, Manifest, kustomize, manifests
from deploy.checks.settings_names import variables
from inference.catalogue import Catalogue

MADE = "# Made by `make manifests` from {}. Do not edit.\n"
RULES = REPOSITORY / "deploy/observability/rules"
MONITORING = REPOSITORY / "k8s/components/monitoring/rules.yaml"
WORKLOADS = ("gateway", "engine", "worker", "releases", "cli", "valkey")
COUNTED = ("engine", "worker", "releases")
QUANTITY = {"type": ["string", "number"], "pattern": r"^[0-9.]+(m|[KMGT]i?)?$"}
MOUNTED = "/etc/flywheel"
CATALOGUE = """\
{{- if .Values.catalogue }}
apiVersion: v1
kind: ConfigMap
metadata:
  labels:
    app.kubernetes.io/part-of: flywheel
  name: flywheel-catalogue
  namespace: {{ .Release.Namespace }}
data:
  catalogue.yaml: |
    {{- toYaml .Values.catalogue | nindent 4 }}
{{- end }}
"""


def prometheus_rule() -> str:
    groups = [group for file in sorted(RULES.glob("*.yml")) for group in yaml.safe_load(file.read_text())["groups"]]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "flywheel"},
        "spec": {"groups": groups},
    }
    return MADE.format("deploy/observability/rules") + _dump(rule)


def chart() -> dict[str, str]:
    """The chart's files by their paths."""
    base = manifests(kustomize("base"))
    values = _values(base)
    files = {
        "Chart.yaml": _dump(_about()),
        "values.yaml": _dump(values),
        "values.schema.json": json.dumps(_schema(values), indent=2) + "\n",
    }
    for manifest in base:
        manifest["metadata"]["name"] = plain_name(manifest["metadata"]["name"])
        if manifest["kind"] != "Namespace":  # `helm install --create-namespace` makes it
            write = _secret_template if manifest["kind"] == "Secret" else _template
            files[f"templates/{manifest['metadata']['name']}-{manifest['kind'].lower()}.yaml"] = write(manifest)
    files["templates/flywheel-catalogue-configmap.yaml"] = CATALOGUE
    comments = {path: "" if path.endswith(".json") else MADE.format("k8s/base") for path in files}
    return {path: comments[path] + text for path, text in files.items()}


def _about() -> dict[str, str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return {
        "apiVersion": "v2",
        "name": project["name"],
        "description": project["description"],
        "type": "application",
        "version": project["version"],
        "appVersion": project["version"],
    }


def _values(base: list[Manifest]) -> dict[str, Any]:
    objects = {(each["kind"], plain_name(each["metadata"]["name"])): each for each in base}
    scaler = objects["HorizontalPodAutoscaler", "gateway"]["spec"]
    workloads = {name: objects.get(("Deployment", name)) or objects["StatefulSet", name] for name in WORKLOADS}
    pods = {name: each["spec"]["template"]["spec"]["containers"][0] for name, each in workloads.items()}
    probe = pods["engine"]["startupProbe"]
    return {
        "images": {name: _image(pods[name]["image"]) for name in WORKLOADS},
        "model": pods["engine"]["command"][-1],
        "catalogue": {},
        # Longer than FLYWHEEL_ENGINE__START_TIMEOUT_S and FLYWHEEL_ENGINE__DRAIN_TIMEOUT_S in the settings.
        "engineStart": {"budgetSeconds": probe["failureThreshold"] * probe["periodSeconds"]},
        "engineStop": {
            "graceSeconds": workloads["engine"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        },
        "engineUpdate": {},
        "resources": {name: pods[name]["resources"] for name in WORKLOADS},
        "replicas": {name: workloads[name]["spec"]["replicas"] for name in COUNTED},
        "gateways": {"min": scaler["minReplicas"], "max": scaler["maxReplicas"]},
        "nodeSelector": {"engine": {}, "worker": {}},
        "tolerations": {"engine": [], "worker": []},
        "settings": objects["ConfigMap", "flywheel-settings"]["data"],
        "secrets": {"existing": "", "pepper": "", "databaseUrl": ""},
        "files": {
            "size": objects["PersistentVolumeClaim", "flywheel-files"]["spec"]["resources"]["requests"]["storage"],
            "class": "",
        },
    }


def _schema(values: dict[str, Any]) -> dict[str, Any]:
    resources = {
        "type": "object",
        "properties": {kind: {"type": "object", "additionalProperties": QUANTITY} for kind in ("requests", "limits")},
        "additionalProperties": False,
    }
    image = _object({"repository": {"type": "string", "minLength": 1}, "tag": {"type": "string", "minLength": 1}})
    count = {"type": "integer", "minimum": 0}
    pods = {"type": ["integer", "string"], "pattern": "^[0-9]+%$"}
    catalogue = Catalogue.model_json_schema()
    schema = _object(
        {
            "images": _object(dict.fromkeys(values["images"], image)),
            "model": {"type": "string", "minLength": 1},
            "catalogue": {"anyOf": [{"type": "object", "maxProperties": 0}, {"$ref": "#/$defs/Catalogue"}]},
            "engineStart": _object({"budgetSeconds": {"type": "integer", "minimum": 60}}),
            "engineStop": _object({"graceSeconds": count}),
            "engineUpdate": _object(dict.fromkeys(("maxSurge", "maxUnavailable"), pods)),
            "resources": _object(dict.fromkeys(values["resources"], resources)),
            "replicas": _object(dict.fromkeys(values["replicas"], count)),
            "gateways": _object({"min": {"type": "integer", "minimum": 1}, "max": {"type": "integer", "minimum": 1}}),
            "nodeSelector": _object({key: {"type": "object"} for key in values["nodeSelector"]}),
            "tolerations": _object({key: {"type": "array"} for key in values["tolerations"]}),
            "settings": {
                "type": "object",
                # Others' variables, for example HF_ENDPOINT or HTTPS_PROXY, are theirs to check.
                "propertyNames": {"anyOf": [{"enum": sorted(variables(Settings))}, {"not": {"pattern": "^FLYWHEEL_"}}]},
                "additionalProperties": {"type": "string"},
            },
            "secrets": _object({key: {"type": "string"} for key in values["secrets"]}),
            "files": _object({"size": QUANTITY, "class": {"type": "string"}}),
        }
    )
    definitions = catalogue.pop("$defs") | {"Catalogue": catalogue}
    return {"$schema": "http://json-schema.org/draft-07/schema#", **schema, "$defs": definitions}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _template(manifest: Manifest) -> str:
    """The manifest as YAML, in which expressions of Helm stand where values belong."""
    places = _Places()
    name, kind = manifest["metadata"]["name"], manifest["kind"]
    manifest["metadata"]["namespace"] = places.put("{{ .Release.Namespace }}")
    if kind == "HorizontalPodAutoscaler":
        manifest["spec"]["minReplicas"] = places.put("{{ .Values.gateways.min }}")
        manifest["spec"]["maxReplicas"] = places.put("{{ .Values.gateways.max }}")
    if kind == "ConfigMap":
        manifest["data"] = places.put_block(
            "{{- toYaml .Values.settings | nindent 2 }}\n  {{- if .Values.catalogue }}\n"
            f"  FLYWHEEL_ENGINE__CATALOGUE: {MOUNTED}/catalogue.yaml\n  {{{{- end }}}}"
        )
    if kind == "PersistentVolumeClaim":
        manifest["spec"]["resources"]["requests"]["storage"] = places.put("{{ .Values.files.size }}")
        manifest["spec"]["storageClassName"] = places.put_line(
            "{{- with .Values.files.class }}\n  storageClassName: {{ . }}\n  {{- end }}"
        )
    if name == "engine" and kind == "Deployment":
        manifest["spec"]["strategy"] = places.put_line(
            "{{- with .Values.engineUpdate }}\n  strategy:\n    rollingUpdate: {{- toYaml . | nindent 6 }}\n"
            "  {{- end }}"
        )
    if name in COUNTED and "replicas" in manifest.get("spec", {}):
        manifest["spec"]["replicas"] = places.put(f"{{{{ .Values.replicas.{name} }}}}")
    if "template" in manifest.get("spec", {}):
        _open_pod(manifest["spec"]["template"], name, places)
    return places.fill(_dump(manifest))


def _open_pod(template: Manifest, name: str, places: "_Places") -> None:
    pod = template["spec"]
    (container,) = pod["containers"]
    image = "gateway" if name == "flywheel-migrate" else name
    container["image"] = places.put(f"{{{{ .Values.images.{image}.repository }}}}:{{{{ .Values.images.{image}.tag }}}}")
    if name in WORKLOADS:
        container["resources"] = places.put_block(f"{{{{- toYaml .Values.resources.{name} | nindent 12 }}}}")
    if name == "engine":
        container["command"][-1] = places.put("{{ .Values.model | quote }}")
        container["startupProbe"]["failureThreshold"] = places.put(
            f"{{{{ div .Values.engineStart.budgetSeconds {container['startupProbe']['periodSeconds']} }}}}"
        )
        pod["terminationGracePeriodSeconds"] = places.put("{{ .Values.engineStop.graceSeconds }}")
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            source["configMapRef"]["name"] = plain_name(source["configMapRef"]["name"])
        else:
            source["secretRef"]["name"] = places.put('{{ .Values.secrets.existing | default "flywheel-secrets" }}')
    if name in ("engine", "worker"):
        for option in ("nodeSelector", "tolerations"):
            pod[option] = places.put_line(
                f"{{{{- with .Values.{option}.{name} }}}}\n      {option}: {{{{- toYaml . | nindent 8 }}}}\n"
                "      {{- end }}"
            )
        # Workers read it where they run studies.
        mount = ("mountPath: " + MOUNTED, "name: catalogue", "readOnly: true")
        container["volumeMounts"].append(_if_catalogue(places, 8, *mount))
        pod["volumes"].append(_if_catalogue(places, 6, "configMap: {name: flywheel-catalogue}", "name: catalogue"))
    if "envFrom" in container:
        # Kustomize names a ConfigMap by its content; here a changed one restarts pods by its sum.
        read = "list .Values.settings .Values.catalogue" if name in ("engine", "worker") else "list .Values.settings"
        template["metadata"]["annotations"] = {
            "flywheel/settings": places.put(f"{{{{ {read} | toJson | sha256sum }}}}")
        }


def _if_catalogue(places: "_Places", indent: int, *lines: str) -> str:
    """An item of a list that is there if installations bring a catalogue; `indent` spaces stand before it."""
    spaces = " " * indent
    item = f"\n{spaces}  ".join(lines)
    return places.put_line(f"{{{{- if .Values.catalogue }}}}\n{spaces}- {item}\n{spaces}{{{{- end }}}}")


def _secret_template(secret: Manifest) -> str:
    places = _Places()
    secret["metadata"]["namespace"] = places.put("{{ .Release.Namespace }}")
    del secret["data"]
    secret["stringData"] = {
        "FLYWHEEL_AUTH__PEPPER": places.put('{{ required "secrets.pepper" .Values.secrets.pepper | quote }}'),
        "FLYWHEEL_DATABASE_URL": places.put('{{ required "secrets.databaseUrl" .Values.secrets.databaseUrl | quote }}'),
    }
    body = places.fill(_dump(secret))
    return f"{{{{- if not .Values.secrets.existing }}}}\n{body}{{{{- end }}}}\n"


class _Places:
    """Marks that survive being written as YAML, and what is to stand in their places."""

    def __init__(self) -> None:
        self._expressions: list[tuple[str, str]] = []

    def put(self, expression: str) -> str:
        """In the place of a scalar."""
        return self._mark("{}", expression)

    def put_block(self, expression: str) -> str:
        """In the place of what stands below a key."""
        return self._mark(" {}", f" {expression}")

    def put_line(self, lines: str) -> str:
        """In the place of a key and its value."""
        return self._mark("line {}", lines)

    def fill(self, text: str) -> str:
        for mark, expression in self._expressions:
            if mark.startswith("line "):
                key = mark.removeprefix("line ")
                (line,) = (each for each in text.splitlines() if each.endswith(key))
                text = text.replace(line, f"{' ' * (len(line) - len(line.lstrip()))}{expression}")
            else:
                text = text.replace(mark, expression)
        return text

    def _mark(self, form: str, expression: str) -> str:
        mark = f"PLACE-{len(self._expressions)}-"
        self._expressions.append((form.format(mark), expression))
        return mark


def _image(image: str) -> dict[str, str]:
    repository, _, tag = image.rpartition(":")
    return {"repository": repository, "tag": tag}


def plain_name(name: str) -> str:
    """Without the sum of its content that kustomize appends to the names of what it generates."""
    return re.sub(r"^(flywheel-settings|flywheel-secrets)-[a-z0-9]{10}$", r"\1", name)


def _dump(data: Any) -> str:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110)


def made() -> Iterator[tuple[Path, str]]:
    """Every file and its content."""
    yield MONITORING, prometheus_rule()
    for path, text in chart().items():
        yield CHART / path, text


if __name__ == "__main__":
    (CHART / "templates").mkdir(parents=True, exist_ok=True)
    wanted = dict(made())
    for stale in {each for each in CHART.rglob("*") if each.is_file()} - wanted.keys():
        stale.unlink()
    for file, content in wanted.items():
        file.write_text(content)
