"""A scheduler: filter the nodes that can take a pod, score the rest, take the best.

The scores are those of kube-scheduler's plugins, in its integer arithmetic, and are held to its own test tables:
``NodeResourcesFit`` with least allocated, ``NodeResourcesBalancedAllocation``, ``PodTopologySpread``
(kubernetes/kubernetes, ``pkg/scheduler/framework/plugins/{noderesources,podtopologyspread}``).
CPU in millicores, memory in bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from beyondlab.fleets import selectors

MAX = 100
"""Highest score of a plugin."""

ASSUMED = {"cpu": 100, "memory": 200 * 1024 * 1024}
"""What a container that does not say counts for in the least-allocated score: 0.1 cores, 200 MiB."""

HOSTNAME = "kubernetes.io/hostname"

Amounts = Mapping[str, int]


@dataclass(frozen=True)
class Spread:
    """One ``topologySpreadConstraint``. ``hard`` is ``DoNotSchedule``; ``selector`` is a ``LabelSelector`` object."""

    key: str
    selector: Mapping | None
    max_skew: int = 1
    hard: bool = False


@dataclass(frozen=True)
class Pod:
    """What a scheduler looks at. ``requests``: what the pod asks for, in whole units of each resource; ``assumed``: what
    the least-allocated score adds for containers that do not say."""

    name: str = "pod"
    requests: Amounts = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    node: str = ""
    namespace: str = "default"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[str, ...] = ()
    spread: tuple[Spread, ...] = ()
    terminating: bool = False
    assumed: Amounts = field(default_factory=dict)

    def counted(self, resource: str) -> int:
        """Asked for or assumed."""
        return self.requests.get(resource, 0) + self.assumed.get(resource, 0)


@dataclass(frozen=True)
class Node:
    """``capacity``: what it can give. ``taints``: keys that a pod must tolerate."""

    name: str
    capacity: Amounts = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[str, ...] = ()
    pods: int = 110


def requested(pods: Sequence[Pod], node: str, resource: str) -> int:
    """What the pods on a node ask for."""
    return sum(pod.requests.get(resource, 0) for pod in pods if pod.node == node)


def why_not(pod: Pod, node: Node, pods: Sequence[Pod], nodes: Sequence[Node]) -> str | None:
    """The filter: why ``pod`` cannot run on ``node``, in kube-scheduler's words, or None."""
    if any(node.labels.get(key) != value for key, value in pod.node_selector.items()):
        return "didn't match Pod's node affinity/selector"
    if missing := next((taint for taint in node.taints if taint not in pod.tolerations), None):
        return f"had untolerated taint {{{missing}}}"
    if sum(other.node == node.name for other in pods) + 1 > node.pods:
        return "Too many pods"
    for resource, amount in pod.requests.items():
        if amount and requested(pods, node.name, resource) + amount > node.capacity.get(resource, 0):
            return f"Insufficient {resource}"
    for rule in pod.spread:
        if rule.hard:
            if rule.key not in node.labels:
                return "didn't match pod topology spread constraints (missing required label)"
            counts = {n.labels[rule.key]: 0 for n in nodes if rule.key in n.labels}
            for n in nodes:
                if rule.key in n.labels:
                    counts[n.labels[rule.key]] += _matching(pods, n.name, rule.selector, pod.namespace)
            me = selectors.matches(rule.selector, pod.labels)
            if counts[node.labels[rule.key]] + me - min(counts.values()) > rule.max_skew:
                return "didn't match pod topology spread constraints"
    return None


