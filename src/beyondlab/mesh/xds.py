"""The control plane: Envoy's configuration from a :class:`~beyondlab.mesh.description.Description`, as xDS files.

Envoy watches a folder and reads a file when it is renamed into place: so a control plane needs no server, and a change
is seen whole or not at all. One folder a sidecar holds the listeners (LDS), routes (RDS), clusters (CDS), endpoints
(EDS, a file a cluster) and the certificates (SDS, see :mod:`.ca`).

The format is that of https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/overview/xds_api.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from beyondlab.mesh.description import Description, Instance, Policy, Retries, spiffe_id

_TYPE = "type.googleapis.com/envoy."
_EXTENSION = f"{_TYPE}extensions."
ENDPOINT = "config.endpoint.v3.ClusterLoadAssignment"

ACCESS_LOG = {
    "start": "%START_TIME%",
    "route": "%ROUTE_NAME%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "ms": "%DURATION%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "cluster": "%UPSTREAM_CLUSTER%",
    "upstream": "%UPSTREAM_HOST%",
    "peer": "%DOWNSTREAM_PEER_URI_SAN%",
    "trace": "%TRACE_ID%",
}
"""Fields of the access log: one JSON object a request."""


def rename_into_place(file: Path, text: str) -> None:
    """Write ``text`` beside ``file`` and rename it: a reader sees the old file or the new one, never half of one."""
    temporary = file.with_name(f".{file.name}.new")
    temporary.write_text(text)
    os.replace(temporary, file)


class Files:
    """The folder of one sidecar. :meth:`publish` writes a resource file; what has not changed is not written again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._last: dict[str, str] = {}
        self.version = 0

    def source(self, name: str) -> dict[str, Any]:
        """What tells Envoy to read the file of that name, again and again."""
        where = {"path": str(self.folder / f"{name}.json"), "watched_directory": {"path": str(self.folder)}}
        return {"path_config_source": where, "resource_api_version": "V3"}

    def publish(self, name: str, kind: str, resources: Iterable[Mapping[str, Any]]) -> str | None:
        """Write ``resources`` of type ``kind``; the new version, or None where nothing has changed."""
        found = [{"@type": _TYPE + kind, **resource} for resource in resources]
        text = json.dumps(found, sort_keys=True)
        if self._last.get(name) == text:
            return None
        self._last[name] = text
        self.version += 1
        version = str(self.version)
        rename_into_place(self.folder / f"{name}.json", json.dumps({"version_info": version, "resources": found}))
        return version


def bootstrap(node: str, files: Files, *, collector: int | None = None) -> dict[str, Any]:
    """What Envoy starts with: where its xDS files are, an admin port of its own choice, spans sent soon."""
    start: dict[str, Any] = {
        "node": {"id": node, "cluster": node},
        "admin": {"address": _address(0)},
        "cluster_manager": {"outlier_detection": {"event_log_path": str(files.folder / "ejections.log")}},
        "dynamic_resources": {"lds_config": files.source("listeners"), "cds_config": files.source("clusters")},
        "layered_runtime": {"layers": [{"name": "lab", "static_layer": {
            "tracing.opentelemetry.min_flush_spans": 1, "tracing.opentelemetry.flush_interval_ms": 100,
        }}]},
    }  # fmt: skip
    if collector is not None:
        start["static_resources"] = {"clusters": [static_cluster("collector", [collector])]}
    return start


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _seconds(value: float) -> str:
    """A duration as Protobuf's JSON writes it: seconds, not more digits than needed."""
    return f"{value:.6f}".rstrip("0").rstrip(".") + "s"


def _endpoint(port: int) -> dict[str, Any]:
    return {"endpoint": {"address": _address(port)}}


def static_cluster(name: str, ports: Iterable[int], **more: Any) -> dict[str, Any]:
    """A cluster whose endpoints are given with it."""
    return {
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": list(map(_endpoint, ports))}]}, **more,
    }  # fmt: skip


