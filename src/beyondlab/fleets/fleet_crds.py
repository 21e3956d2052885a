"""The custom resources of the fleet: Cluster and FleetDeployment, as CustomResourceDefinitions."""

from __future__ import annotations

from typing import Any

GROUP, VERSION = "fleet.lab.example", "v1"
CLUSTERS = f"clusters.{GROUP}/{VERSION}"
WORKLOADS = f"fleetdeployments.{GROUP}/{VERSION}"

_OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_COUNTS = {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}}

_POLICY = {
    "type": "object",
    "properties": {
        "affinity": {**_TEXTS, "description": "Labels that a cluster must have."},
        "weights": {**_COUNTS, "description": "Share of each cluster; 1 where none is given."},
        "objective": {"type": "string", "enum": ["weights", "cost", "latency"], "description": "What decides among clusters."},
        "atLeast": {"type": "integer", "minimum": 1, "description": "Clusters to spread over, at least."},
        "atMost": {"type": "integer", "minimum": 1, "description": "Clusters to use, at most."},
        "maxLatency": {"type": "number", "minimum": 0, "description": "Milliseconds from the users, at most."},
    },
}


def _definition(plural: str, kind: str, scope: str, spec: dict[str, Any], short: str, columns: list[tuple[str, str, str]]) -> dict[str, Any]:
    schema = {"type": "object", "required": ["spec"], "properties": {"spec": spec, "status": _OPEN}}
    version = {
        "name": VERSION, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}},
        "additionalPrinterColumns": [{"name": name, "type": form, "jsonPath": path} for name, form, path in columns],
    }  # fmt: skip
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {"group": GROUP, "scope": scope, "versions": [version],
                 "names": {"plural": plural, "singular": kind.lower(), "kind": kind, "shortNames": [short]}},
    }  # fmt: skip


DEFINITIONS = (
    _definition("clusters", "Cluster", "Cluster", {
        "type": "object", "required": ["server"],
        "properties": {"server": {"type": "string"}, "room": {"type": "integer", "minimum": 0},
                       "cost": {"type": "number", "minimum": 0}, "latency": {"type": "number", "minimum": 0}},
    }, "cl", [("Ready", "boolean", ".status.ready"), ("Cost", "number", ".spec.cost"), ("Latency", "number", ".spec.latency")]),
    _definition("fleetdeployments", "FleetDeployment", "Namespaced", {
        "type": "object", "required": ["replicas", "template"],
        "properties": {"replicas": {"type": "integer", "minimum": 0}, "policy": _POLICY, "template": _OPEN, "rebalance": {"type": "string"}},
    }, "fd", [("Replicas", "integer", ".spec.replicas"), ("Message", "string", ".status.message")]),
)  # fmt: skip