def least_allocated(pod: Pod, node: Node, pods: Sequence[Pod], weights: Mapping[str, int] | None = None) -> int:
    """More room left, more points: the weighted mean of ``(capacity − requested) × 100 / capacity``.

    Raises ValueError for a weight that is not between 1 and 100.
    """
    weights = weights or {"cpu": 1, "memory": 1}
    if bad := {name: weight for name, weight in weights.items() if not 1 <= weight <= MAX}:
        raise ValueError(f"weights={bad!r}: each must be between 1 and {MAX}")
    total = divisor = 0
    for resource, weight in weights.items():
        capacity = node.capacity.get(resource, 0)
        if resource not in ("cpu", "memory") and not pod.requests.get(resource):
            continue
        if capacity == 0:
            continue
        used = sum(other.counted(resource) for other in pods if other.node == node.name) + pod.counted(resource)
        total += weight * (0 if used > capacity else (capacity - used) * MAX // capacity)
        divisor += weight
    return total // divisor if divisor else 0


def balanced_allocation(pod: Pod, node: Node, pods: Sequence[Pod], resources: Sequence[str] = ("cpu", "memory")) -> int | None:
    """Even use of the resources: 100 × (1 − standard deviation of the used fractions). None for a pod that asks for nothing."""
    if not any(pod.requests.get(resource) for resource in resources):
        return None
    fractions = []
    for resource in resources:
        capacity = node.capacity.get(resource, 0)
        if capacity == 0 or resource not in ("cpu", "memory") and not pod.requests.get(resource):
            continue
        fractions.append(min(1.0, (requested(pods, node.name, resource) + pod.requests.get(resource, 0)) / capacity))
    if len(fractions) == 2:
        deviation = abs(fractions[0] - fractions[1]) / 2
    elif len(fractions) > 2:
        mean = sum(fractions) / len(fractions)
        deviation = math.sqrt(sum((f - mean) ** 2 for f in fractions) / len(fractions))
    else:
        deviation = 0.0
    return int((1 - deviation) * MAX)


def _matching(pods: Sequence[Pod], node: str, selector: Mapping | None, namespace: str) -> int:
    return sum(
        other.node == node and other.namespace == namespace and not other.terminating and selectors.matches(selector, other.labels)
        for other in pods
    )


def topology_spread(pod: Pod, candidates: Sequence[Node], pods: Sequence[Pod], nodes: Sequence[Node] | None = None) -> dict[str, int]:
    """Fewer matching pods in the same domain, more points: node -> score, over the soft constraints of ``pod``.

    ``candidates`` passed the filter; ``nodes`` are all there are. A domain's count weighs ``log(domains + 2)``, and
    ``max_skew − 1`` is added, so that a tolerated skew matters less. Nodes without a key get 0.
    """
    nodes = list(candidates if nodes is None else nodes)
    rules = [rule for rule in pod.spread if not rule.hard]
    has_all = {node.name: all(rule.key in node.labels for rule in rules) for node in nodes}
    scored = [node for node in candidates if has_all[node.name]]
    raw = {node.name: 0.0 for node in scored}
    for rule in rules:
        host = rule.key == HOSTNAME
        domains = {node.labels[rule.key] for node in scored}
        weight = math.log((len(scored) if host else len(domains)) + 2)
        counts = dict.fromkeys(domains, 0)
        for node in nodes:
            counted = all(node.labels.get(k) == v for k, v in pod.node_selector.items())
            if has_all[node.name] and node.labels[rule.key] in domains and (host or counted):
                counts[node.labels[rule.key]] += _matching(pods, node.name, rule.selector, pod.namespace)
        for node in scored:
            raw[node.name] += counts[node.labels[rule.key]] * weight + (rule.max_skew - 1)
    whole = {name: math.floor(value + 0.5) for name, value in raw.items()}
    highest, lowest = max(whole.values(), default=0), min(whole.values(), default=0)
    scores = {name: MAX if highest == 0 else MAX * (highest + lowest - value) // highest for name, value in whole.items()}
    return {node.name: scores.get(node.name, 0) for node in candidates}


WEIGHTS = {"least allocated": 1, "balanced": 1, "spread": 2}
"""kube-scheduler's default weights of the three."""


def score(pod: Pod, candidates: Sequence[Node], pods: Sequence[Pod], nodes: Sequence[Node]) -> dict[str, dict[str, int]]:
    """Node -> the points of each plugin and their weighted sum, ``total``."""
    spread = topology_spread(pod, candidates, pods, nodes) if any(not rule.hard for rule in pod.spread) else {}
    found = {}
    for node in candidates:
        points = {"least allocated": least_allocated(pod, node, pods), "balanced": balanced_allocation(pod, node, pods) or 0,
                  "spread": spread.get(node.name, 0)}  # fmt: skip
        found[node.name] = points | {"total": sum(WEIGHTS[name] * value for name, value in points.items())}
    return found


def choose(pod: Pod, nodes: Sequence[Node], pods: Sequence[Pod]) -> tuple[str | None, str]:
    """(the node, or None; why). Of equals the first by name: kube-scheduler takes one at random."""
    reasons = {node.name: why_not(pod, node, pods, nodes) for node in nodes}
    fit = [node for node in nodes if reasons[node.name] is None]
    if not fit:
        counts: dict[str, int] = {}
        for reason in reasons.values():
            counts[str(reason)] = counts.get(str(reason), 0) + 1
        return None, f"0/{len(nodes)} nodes are available: " + ", ".join(f"{n} {text}" for text, n in sorted(counts.items()))
    points = score(pod, fit, pods, nodes)
    best = min(points, key=lambda name: (-points[name]["total"], name))
    return best, f"{best}: {points[best]['total']} points"


_UNITS = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "": 1.0}


def quantity(text: str | int | float) -> float:
    """A Kubernetes quantity: ``250m``, ``1Gi``, ``2``."""
    text = str(text)
    number = text.rstrip("mkMGKi")
    try:
        return float(number) * _UNITS[text[len(number) :]]
    except (ValueError, KeyError):
        raise ValueError(f"quantity={text!r}: must look like 250m, 2 or 1Gi") from None


def pod_from(value: Mapping) -> Pod:
    """The scheduler's view of a pod of the API."""
    spec, meta = value["spec"], value["metadata"]
    requests, assumed = {"cpu": 0, "memory": 0}, dict.fromkeys(ASSUMED, 0)
    for container in spec["containers"]:
        asked = (container.get("resources") or {}).get("requests") or {}
        for name, amount in asked.items():
            requests[name] = requests.get(name, 0) + round(quantity(amount) * (1000 if name == "cpu" else 1))
        for name, amount in ASSUMED.items():
            assumed[name] += 0 if name in asked else amount
    rules = tuple(
        Spread(each["topologyKey"], each.get("labelSelector"), each.get("maxSkew", 1), each.get("whenUnsatisfiable") == "DoNotSchedule")
        for each in spec.get("topologySpreadConstraints") or ()
    )
    return Pod(
        meta["name"], requests, meta.get("labels") or {}, spec.get("nodeName", ""), meta.get("namespace", ""), spec.get("nodeSelector") or {},
        tuple(each.get("key", "") for each in spec.get("tolerations") or ()), rules, "deletionTimestamp" in meta, assumed,
    )  # fmt: skip


def node_from(value: Mapping) -> Node:
    """The scheduler's view of a node of the API."""
    capacity = (value.get("status") or {}).get("allocatable") or {}
    amounts = {name: round(quantity(amount) * (1000 if name == "cpu" else 1)) for name, amount in capacity.items()}
    taints = tuple(taint["key"] for taint in (value.get("spec") or {}).get("taints") or ())
    return Node(value["metadata"]["name"], amounts, value["metadata"].get("labels") or {}, taints, amounts.get("pods", 110))
