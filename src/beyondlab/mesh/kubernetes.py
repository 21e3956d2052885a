"""What the lab did, said to Istio and to Linkerd: their resources, from the same description that :mod:`.xds` is made of.

The documents are validated against parts of the published CRD schemas (``crds.json`` in this folder, which names its
sources). No cluster has run them. What neither API can say is listed by :func:`unsaid`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any

from beyondlab.mesh.description import NAMESPACE, TRUST_DOMAIN, Description, Policy

PORT = 8080
"""Port of every service in the generated documents."""

Document = dict[str, Any]


class Invalid(ValueError):
    """A document does not fit its schema; the message says which, where and why."""


@cache
def schemas() -> Mapping[str, Any]:
    """``group/version/kind`` -> schema of its ``spec``."""
    return json.loads(resources.files(__package__).joinpath("crds.json").read_text("utf-8"))["schemas"]


def validate(document: Mapping[str, Any]) -> None:
    """Raises :class:`Invalid` if the ``spec`` does not fit the schema of its kind, or the kind is unknown."""
    import jsonschema

    key = f"{document.get('apiVersion')}/{document.get('kind')}"
    if key == "v1/Service":
        return
    if key not in schemas():
        raise Invalid(f"{key}: no schema; there are {', '.join(schemas())}")
    errors = sorted(jsonschema.Draft202012Validator(schemas()[key]).iter_errors(document.get("spec")), key=str)
    if errors:
        where = ".".join(map(str, ("spec", *errors[0].absolute_path)))
        raise Invalid(f"{document['kind']} {document['metadata']['name']}: {where}: {errors[0].message}")


def _document(version: str, kind: str, name: str, spec: Mapping[str, Any], annotations: Mapping[str, str] | None = None) -> Document:
    metadata = {"name": name, "namespace": NAMESPACE, **({"annotations": dict(annotations)} if annotations else {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": dict(spec)}


def go_duration(seconds: float) -> str:
    """Seconds as Go and the Gateway API write them: 5s, 100ms. Raises ValueError for less than a millisecond."""
    milliseconds = round(1000 * seconds)
    if milliseconds < 1:
        raise ValueError(f"seconds={seconds!r}: must be a millisecond at least")
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def istio(description: Description, service: str) -> list[Document]:
    """VirtualService, DestinationRule, PeerAuthentication and AuthorizationPolicy of a service."""
    policy = description.policy(service)
    groups = [(version, weight) for version, weight in policy.split.items()]
    routes = [{"destination": {"host": service, "subset": version}, "weight": weight} for version, weight in groups]
    http: Document = {"route": routes or [{"destination": {"host": service}}], "timeout": go_duration(policy.timeout)}
    if policy.retries:
        http["retries"] = {"attempts": policy.retries.attempts, "retryOn": "5xx,connect-failure"}
        if policy.retries.per_try_timeout is not None:
            http["retries"]["perTryTimeout"] = go_duration(policy.retries.per_try_timeout)
    rule: Document = {"host": service, "trafficPolicy": _traffic_policy(policy)}
    if groups:
        rule["subsets"] = [{"name": version, "labels": {"version": version}} for version, _ in groups]
    made = [
        _document("networking.istio.io/v1", "VirtualService", service, {"hosts": [service], "http": [http]}),
        _document("networking.istio.io/v1", "DestinationRule", service, rule),
    ]
    selector = {"matchLabels": {"app": service}}
    if policy.mutual_tls:
        spec = {"selector": selector, "mtls": {"mode": "STRICT"}}
        made.append(_document("security.istio.io/v1", "PeerAuthentication", service, spec))
    if policy.callers is not None:
        principals = [f"{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/{caller}" for caller in policy.callers]
        allowed = {"from": [{"source": {"principals": principals}}], "to": [{"operation": {"methods": list(policy.methods)}}]}
        spec = {"selector": selector, "action": "ALLOW", "rules": [allowed]}
        made.append(_document("security.istio.io/v1", "AuthorizationPolicy", service, spec))
    return made


def _traffic_policy(policy: Policy) -> Document:
    if policy.balancer == "RING_HASH":
        balancer: Document = {"consistentHash": {"httpHeaderName": "x-user"}}
    else:
        balancer = {"simple": policy.balancer}
    if policy.locality_failover:
        balancer["localityLbSetting"] = {"enabled": True, "failoverPriority": ["topology.kubernetes.io/zone"]}
    made: Document = {"loadBalancer": balancer}
    if policy.limits:
        made["connectionPool"] = {
            "tcp": {"maxConnections": policy.limits.connections},
            "http": {"http1MaxPendingRequests": policy.limits.pending, "http2MaxRequests": policy.limits.requests},
        }
    if policy.outliers:
        made["outlierDetection"] = {
            "consecutive5xxErrors": policy.outliers.consecutive_5xx,
            "interval": go_duration(policy.outliers.interval),
            "baseEjectionTime": go_duration(policy.outliers.base_ejection),
            "maxEjectionPercent": policy.outliers.max_ejection_percent,
        }
    if policy.retries and policy.retries.budget is not None:
        budget = {"percent": 100 * policy.retries.budget, "minRetryConcurrency": policy.retries.least}
        made["retryBudget"] = budget
    if policy.mutual_tls:
        made["tls"] = {"mode": "ISTIO_MUTUAL"}
    return made


def gamma(description: Description, service: str, annotations: Mapping[str, str] | None = None) -> Document:
    """An HTTPRoute of the Gateway API whose parent is a Service, not a Gateway: GAMMA, which both meshes read.

    Each version of a split needs a Service of its own, named ``service-version``.
    """
    policy = description.policy(service)
    backends = [{"name": f"{service}-{version}", "port": PORT, "weight": weight} for version, weight in policy.split.items()]
    rule: Document = {"backendRefs": backends or [{"name": service, "port": PORT}], "timeouts": {"request": go_duration(policy.timeout)}}
    if policy.retries and not annotations:
        rule["retry"] = {"attempts": policy.retries.attempts, "codes": [500, 502, 503, 504]}
    spec = {"parentRefs": [{"group": "", "kind": "Service", "name": service, "port": PORT}], "rules": [rule]}
    return _document("gateway.networking.k8s.io/v1", "HTTPRoute", service, spec, annotations)


def linkerd(description: Description, service: str) -> list[Document]:
    """HTTPRoute with Linkerd's annotations, an annotated Service, Server, MeshTLSAuthentication, AuthorizationPolicy.

    Linkerd encrypts between meshed pods without being told; a policy says who may call.
    """
    policy, annotations = description.policy(service), {}
    if policy.retries:
        annotations = {"retry.linkerd.io/http": "5xx", "retry.linkerd.io/limit": str(policy.retries.attempts)}
        if policy.retries.per_try_timeout is not None:
            annotations["retry.linkerd.io/timeout"] = go_duration(policy.retries.per_try_timeout)
    made = [gamma(description, service, annotations or None)]
    if policy.outliers:
        accrual = {
            "balancer.linkerd.io/failure-accrual": "consecutive",
            "balancer.linkerd.io/failure-accrual-consecutive-max-failures": str(policy.outliers.consecutive_5xx),
            "balancer.linkerd.io/failure-accrual-consecutive-min-penalty": go_duration(policy.outliers.base_ejection),
        }
        spec = {"selector": {"app": service}, "ports": [{"port": PORT}]}
        made.append(_document("v1", "Service", service, spec, accrual))
    if policy.callers is not None:
        selector = {"matchLabels": {"app": service}}
        server = {"podSelector": selector, "port": PORT, "proxyProtocol": "HTTP/1"}
        identities = [f"{caller}.{NAMESPACE}.serviceaccount.identity.linkerd.{TRUST_DOMAIN}" for caller in policy.callers]
        target = {"group": "policy.linkerd.io", "kind": "Server", "name": service}
        needed = [{"group": "policy.linkerd.io", "kind": "MeshTLSAuthentication", "name": f"{service}-callers"}]
        made += [
            _document("policy.linkerd.io/v1beta3", "Server", service, server),
            _document("policy.linkerd.io/v1alpha1", "MeshTLSAuthentication", f"{service}-callers", {"identities": identities}),
            _document("policy.linkerd.io/v1alpha1", "AuthorizationPolicy", service,
                      {"targetRef": target, "requiredAuthenticationRefs": needed}),
        ]  # fmt: skip
    return made


def unsaid(policy: Policy) -> dict[str, list[str]]:
    """Mesh -> what of a policy its documents here leave out."""
    left: dict[str, list[str]] = {"Istio": [], "Linkerd": []}
    if policy.retries:
        left["Istio"].append("the back-off of the retries")
    if policy.retries and policy.retries.budget is not None:
        left["Linkerd"].append("the retry budget")
    if policy.limits:
        left["Linkerd"].append("limits on connections, waiting and open requests")
    if policy.outliers:
        left["Linkerd"].append("the limit on ejections")
    if policy.locality_failover:
        left["Linkerd"].append("locality failover")
    if policy.balancer not in ("LEAST_REQUEST",):
        left["Linkerd"].append("the balancer: it is always peak EWMA")
    if policy.callers is not None:
        left["Linkerd"].append("methods: they need an HTTPRoute as the target")
    return left


def everything(description: Description) -> list[Document]:
    """All documents of all called services, validated. Raises :class:`Invalid` if one does not fit."""
    called = list(dict.fromkeys(description.calls.values()))
    made = [d for s in called for d in (*istio(description, s), gamma(description, s), *linkerd(description, s))]
    for document in made:
        validate(document)
    return made


def yaml(documents: Iterable[Mapping[str, Any]]) -> str:
    """The documents as YAML, to apply with kubectl."""
    import yaml as writer

    return "---\n".join(writer.safe_dump(dict(document), sort_keys=False) for document in documents)
