"""The YAML for what ran: a Knative Service, a Cloud Run service, a KEDA ScaledObject, each checked against its schema.

The schemas are excerpts (``schemas.json``, where sources and commits stand). A field that an excerpt does not know is an
error here; an API server would drop it or refuse it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import jsonschema
import yaml

from beyondlab.kit import check
from beyondlab.knative import kpa

PREFIX = "autoscaling.knative.dev/"
KINDS = ("knative", "cloud-run", "keda")


@dataclass(frozen=True)
class Service:
    """What was deployed: enough for every manifest. ``traffic``: revision -> per cent; empty for all to the latest."""

    name: str
    image: str
    revision: str = ""
    concurrency: int = 0
    timeout: int = 300
    cpu: str = "1"
    memory: str = "512Mi"
    min_scale: int = 0
    max_scale: int = 0
    window: str = ""
    target: str = ""
    env: Mapping[str, str] | None = None
    traffic: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        if not self.name or not self.image:
            raise ValueError(f"name={self.name!r}, image={self.image!r}: a service needs both")
        if self.traffic and sum(self.traffic.values()) != 100:
            raise ValueError(f"traffic={dict(self.traffic)!r}: must sum to 100")

    @property
    def annotations(self) -> dict[str, str]:
        """The autoscaling annotations, as Knative names them."""
        wanted = {
            "min-scale": str(self.min_scale) if self.min_scale else "",
            "max-scale": str(self.max_scale) if self.max_scale else "",
            "window": self.window,
            "target": self.target,
        }
        return {PREFIX + key: value for key, value in wanted.items() if value}


def knative(service: Service) -> dict[str, Any]:
    """``serving.knative.dev/v1`` Service. Raises ValueError for an annotation that Knative's webhook refuses."""
    kpa.Settings().annotated(service.annotations)
    return _service(service, service.annotations)


def cloud_run(service: Service) -> dict[str, Any]:
    """The same object as Cloud Run's v1 API takes it: of the autoscaling annotations it knows two, by their old names."""
    old = {"min-scale": "minScale", "max-scale": "maxScale"}
    kept = {PREFIX + name: service.annotations[PREFIX + key] for key, name in old.items() if PREFIX + key in service.annotations}
    return _service(service, kept)


def _service(service: Service, annotations: Mapping[str, str]) -> dict[str, Any]:
    container: dict[str, Any] = {
        "image": service.image,
        "ports": [{"containerPort": 8080}],
        "resources": {"limits": {"cpu": service.cpu, "memory": service.memory}},
    }
    if service.env:
        container["env"] = [{"name": name, "value": value} for name, value in service.env.items()]
    metadata: dict[str, Any] = {"annotations": dict(annotations)} if annotations else {}
    if service.revision:
        metadata["name"] = f"{service.name}-{service.revision}"
    spec: dict[str, Any] = {
        "template": {
            "metadata": metadata,
            "spec": {"containerConcurrency": service.concurrency, "timeoutSeconds": service.timeout, "containers": [container]},
        }
    }
    if service.traffic:
        spec["traffic"] = [
            {"revisionName": f"{service.name}-{revision}", "percent": share} for revision, share in service.traffic.items()
        ]
    return {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": service.name}, "spec": spec}


def scaled_object(service: Service, *, queue: str, host: str, length: int = 5) -> dict[str, Any]:
    """``keda.sh/v1alpha1`` ScaledObject: the same image as a Deployment, scaled by a RabbitMQ queue's length."""
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": service.name},
        "spec": {
            "scaleTargetRef": {"name": service.name},
            "pollingInterval": 30,
            "cooldownPeriod": 300,
            "minReplicaCount": service.min_scale,
            "maxReplicaCount": service.max_scale or 100,
            "triggers": [
                {"type": "rabbitmq", "metadata": {"queueName": queue, "mode": "QueueLength", "value": str(length), "hostFromEnv": host}}
            ],
        },
    }


@cache
def schemas() -> dict[str, Any]:
    """The excerpts, as JSON Schema; no field beyond those they name is allowed."""
    document = json.loads(resources.files(__package__).joinpath("schemas.json").read_text())
    return document | {kind: _closed(document[kind]) for kind in KINDS}


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {name: _closed(part) for name, part in schema.items()}
    if "properties" in copy and not copy.get("x-kubernetes-preserve-unknown-fields"):
        copy.setdefault("additionalProperties", False)
    return copy


def problems(kind: str, manifest: Mapping[str, Any]) -> list[str]:
    """What the schema finds wrong, one line each: the path, and what is wrong with it. Empty if nothing is.

    Raises ValueError if ``kind`` is not one of ``KINDS``.
    """
    check.one_of("kind", kind, KINDS)
    found = sorted(jsonschema.Draft7Validator(schemas()[kind]).iter_errors(manifest), key=lambda error: list(map(str, error.path)))
    lines = [f"{'.'.join(map(str, error.path)) or 'top'}: {error.message}" for error in found]
    if kind == "cloud-run" and not found:
        known = schemas()["cloud-run-annotations"]
        asked = manifest["spec"]["template"].get("metadata", {}).get("annotations", {})
        lines += [f"spec.template.metadata.annotations: Cloud Run does not know {name}" for name in asked
                  if name.startswith(PREFIX) and name not in known]  # fmt: skip
    return lines


def valid(kind: str, manifest: dict[str, Any]) -> dict[str, Any]:
    """``manifest``, if its schema has nothing against it. Raises ValueError with the first problem otherwise."""
    if wrong := problems(kind, manifest):
        raise ValueError(f"not a valid {kind} manifest: {wrong[0]}")
    return manifest


def text(manifest: Mapping[str, Any]) -> str:
    """As YAML."""
    return yaml.safe_dump(dict(manifest), sort_keys=False)


def leaves(manifest: Any, path: str = "") -> dict[str, Any]:
    """Path -> value, for every value that is set."""
    if isinstance(manifest, Mapping):
        return {p: v for key, part in manifest.items() for p, v in leaves(part, f"{path}/{key}").items()}
    if isinstance(manifest, list):
        return {p: v for place, part in enumerate(manifest) for p, v in leaves(part, f"{path}/{place}").items()}
    return {path: manifest}


def shared(old: Mapping[str, Any], new: Mapping[str, Any]) -> float:
    """Share of the values set in ``old`` that stand in ``new`` in the same place."""
    before, after = leaves(old), leaves(new)
    return sum(path in after and after[path] == value for path, value in before.items()) / len(before)


def lambda_function(service: Service) -> dict[str, Any]:
    """The AWS::Lambda::Function that would do the same, as far as there is one: for comparing, not for deploying."""
    properties: dict[str, Any] = {
        "FunctionName": service.name,
        "PackageType": "Image",
        "Code": {"ImageUri": service.image},
        "Timeout": min(service.timeout, 900),
        "MemorySize": 512,
        "Role": "arn:aws:iam::000000000000:role/lab",
    }
    if service.env:
        properties["Environment"] = {"Variables": dict(service.env)}
    if service.max_scale:
        properties["ReservedConcurrentExecutions"] = service.max_scale
    return {"Type": "AWS::Lambda::Function", "Properties": properties}