def listener(name: str, routes: Mapping[str, Any], *, rds: str = "", port: int = 0, tls: Mapping[str, Any] | None = None,
             filters: Iterable[Mapping[str, Any]] = (), log: str | None = None, collector: bool = False,
             inbound: bool = False, service: str = "") -> dict[str, Any]:  # fmt: skip
    """An HTTP listener on a loopback port (0: of Envoy's choice). ``routes`` is a route table, or the source of the one that ``rds`` names."""
    manager: dict[str, Any] = {
        "@type": f"{_EXTENSION}filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        **({"rds": {"route_config_name": rds, "config_source": routes}} if rds
           else {"route_config": routes}),
        "http_filters": [*filters, {"name": "router", "typed_config": {"@type": f"{_EXTENSION}filters.http.router.v3.Router"}}],
        "forward_client_cert_details": "SANITIZE_SET" if inbound else "SANITIZE",
        "set_current_client_cert_details": {"uri": True},
    }  # fmt: skip
    if log:
        manager["access_log"] = [{"name": "json", "typed_config": {
            "@type": f"{_EXTENSION}access_loggers.file.v3.FileAccessLog", "path": log,
            "log_format": {"json_format": ACCESS_LOG},
        }}]  # fmt: skip
    if collector:
        manager["tracing"] = {"provider": {"name": "otel", "typed_config": {
            "@type": f"{_TYPE}config.trace.v3.OpenTelemetryConfig", "service_name": service or name,
            "http_service": {"http_uri": {"uri": "http://127.0.0.1/v1/traces", "cluster": "collector", "timeout": "15s"}},
        }}, "spawn_upstream_span": True, "random_sampling": {"value": 0}}  # fmt: skip
    chain: dict[str, Any] = {"filters": [{"name": "http", "typed_config": manager}]}
    if tls:
        chain["transport_socket"] = dict(tls)
    return {"name": name, "address": _address(port), "filter_chains": [chain]}


def tls_context(files: Files, *, server: bool, peers: Iterable[str]) -> dict[str, Any]:
    """Mutual TLS with the certificate and the trust bundle of the folder; ``peers`` are the SPIFFE identities accepted."""
    common = {
        "tls_certificate_sds_secret_configs": [{"name": "identity", "sds_config": files.source("identity")}],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": [
                {"san_type": "URI", "matcher": {"exact" if "*" not in peer else "prefix": peer.rstrip("*")}} for peer in peers
            ]},
            "validation_context_sds_secret_config": {"name": "trust", "sds_config": files.source("trust")},
        },
    }  # fmt: skip
    which = "DownstreamTlsContext" if server else "UpstreamTlsContext"
    context = {"@type": f"{_EXTENSION}transport_sockets.tls.v3.{which}", "common_tls_context": common}
    if server:
        context["require_client_certificate"] = True
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def authorization(policy: Policy) -> list[dict[str, Any]]:
    """The RBAC filter of a service: callers by identity, methods. Empty where any caller is let in."""
    if policy.callers is None:
        return []
    principals = [{"authenticated": {"principal_name": {"exact": spiffe_id(caller)}}} for caller in policy.callers]
    methods = [{"header": {"name": ":method", "string_match": {"exact": method}}} for method in policy.methods]
    rule = {"permissions": methods, "principals": principals or [{"not_id": {"any": True}}]}
    return [{"name": "envoy.filters.http.rbac", "typed_config": {
        "@type": f"{_EXTENSION}filters.http.rbac.v3.RBAC", "rules": {"action": "ALLOW", "policies": {"callers": rule}},
    }}]  # fmt: skip


