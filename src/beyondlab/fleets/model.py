"""Availability and cost of one, two, three clusters: closed form, and a seeded simulation that must agree with it.

Clusters fail on their own and together. Together is what one outage of something shared does to all: a bad release, DNS,
identity, the fleet's own control plane. The share of such outages is the common-cause share (reliability engineering:
the beta factor). Times in hours unless a name says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from beyondlab.kit import check
from beyondlab.kit.prices import price
from beyondlab.kit.tables import Table, percent, quantity, table

YEAR = 8_766.0
"""Hours of a year."""

MONTH = YEAR / 12

NODES, PODS, PODS_A_NODE = 5_000, 150_000, 110
"""What Kubernetes says one cluster is designed for (kubernetes.io, "Considerations for large clusters")."""


@dataclass(frozen=True)
class Plan:
    """``clusters`` of equal size. ``outages``: a cluster and year, of all causes; ``hours`` each, on average.

    ``common``: share of the outages that hit all clusters. ``spare``: capacity beyond the demand, as a share of it: with
    1.0 two clusters can each carry everything. ``failover``: hours until what ran in a lost cluster runs elsewhere.
    """

    clusters: int = 2
    outages: float = 2.0
    hours: float = 4.0
    common: float = 0.1
    spare: float = 1.0
    failover: float = 330 / 3600

    def __post_init__(self) -> None:
        if isinstance(self.clusters, bool) or not isinstance(self.clusters, int) or not 1 <= self.clusters <= 50:
            raise ValueError(f"clusters={self.clusters!r}: must be a whole number from 1 to 50")
        check.all_positive(outages=self.outages, hours=self.hours)
        check.share("common", self.common)
        check.non_negative("spare", self.spare)
        check.non_negative("failover", self.failover, "hours")

    @property
    def needed(self) -> int:
        """How many clusters must be up to carry the whole demand."""
        return max(1, math.ceil(self.clusters / (1 + self.spare) - 1e-9))

    @property
    def survives(self) -> int:
        """How many clusters may be lost."""
        return self.clusters - self.needed


def unavailability(rate: float, hours: float) -> float:
    """Share of the time that something is down which fails ``rate`` times a year of being up, for ``hours`` on average."""
    return rate * hours / (YEAR + rate * hours)


def available(plan: Plan) -> float:
    """Share of the time that enough clusters are up, in closed form: the shared part in series with k out of n.

    Both fail and recover independently of each other and of how long it takes (renewal theory: only means matter).
    """
    single = 1 - unavailability(plan.outages * (1 - plan.common), plan.hours) if plan.common < 1 else 1.0
    shared = 1 - unavailability(plan.outages * plan.common, plan.hours) if plan.common else 1.0
    n = plan.clusters
    return shared * sum(math.comb(n, k) * single**k * (1 - single) ** (n - k) for k in range(plan.needed, n + 1))


def unserved(plan: Plan) -> list[float]:
    """Share of the demand that is not served with 0, 1, … all clusters down, once the others have taken over."""
    n = plan.clusters
    return [max(0.0, 1 - (n - down) * (1 + plan.spare) / n) for down in range(n + 1)]


def gaps(plan: Plan) -> float:
    """Share of all requests lost in fail-overs: what others can take over is lost until they do, ``failover`` hours."""
    takeover = 1 / plan.clusters - unserved(plan)[1]
    each = plan.hours * (1 - math.exp(-plan.failover / plan.hours))
    return plan.clusters * plan.outages * (1 - plan.common) * takeover * each / YEAR


def lost(plan: Plan) -> float:
    """Share of all requests lost, in closed form: what the clusters that are up cannot serve, and the fail-overs."""
    down = unavailability(plan.outages * (1 - plan.common), plan.hours) if plan.common < 1 else 0.0
    shared = unavailability(plan.outages * plan.common, plan.hours) if plan.common else 0.0
    n = plan.clusters
    short = sum(math.comb(n, k) * down**k * (1 - down) ** (n - k) * each for k, each in enumerate(unserved(plan)))
    return min(1.0, shared + (1 - shared) * (short + gaps(plan)))


def common_share(single: float, pair: float) -> float:
    """The common-cause share that makes two clusters, each down a share ``single`` of the time, both down ``pair`` of it.

    Solves ``pair = β·single + ((1−β)·single)²`` for β. 0 if the pair is better than independent, 1 if no better than one.
    """
    check.share("single", single)
    check.share("pair", pair)
    if pair >= single:
        return 1.0
    if pair <= single**2:
        return 0.0
    a, b, c = single**2, single - 2 * single**2, single**2 - pair
    return (-b + math.sqrt(b * b - 4 * a * c)) / (2 * a)


@dataclass(frozen=True)
class Simulated:
    """``years`` lived through. ``down``: share of the time without enough clusters; ``lost``: share of requests."""

    years: float
    down: float
    lost: float
    outages: int
    worst: float
    """Hours of the longest time without enough clusters."""


def simulate(plan: Plan, *, years: float = 1_000.0, seed: int = 0) -> Simulated:
    """Draw every outage of every cluster and of what they share, exponential up and down, and add up.

    Fail-overs are drawn as they happen: a cluster's part of the requests is lost until the others took over.
    """
    check.positive("years", years)
    horizon = years * YEAR
    streams = [np.random.default_rng(each) for each in np.random.SeedSequence(seed).spawn(plan.clusters + 1)]
    own, shared = plan.outages * (1 - plan.common), plan.outages * plan.common
    spans = [_spans(stream, own, plan.hours, horizon) for stream in streams[1:]]
    common = _spans(streams[0], shared, plan.hours, horizon)
    edges, counts = _count(spans, horizon)
    lengths, down = _either(edges, counts, common, horizon, plan.clusters)
    bad = down > plan.clusters - plan.needed
    missing = np.array(unserved(plan))
    takeover = 1 / plan.clusters - missing[1]
    gap = takeover * sum(float(np.minimum(span[:, 1] - span[:, 0], plan.failover).sum()) for span in spans)
    runs = _runs(lengths, bad)
    total = float((lengths * missing[down]).sum()) + gap
    return Simulated(years, float(lengths[bad].sum()) / horizon, min(1.0, total / horizon), len(runs), max(runs, default=0.0))


def _spans(stream: np.random.Generator, rate: float, hours: float, horizon: float) -> np.ndarray:
    """(n, 2): begin and end of the outages before ``horizon``, in hours."""
    if rate <= 0:
        return np.zeros((0, 2))
    count = int(horizon / YEAR * rate * 1.3 + 10 * math.sqrt(horizon / YEAR * rate) + 20)
    up, down = stream.exponential(YEAR / rate, count), stream.exponential(hours, count)
    begin = np.cumsum(up) + np.concatenate([[0.0], np.cumsum(down)[:-1]])
    spans = np.column_stack([begin, begin + down])
    return np.minimum(spans[spans[:, 0] < horizon], horizon)


def _count(spans: Sequence[np.ndarray], horizon: float) -> tuple[np.ndarray, np.ndarray]:
    """Edges of time and how many clusters are down between them."""
    begins = np.concatenate([span[:, 0] for span in spans]) if spans else np.zeros(0)
    ends = np.concatenate([span[:, 1] for span in spans]) if spans else np.zeros(0)
    at = np.concatenate([[0.0], begins, ends, [horizon]])
    step = np.concatenate([[0], np.ones(begins.size, int), -np.ones(ends.size, int), [0]])
    order = np.argsort(at, kind="stable")
    return at[order], np.cumsum(step[order])[:-1]


def _either(edges: np.ndarray, counts: np.ndarray, common: np.ndarray, horizon: float, all_of_them: int) -> tuple[np.ndarray, np.ndarray]:
    """(lengths of intervals, clusters down in each), the shared outages counted in: they take all."""
    both = np.unique(np.concatenate([edges, common.ravel(), [0.0, horizon]]))
    middle = (both[:-1] + both[1:]) / 2
    here = counts[np.clip(np.searchsorted(edges, middle, side="right") - 1, 0, counts.size - 1)]
    inside = np.searchsorted(common[:, 0], middle, side="right") > np.searchsorted(common[:, 1], middle, side="right")
    return np.diff(both), np.where(inside, all_of_them, here)


def _runs(lengths: np.ndarray, down: np.ndarray) -> list[float]:
    """Lengths of the uninterrupted times down."""
    found, current = [], 0.0
    for length, bad in zip(lengths, down):
        if bad:
            current += float(length)
        elif current:
            found.append(current)
            current = 0.0
    return [*found, current] if current else found


def capacity_to_survive(clusters: int, losses: int = 1) -> float:
    """Total capacity, as a multiple of the demand, with which ``losses`` of the ``clusters`` may go: n / (n − k)."""
    if not 0 <= losses < clusters:
        raise ValueError(f"losses={losses!r}: must be zero or more and less than clusters={clusters!r}")
    return clusters / (clusters - losses)


@dataclass(frozen=True)
class Timings:
    """Seconds. ``detect``: until the loss is known and traffic moves; ``evict``: until replicas are placed elsewhere;
    ``start``: until they are ready where there is room; ``nodes``: until new nodes are there where there is not."""

    detect: float = 30.0
    evict: float = 300.0
    start: float = 10.0
    nodes: float = 120.0


def after_a_loss(clusters: int, spare: float, timings: Timings = Timings()) -> list[tuple[float, float]]:
    """Steps of (seconds since the loss, share of the demand that is served from then on) when one of n clusters goes.

    Until the loss is known its part of the requests fails. Then what runs elsewhere serves what it can: the rooms are
    there, but replicas only fill the demand that they had. After eviction they fill the spare room, and at last new nodes.
    """
    check.whole("clusters", clusters, 1)
    check.non_negative("spare", spare)
    rest = (clusters - 1) / clusters
    room = min(1.0, rest * (1 + spare))
    known = timings.detect + timings.evict + timings.start
    steps = [(0.0, rest), (known, room)]
    return steps + ([(known + timings.nodes, 1.0)] if room < 1 and clusters > 1 else [])


def lost_minutes(clusters: int, spare: float, timings: Timings = Timings(), *, outage: float = 14_400.0) -> float:
    """Minutes of the whole demand that one outage of ``outage`` seconds costs."""
    check.positive("outage", outage)
    steps = [(t, share) for t, share in after_a_loss(clusters, spare, timings) if t < outage] + [(outage, 1.0)]
    return sum((b - a) * (1 - share) for (a, share), (b, _) in zip(steps, steps[1:])) / 60


@dataclass(frozen=True)
class Workload:
    """What runs. ``vcpus`` for the demand; ``replicated``: GB a month that must be copied to every other cluster;
    ``per_hour``: USD that an hour without service costs."""

    vcpus: float = 200.0
    replicated: float = 2_000.0
    per_hour: float = 5_000.0


def monthly(plan: Plan, load: Workload) -> dict[str, float]:
    """USD a month: capacity, control planes, egress, and what the lost requests cost."""
    capacity = load.vcpus * (1 + plan.spare) * price("fleet.vcpu-hour") * MONTH
    planes = plan.clusters * price("fleet.control-plane") * MONTH
    egress = load.replicated * (plan.clusters - 1) * price("fleet.egress")
    return {"capacity": capacity, "control planes": planes, "egress": egress, "lost": lost(plan) * MONTH * load.per_hour}


def options(load: Workload, base: Plan = Plan()) -> list[tuple[str, Plan]]:
    """Five ways to run it, all with the outages of ``base``."""
    return [
        ("one cluster", replace(base, clusters=1, spare=0.0)),
        ("two, no spare", replace(base, clusters=2, spare=0.0)),
        ("two, each can carry all", replace(base, clusters=2, spare=1.0)),
        ("three, two carry all", replace(base, clusters=3, spare=0.5)),
        ("three, each can carry all", replace(base, clusters=3, spare=2.0)),
    ]


def decide(load: Workload, base: Plan = Plan()) -> Table:
    """The options with availability and cost, cheapest total first marked."""
    rows, totals = [], []
    for name, plan in options(load, base):
        costs = monthly(plan, load)
        totals.append(sum(costs.values()))
        paid = costs["capacity"] + costs["control planes"] + costs["egress"]
        rows.append([name, percent(lost(plan)), quantity(lost(plan) * YEAR), quantity(round(paid)), quantity(round(costs["lost"])), round(totals[-1])])
    best = totals.index(min(totals))
    rows[best][0] = f"**{rows[best][0]}**"
    return table(["Option", "Requests lost", "Hours a year", "Paid, USD a month", "Lost, USD a month", "Together"], rows, align="lrrrrr")


def worth_it(load: Workload, base: Plan = Plan()) -> float:
    """USD an hour of outage from which the best of several clusters costs less in all than one cluster."""
    one, *others = (plan for _, plan in options(load, base))
    paid = lambda plan: sum(each for key, each in monthly(plan, load).items() if key != "lost")  # noqa: E731
    candidates = [(paid(plan) - paid(one)) / ((lost(one) - lost(plan)) * MONTH) for plan in others if lost(plan) < lost(one)]
    return min(candidates, default=math.inf)


def clusters_for(pods: int, pods_a_node: int = 30) -> tuple[int, str]:
    """(clusters needed by Kubernetes' published limits, which limit binds)."""
    if pods < 1 or not 1 <= pods_a_node <= PODS_A_NODE:
        raise ValueError(f"pods={pods!r}, pods_a_node={pods_a_node!r}: need at least one pod, and 1 to {PODS_A_NODE} on a node")
    by_pods, by_nodes = math.ceil(pods / PODS), math.ceil(math.ceil(pods / pods_a_node) / NODES)
    return max(by_pods, by_nodes), "nodes" if by_nodes > by_pods else "pods"
