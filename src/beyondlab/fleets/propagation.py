"""Which clusters run a workload, and how many replicas each: filter, select, divide.

The vocabulary is that of Karmada's PropagationPolicy: affinity, spread constraints, static weights, aggregation. Added
are two objectives that pick the order of clusters: cost and latency. Replicas that run are not moved: a larger total
adds, a smaller one takes away in proportion, a lost cluster's replicas go to the others, and when it returns nothing
moves back until somebody asks for it (Karmada: WorkloadRebalancer).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from beyondlab.fleets.division import Division, NotEnoughRoom, webster
from beyondlab.kit import check

OBJECTIVES = ("weights", "cost", "latency")


class Unplaceable(ValueError):
    """No placement keeps to the policy. The message says what stands against each cluster."""


@dataclass(frozen=True)
class Cluster:
    """A member. ``room``: replicas it can take; ``cost``: USD a replica and hour; ``latency``: ms from the users."""

    name: str
    ready: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    room: int = 1_000
    cost: float = 0.0
    latency: float = 0.0


@dataclass(frozen=True)
class Policy:
    """``affinity``: labels a cluster must have, for data that must stay where it is. ``weights``: cluster -> share (1 if
    unnamed). ``objective``: divide by weights, or fill the cheapest or nearest first. ``at_least``, ``at_most``: clusters
    to spread over. ``max_latency``: ms."""

    affinity: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, int] = field(default_factory=dict)
    objective: str = "weights"
    at_least: int = 1
    at_most: int = 1_000
    max_latency: float | None = None

    def __post_init__(self) -> None:
        check.one_of("objective", self.objective, OBJECTIVES)
        if not 1 <= self.at_least <= self.at_most:
            raise ValueError(f"at_least={self.at_least!r}, at_most={self.at_most!r}: need 1 ≤ at_least ≤ at_most")

    def against(self, cluster: Cluster) -> str | None:
        """What stands against a cluster, or None."""
        if not cluster.ready:
            return "not ready"
        if missing := {key: value for key, value in self.affinity.items() if cluster.labels.get(key) != value}:
            return "no " + ", ".join(f"{key}={value}" for key, value in missing.items())
        if self.max_latency is not None and cluster.latency > self.max_latency:
            return f"{cluster.latency:g} ms is over {self.max_latency:g}"
        if self.weights and not self.weights.get(cluster.name, 1):
            return "weight 0"
        return None if cluster.room > 0 else "no room"


def place(replicas: int, clusters: Sequence[Cluster], policy: Policy, previous: Mapping[str, int] | None = None) -> Division:
    """Cluster -> replicas, those that get none left out. ``previous``: where they run now.

    Raises :class:`Unplaceable` or :class:`beyondlab.fleets.division.NotEnoughRoom`.
    """
    reasons = {cluster.name: policy.against(cluster) for cluster in clusters}
    fit = [cluster for cluster in clusters if reasons[cluster.name] is None]
    if len(fit) < policy.at_least:
        why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items() if reason)
        raise Unplaceable(f"{len(fit)} of {len(clusters)} clusters fit, {policy.at_least} are needed ({why})")
    previous = previous or {}
    rank = {
        "weights": lambda c: (-policy.weights.get(c.name, 1), c.name),
        "cost": lambda c: (c.cost, c.latency, c.name),
        "latency": lambda c: (c.latency, c.cost, c.name),
    }[policy.objective]
    chosen = sorted(fit, key=lambda c: (c.name not in previous, *rank(c)))[: policy.at_most]
    chosen.sort(key=rank)
    room = {cluster.name: cluster.room for cluster in chosen}
    kept = {name: min(count, room[name]) for name, count in previous.items() if name in room}
    if sum(kept.values()) > replicas:
        return _some(webster(replicas, kept))
    if policy.objective == "weights":
        weights = {cluster.name: policy.weights.get(cluster.name, 1) for cluster in chosen}
        return _some(webster(replicas - sum(kept.values()), weights, kept, room=room))
    return _some(_fill(replicas, chosen, kept, policy.at_least))


def _fill(replicas: int, order: Sequence[Cluster], kept: Mapping[str, int], at_least: int) -> Division:
    """One replica on each of the first ``at_least`` clusters, the rest as early in the order as there is room."""
    result = {cluster.name: kept.get(cluster.name, 0) for cluster in order}
    left = replicas - sum(result.values())
    for cluster in order:
        if left and sum(map(bool, result.values())) < at_least and not result[cluster.name]:
            result[cluster.name], left = 1, left - 1
    for cluster in order:
        more = min(left, cluster.room - result[cluster.name])
        result[cluster.name], left = result[cluster.name] + more, left - more
    if left:
        raise NotEnoughRoom(f"there is no room for {left} of {replicas} replicas")
    return result


def _some(division: Division) -> Division:
    return {name: count for name, count in sorted(division.items()) if count}


def moved(before: Mapping[str, int], after: Mapping[str, int]) -> int:
    """Replicas that have to start somewhere else."""
    return sum(max(0, count - before.get(name, 0)) for name, count in after.items())
