"""Four descriptions of the same application: ECS on Fargate, Azure Container Instances, Cloud Run, a Kubernetes pod.

Each is checked by the vendor's own model, then by the rules of size, then read into a :class:`.tasks.Task`. ECS: the
service model of botocore, the client that AWS publishes. The others: excerpts of published schemas (``schemas.json``,
sources there). A field that an excerpt does not know is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from beyondlab.hosting import sizes
from beyondlab.hosting.tasks import Task
from beyondlab.kit import check

PLATFORMS = ("fargate", "aci", "cloud run", "kubernetes")
CHECKED_BY = {
    "fargate": "botocore's service model",
    "aci": "Azure's OpenAPI 2025-09-01",
    "cloud run": "Cloud Run's discovery document",
    "kubernetes": "Kubernetes' OpenAPI 1.37",
}
STOP_TIMEOUT_MOST = 120
"""Seconds that Fargate gives a container between SIGTERM and SIGKILL at most; 30 by default."""
CLOUD_RUN_STOP = 10.0
"""Seconds between SIGTERM and SIGKILL on Cloud Run; there is no field for it."""


class NotValid(ValueError):
    """A description that the vendor's model refuses; the message says where and why."""


def describe(task: Task, platform: str) -> dict[str, Any]:
    """The description of ``task`` for one of ``PLATFORMS``, as it is sent to the platform's API."""
    check.one_of("platform", platform, PLATFORMS)
    return _DESCRIBE[platform](task)


def _pairs(task: Task) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in task.environment.items()]


def _ecs(task: Task) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": task.name,
        "image": task.image,
        "command": list(task.command),
        "portMappings": [{"containerPort": task.port, "protocol": "tcp"}],
        "environment": _pairs(task),
        "essential": True,
    }
    if task.stop_timeout is not None:
        container["stopTimeout"] = round(task.stop_timeout)
    return {
        "family": task.name,
        "requiresCompatibilities": ["FARGATE"],
        "networkMode": "awsvpc",
        "cpu": str(round(task.vcpu * 1024)),
        "memory": str(task.memory),
        "containerDefinitions": [container],
    }


def _aci(task: Task) -> dict[str, Any]:
    container = {
        "image": task.image,
        "command": list(task.command),
        "ports": [{"port": task.port, "protocol": "TCP"}],
        "environmentVariables": _pairs(task),
        "resources": {"requests": {"cpu": task.vcpu, "memoryInGB": task.memory / sizes.GIB}},
    }
    return {
        "location": "eastus",
        "properties": {
            "osType": "Linux",
            "restartPolicy": "Always",
            "containers": [{"name": task.name, "properties": container}],
            "ipAddress": {"type": "Private", "ports": [{"port": task.port, "protocol": "TCP"}]},
        },
    }


def _container(task: Task) -> dict[str, Any]:
    return {
        "name": task.name,
        "image": task.image,
        "command": list(task.command),
        "env": _pairs(task),
        "ports": [{"containerPort": task.port}],
        "resources": {"limits": {"cpu": f"{round(task.vcpu * 1000)}m", "memory": f"{task.memory}Mi"}},
    }


def _cloud_run(task: Task) -> dict[str, Any]:
    spec = {"containerConcurrency": 1, "containers": [_container(task)]}
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": task.name},
        "spec": {"template": {"spec": spec}},
    }


def _pod(task: Task) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [_container(task)], "restartPolicy": "Always"}
    if task.stop_timeout is not None:
        spec["terminationGracePeriodSeconds"] = round(task.stop_timeout)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": task.name}, "spec": spec}


_DESCRIBE = {"fargate": _ecs, "aci": _aci, "cloud run": _cloud_run, "kubernetes": _pod}


def read(document: Mapping[str, Any], platform: str) -> Task:
    """The task that a description means.

    Raises :class:`NotValid` if the vendor's model refuses it, :class:`.sizes.SizeError` for a size that is not sold, and
    ValueError for what this reader does not do: more than one container.
    """
    check.one_of("platform", platform, PLATFORMS)
    if platform == "fargate":
        _validate_ecs(document)
        return _read_ecs(document)
    _validate(document, {"cloud run": "cloud-run"}.get(platform, platform))
    return {"aci": _read_aci, "cloud run": _read_cloud_run, "kubernetes": _read_pod}[platform](document)


@cache
def _ecs_shape() -> Any:
    import botocore.session

    return botocore.session.get_session().get_service_model("ecs").operation_model("RegisterTaskDefinition").input_shape


def _validate_ecs(document: Mapping[str, Any]) -> None:
    """What the client checks before it sends: types, required and unknown fields; and, beyond it, the enumerations."""
    from botocore.validate import ParamValidator

    shape = _ecs_shape()
    report = ParamValidator().validate(dict(document), shape)
    if report.has_errors():
        raise NotValid(report.generate_report())
    for where, value, allowed in _enumerations(document, shape, ""):
        if value not in allowed:
            raise NotValid(f"{where}={value!r}: must be one of {', '.join(allowed)}")


def _enumerations(value: Any, shape: Any, where: str) -> list[tuple[str, str, list[str]]]:
    if shape.type_name == "structure":
        return [found for name, inner in value.items() for found in _enumerations(inner, shape.members[name], f"{where}.{name}".lstrip("."))]
    if shape.type_name == "list":
        return [found for number, inner in enumerate(value) for found in _enumerations(inner, shape.member, f"{where}[{number}]")]
    return [(where, value, shape.enum)] if getattr(shape, "enum", None) else []


