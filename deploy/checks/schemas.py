"""`python -m deploy.checks.schemas FILE…`: checks manifests against the schemas of Kubernetes and of the operators.

Runs in the environment `deploy`, whose packages hold the schemas. Fields that a schema does not name are errors. Prints
what is wrong, and the kinds that no package has a schema for.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as prometheus
from kubeflow_trainer_api import models as kubeflow

KUBERNETES = "1.37"
OPERATORS = {
    "keda.sh/v1alpha1/ScaledObject": keda.ScaledObject,
    "monitoring.coreos.com/v1/PrometheusRule": prometheus.PrometheusRule,
    "monitoring.coreos.com/v1/ServiceMonitor": prometheus.ServiceMonitor,
    "trainer.kubeflow.org/v1alpha1/TrainJob": kubeflow.TrainerV1alpha1TrainJob,
    "trainer.kubeflow.org/v1alpha1/TrainingRuntime": kubeflow.TrainerV1alpha1TrainingRuntime,
}
WITHOUT_SCHEMA = {
    "external-secrets.io/v1/ExternalSecret",
    "gateway.networking.k8s.io/v1/HTTPRoute",
    "leaderworkerset.x-k8s.io/v1/LeaderWorkerSet",
}


def closed(schema: Any) -> Any:
    """The same schema, which takes no fields but those that it names."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "actual_instance" in schema.get("properties", {}):
        return {"type": ["string", "number"]}  # Kubeflow's models wrap quantities, and what is a number or a string
    shut = {name: closed(part) for name, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        shut.setdefault("additionalProperties", False)
    return shut


def faults(manifest: dict[str, Any]) -> Iterator[str]:
    kind = f"{manifest['apiVersion']}/{manifest['kind']}"
    if kind in OPERATORS:
        schema = closed(OPERATORS[kind].model_json_schema(by_alias=True))
        for error in jsonschema.Draft202012Validator(schema).iter_errors(manifest):
            deepest = jsonschema.exceptions.best_match([error])
            yield f"{deepest.json_path}: {deepest.message[:300]}"
    elif kind not in WITHOUT_SCHEMA:
        try:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{'.'.join(map(str, error.path))}: {error.message[:300]}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield error.message


def main(files: list[str]) -> int:
    failed, unchecked, seen = False, set[str](), set[str]()
    for file in files:
        manifests = [each for each in yaml.safe_load_all(Path(file).read_text()) if each is not None]
        for manifest in manifests:
            if f"{manifest['apiVersion']}/{manifest['kind']}" in WITHOUT_SCHEMA:
                unchecked.add(manifest["kind"])
            written = yaml.safe_dump(manifest)
            if written in seen:
                continue  # overlays share most of the base
            seen.add(written)
            for fault in faults(manifest):
                print(f"{Path(file).name}: {manifest['kind']} {manifest['metadata']['name']}: {fault}")
                failed = True
        print(f"{Path(file).name}: {len(manifests)} manifests")
    if unchecked:
        print(f"without a schema: {', '.join(sorted(unchecked))}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
