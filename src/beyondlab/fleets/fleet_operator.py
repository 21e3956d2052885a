"""The fleet's operator, written with kopf: it keeps workloads running on whichever clusters are there.

Two loops over custom resources of the hub, both level-triggered: one asks every cluster whether it is ready, one places
every FleetDeployment and makes the members' Deployments so. Run by ``kopf run``, unchanged kopf, against the course's
API server. Environment: ``FLEET_HUB`` the hub's URL, ``FLEET_THRESHOLD`` seconds of silence until a cluster counts as lost.
"""

from __future__ import annotations

import functools
import os
import time
from typing import Any

import kopf

from beyondlab.fleets import division, propagation
from beyondlab.fleets.client import ApiError, Client, Unreachable

GROUP, VERSION = "fleet.lab.example", "v1"
CLUSTERS = f"clusters.{GROUP}/{VERSION}"
THRESHOLD = float(os.environ.get("FLEET_THRESHOLD", "30"))
EVERY = 0.25
"""Seconds between two rounds of a loop."""

GRACE = 20.0
"""Seconds for which replicas that have no place any more wait for the new ones to be ready. Karmada: 10 minutes."""

@functools.cache
def client(server: str) -> Client:
    """One client a server, so that connections are kept."""
    return Client(server, agent="fleet", timeout=1.0)


hub = Client(os.environ.get("FLEET_HUB", "http://127.0.0.1:8001"), agent="fleet")
heard: dict[str, float] = {}
decided: dict[tuple[str, str], float] = {}


@kopf.on.login()
def login(**context: Any) -> Any:
    return kopf.login_with_kubeconfig(**context)


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.enabled = False
    settings.watching.connect_timeout = 2
    settings.background.cancellation_polling = EVERY  # a deleted object waits for its timer to end; kopf looks every 60 s


@kopf.timer(GROUP, VERSION, "clusters", interval=EVERY, sharp=True)
def probe(name: str, spec: Any, status: Any, patch: Any, **_: Any) -> None:
    """Ready, or silent for too long."""
    now = time.monotonic()
    if client(spec["server"]).ready(timeout=0.3):
        heard[name] = now
    ready = now - heard.setdefault(name, now) < THRESHOLD
    if status.get("ready") != ready:
        patch.status["ready"] = ready


@kopf.timer(GROUP, VERSION, "fleetdeployments", interval=EVERY, sharp=True)
def place(name: str, namespace: str, spec: Any, status: Any, patch: Any, **_: Any) -> None:
    """Place the replicas, and bring every cluster that can be reached to what is placed there."""
    members = {each["metadata"]["name"]: each for each in hub.list(CLUSTERS)}
    before = dict(status.get("placement") or {})
    fresh = spec.get("rebalance") != status.get("rebalanced")
    try:
        after = propagation.place(spec["replicas"], [as_cluster(each) for each in members.values()], as_policy(spec.get("policy") or {}), {} if fresh else before)
    except (propagation.Unplaceable, division.NotEnoughRoom) as error:
        patch.status["message"] = str(error)
        return
    if after != before:
        decided[namespace, name] = time.monotonic()
        patch.status["placement"] = after | {gone: None for gone in before if gone not in after}
        patch.status["message"] = f"{propagation.moved(before, after)} replicas start elsewhere"
    if fresh:
        patch.status["rebalanced"] = spec.get("rebalance")
    waited = time.monotonic() - decided.setdefault((namespace, name), time.monotonic())
    servers = {member: cluster["spec"]["server"] for member, cluster in members.items() if cluster.get("status", {}).get("ready")}
    running = push(servers, name, namespace, spec["template"], after, patient=waited < GRACE)
    if running != (status.get("running") or {}):
        patch.status["running"] = running | {gone: None for gone in status.get("running") or {} if gone not in running}


def push(servers: dict[str, str], name: str, namespace: str, template: Any, placed: dict[str, int], *, patient: bool) -> dict[str, int]:
    """Make the members' Deployments so: first what grows, and what shrinks when that is ready. Member -> ready replicas.

    Who is not reached is left out, and its turn comes again.
    """
    ready, shrinks = {}, []
    for member, server in servers.items():
        try:
            found = find(server, name, namespace)
            wanted, there = placed.get(member, 0), found["spec"]["replicas"] if found else 0
            if wanted > there:
                found = apply(server, name, namespace, template, wanted)
            elif wanted < there and found["metadata"].get("labels", {}).get("managed-by") == "fleet":
                shrinks.append(member)
            ready[member] = ((found or {}).get("status") or {}).get("readyReplicas", 0)
        except (ApiError, Unreachable):
            continue
    if patient and any(ready.get(member, 0) < placed.get(member, 0) for member in servers):
        return ready
    for member in shrinks:
        try:
            if placed.get(member, 0):
                apply(servers[member], name, namespace, template, placed[member])
            else:
                client(servers[member]).delete("deployments", name, namespace)
        except (ApiError, Unreachable):
            continue
    return ready


def find(server: str, name: str, namespace: str) -> Any:
    """A member's Deployment, or None."""
    try:
        return client(server).get("deployments", name, namespace)
    except ApiError as error:
        if error.code == 404:
            return None
        raise


def apply(server: str, name: str, namespace: str, template: Any, replicas: int) -> Any:
    """Server-side apply of a member's Deployment."""
    wanted = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": {"managed-by": "fleet"}},
              "spec": {"replicas": replicas, "selector": {"matchLabels": dict(template["metadata"]["labels"])}, "template": dict(template)}}  # fmt: skip
    return client(server).apply("deployments", wanted, manager="fleet", force=True, namespace=namespace)


def as_cluster(value: Any) -> propagation.Cluster:
    spec = value["spec"]
    return propagation.Cluster(
        value["metadata"]["name"], bool(value.get("status", {}).get("ready")), value["metadata"].get("labels") or {},
        spec.get("room", 1_000), spec.get("cost", 0.0), spec.get("latency", 0.0),
    )  # fmt: skip


def as_policy(value: Any) -> propagation.Policy:
    return propagation.Policy(
        value.get("affinity") or {}, value.get("weights") or {}, value.get("objective", "weights"), value.get("atLeast", 1),
        value.get("atMost", 1_000), value.get("maxLatency"),
    )  # fmt: skip