@cache
def schema(name: str) -> dict[str, Any]:
    """One of the excerpts: ``aci``, ``cloud-run``, ``kubernetes``."""
    return json.loads(resources.files(__package__).joinpath("schemas.json").read_text())[name]


def _validate(document: Mapping[str, Any], name: str) -> None:
    import jsonschema

    errors = sorted(jsonschema.Draft202012Validator(schema(name)).iter_errors(document), key=lambda e: list(map(str, e.absolute_path)))
    if errors:
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in errors[0].absolute_path).lstrip(".")
        raise NotValid(f"{where or 'document'}: {errors[0].message}")


def _only(containers: Any, where: str) -> Any:
    if len(containers) != 1:
        raise ValueError(f"{where}: {len(containers)} containers; this reader takes one")
    return containers[0]


def _number(text: Any, name: str, units: Mapping[str, float]) -> float:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(text))
    if not match or match[2].lower() not in units:
        raise NotValid(f"{name}={text!r}: must be a number, with one of {', '.join(u or 'no unit' for u in units)}")
    return float(match[1]) * units[match[2].lower()]


def _environment(pairs: Any) -> dict[str, str]:
    return {pair["name"]: pair.get("value", "") for pair in pairs}


def _read_ecs(document: Mapping[str, Any]) -> Task:
    container = _only(document["containerDefinitions"], "containerDefinitions")
    for field, wanted in (("networkMode", "awsvpc"), ("requiresCompatibilities", ["FARGATE"])):
        if document.get(field) != wanted:
            raise NotValid(f"{field}={document.get(field)!r}: must be {wanted!r} on Fargate")
    for field in ("cpu", "memory"):
        if field not in document:
            raise NotValid(f"{field}: a task on Fargate must say it")
    cpu = _number(document["cpu"], "cpu", {"": 1, "vcpu": 1024})
    memory = _number(document["memory"], "memory", {"": 1, "gb": 1024})
    size = sizes.fargate(int(cpu), int(memory))
    stop = container.get("stopTimeout", 30)
    if not 0 <= stop <= STOP_TIMEOUT_MOST:
        raise NotValid(f"stopTimeout={stop!r}: must be 0 to {STOP_TIMEOUT_MOST} seconds on Fargate")
    ports = container.get("portMappings") or [{"containerPort": 8080}]
    return Task(
        container["name"], container["image"], tuple(container.get("command", ())), size.vcpu, size.memory,
        ports[0]["containerPort"], _environment(container.get("environment", ())), float(stop),
    )  # fmt: skip


def _read_aci(document: Mapping[str, Any]) -> Task:
    container = _only(document["properties"]["containers"], "properties.containers")
    inside = container["properties"]
    if "resources" not in inside:
        raise NotValid("properties.containers[0].properties.resources: a container must say what it requests")
    requests = inside["resources"]["requests"]
    size = sizes.aci(requests["cpu"], round(requests["memoryInGB"] * sizes.GIB))
    ports = inside.get("ports") or [{"port": 8080}]
    return Task(
        container["name"], inside["image"], tuple(inside.get("command", ())), size.vcpu, size.memory, ports[0]["port"],
        _environment(inside.get("environmentVariables", ())),
    )  # fmt: skip


_BYTES = {"": 1 / 2**20, "k": 1e3 / 2**20, "m": 1e6 / 2**20, "g": 1e9 / 2**20, "ki": 1 / 1024, "mi": 1, "gi": 1024}


def quantity(text: str, name: str) -> float:
    """A Kubernetes quantity: ``cpu`` in vCPU (``500m`` is half), ``memory`` in MiB (``512Mi``, ``1G``)."""
    return _number(text, name, {"": 1, "m": 0.001} if name == "cpu" else _BYTES)


def _limits(container: Mapping[str, Any]) -> tuple[float, int]:
    limits = container.get("resources", {}).get("limits", {})
    for name in ("cpu", "memory"):
        if name not in limits:
            raise NotValid(f"resources.limits.{name}: must be given, or nothing limits the container")
    return quantity(limits["cpu"], "cpu"), round(quantity(limits["memory"], "memory"))


def _kubernetes_task(container: Mapping[str, Any], size: sizes.Size, stop: float) -> Task:
    ports = container.get("ports") or [{"containerPort": 8080}]
    return Task(
        container["name"], container["image"], tuple(container.get("command", ())), size.vcpu, size.memory,
        ports[0]["containerPort"], _environment(container.get("env", ())), stop,
    )  # fmt: skip


def _read_cloud_run(document: Mapping[str, Any]) -> Task:
    spec = document["spec"]["template"]["spec"]
    container = _only(spec["containers"], "spec.template.spec.containers")
    size = sizes.cloud_run(*_limits(container), concurrency=spec.get("containerConcurrency", 80))
    return _kubernetes_task(container, size, CLOUD_RUN_STOP)


def _read_pod(document: Mapping[str, Any]) -> Task:
    spec = document["spec"]
    container = _only(spec["containers"], "spec.containers")
    vcpu, memory = _limits(container)
    return _kubernetes_task(container, sizes.Size(vcpu, memory), float(spec.get("terminationGracePeriodSeconds", 30)))