def clusters(service: str, description: Description, files: Files) -> list[dict[str, Any]]:
    """The clusters through which others reach ``service``: one for each version of its split, or one for all."""
    policy = description.policy(service)
    made = []
    for name, _ in _groups(service, policy):
        cluster: dict[str, Any] = {
            "name": name, "type": "EDS", "connect_timeout": "5s", "lb_policy": policy.balancer,
            "eds_cluster_config": {"eds_config": files.source(f"endpoints-{name}")},
            "common_lb_config": {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"},
        }  # fmt: skip
        if policy.outliers:
            cluster["outlier_detection"] = outlier_detection(policy)
        limits, retries = policy.limits, policy.retries
        thresholds: dict[str, Any] = {}
        if limits:
            thresholds |= {"max_connections": limits.connections, "max_pending_requests": limits.pending,
                           "max_requests": limits.requests}  # fmt: skip
        if retries and retries.budget is not None:
            budget = {"budget_percent": {"value": 100 * retries.budget}, "min_retry_concurrency": retries.least}
            thresholds["retry_budget"] = budget
        elif retries:
            thresholds["max_retries"] = retries.concurrent
        if thresholds:
            cluster["circuit_breakers"] = {"thresholds": [thresholds]}
        if policy.mutual_tls:
            cluster["transport_socket"] = tls_context(files, server=False, peers=[spiffe_id(service)])
        made.append(cluster)
    return made


def outlier_detection(policy: Policy) -> dict[str, Any]:
    """Envoy's words for :class:`~beyondlab.mesh.description.Outliers`: consecutive errors only, no success rates."""
    found = policy.outliers
    return {
        "consecutive_5xx": found.consecutive_5xx, "interval": _seconds(found.interval),
        "base_ejection_time": _seconds(found.base_ejection), "max_ejection_percent": found.max_ejection_percent,
        "enforcing_success_rate": 0, "max_ejection_time_jitter": "0s",
    }  # fmt: skip


def endpoints(service: str, description: Description, ports: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Cluster -> its endpoints, by zone. ``ports``: instance -> where its sidecar lets callers in."""
    policy = description.policy(service)
    made = {}
    for name, version in _groups(service, policy):
        held = [i for i in description.of(service) if version is None or i.version == version]
        zones = sorted({instance.zone for instance in held})
        made[name] = {"cluster_name": name, "endpoints": [
            {
                "locality": {"zone": zone},
                "priority": zones.index(zone) if policy.locality_failover else 0,
                "lb_endpoints": [_endpoint(ports[instance.name]) for instance in held if instance.zone == zone],
            }
            for zone in zones
        ]}  # fmt: skip
    return made


def routes(service: str, description: Description) -> dict[str, Any]:
    """The route table of a caller of ``service``: split, time-out, retries."""
    policy = description.policy(service)
    groups = _groups(service, policy)
    action: dict[str, Any] = {"timeout": _seconds(policy.timeout)}
    if len(groups) == 1:
        action["cluster"] = groups[0][0]
    else:
        weighted = [{"name": name, "weight": policy.split[version]} for name, version in groups]
        action["weighted_clusters"] = {"clusters": weighted}
    if policy.retries:
        action["retry_policy"] = retry_policy(policy.retries)
    if policy.balancer == "RING_HASH":
        action["hash_policy"] = [{"header": {"header_name": "x-user"}}]
    route = {"name": f"to {service}", "match": {"prefix": "/"}, "route": action}
    return route_table(f"to-{service}", [route])


def retry_policy(retries: Retries) -> dict[str, Any]:
    """Envoy's words for :class:`~beyondlab.mesh.description.Retries`."""
    policy: dict[str, Any] = {
        "retry_on": "5xx,connect-failure", "num_retries": retries.attempts,
        "retry_back_off": {"base_interval": _seconds(retries.backoff), "max_interval": _seconds(10 * retries.backoff)},
        "host_selection_retry_max_attempts": 3,
        "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {
            "@type": f"{_EXTENSION}retry.host.previous_hosts.v3.PreviousHostsPredicate"}}],
    }  # fmt: skip
    if retries.per_try_timeout is not None:
        policy["per_try_timeout"] = _seconds(retries.per_try_timeout)
    return policy


def route_table(name: str, found: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A route table with one virtual host for every name."""
    return {"name": name, "virtual_hosts": [{"name": "any", "domains": ["*"], "routes": list(found)}]}


def plain_route(cluster: str, name: str = "in") -> dict[str, Any]:
    """Everything to one cluster."""
    return route_table(name, [{"name": name, "match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "5s"}}])


def _groups(service: str, policy: Policy) -> list[tuple[str, str | None]]:
    """Clusters of a service, each with the version it holds."""
    return [(f"{service}-{version}", version) for version in policy.split] or [(service, None)]


def inbound_name(instance: Instance) -> str:
    """The listener and the cluster of an instance's own sidecar that let callers in."""
    return f"in-{instance.name}"
