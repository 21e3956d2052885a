"""The composed simulation: a design in, its six figures out. Every figure is a chapter's model, called with this fleet.

Times in seconds, USD a month of 730 hours.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from beyondlab import sim
from beyondlab.capstone import faults as going_wrong
from beyondlab.capstone import money, numbers, scores, stages
from beyondlab.capstone.product import (
    Choice,
    Miss,
    Product,
    Requirements,
    invalid,
    misses,
)
from beyondlab.durable import model as durable
from beyondlab.kit.tables import Table, table
from beyondlab.mesh import tax

Array = NDArray[np.float64]

CALLS = 3
"""Calls on the way of an alert: gateway to enrichment, to state, to the sender."""

STATE = {
    "key-value, own": ("remote", durable.Costs(compute=1e-9)),
    "key-value, managed": ("remote", durable.Costs(compute=1e-9, trip=0.001, store=0.003, servers=64)),
    "entity, own": ("partition", durable.Costs(compute=1e-9)),
    "entity, managed": ("partition", durable.Costs(compute=1e-9, flush=0.010)),
    "database, own": ("remote", durable.Costs(compute=1e-9, trip=0.002, store=0.003, servers=16)),
    "database, managed": ("remote", durable.Costs(compute=1e-9, trip=0.002, store=0.003, servers=16)),
}
"""Where the state is -> the stateful chapter's architecture and its times; those of stores elsewhere are chosen."""


class Invalid(ValueError):
    """A design that cannot be built; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """What a design comes to. ``page``: p99 of the dashboard's page, s; ``late``: share of alerts late without any fault;
    ``repeats``: alerts a month sent twice."""

    choice: Choice
    cost: float
    p50: float
    p99: float
    availability: float
    isolation: int
    portability: float
    residency: float
    page: float
    late: float
    repeats: float
    lines: dict[str, float]
    faults: tuple[going_wrong.Fault, ...]

    def missed(self, requirements: Requirements = Requirements()) -> list[Miss]:
        """The requirements that it does not meet, each with how much is missing."""
        return misses(asdict(self), requirements)

    def table(self) -> Table:
        """Its figures."""
        return table(
            ["Figure", "Value"],
            [
                ["cost", f"{self.cost:,.0f} USD a month"],
                ["p50 and p99 of the alert path", f"{self.p50:.2f} and {self.p99:.2f} s"],
                ["alerts on time", f"{100 * self.availability:.3f} %"],
                ["isolation, ordinal", f"{self.isolation} of 5"],
                ["portability", f"{self.portability:.2f}"],
                ["B's data that leaves B", f"{100 * self.residency:.0f} %"],
                ["p99 of the dashboard's page", f"{1000 * self.page:.0f} ms"],
                ["alerts sent twice", f"{self.repeats:.2f} a month"],
            ],
            align="lr",
        )


def fixed(product: Product, choice: Choice) -> dict[str, float]:
    """Seconds that every alert spends outside the enrichment, by stage."""
    trip = numbers.QUEUE_TRIP if not choice.own_clusters else numbers.BROKER_TRIP
    return {
        "mesh": CALLS * hop(choice),
        "events": 0.0 if choice.events == "direct" else trip.value / 1000,
        "state": held(product, choice, durable.Request(reads=1, writes=1)),
        "out": numbers.OUT.value / 1000,
    }


def hop(choice: Choice) -> float:
    """Seconds that the mesh adds to a call."""
    return numbers.ISTIO_HOPS.get(choice.mesh, 0.0) / 1000


def held(product: Product, choice: Choice, request: durable.Request) -> float:
    """Mean seconds that the state takes for a request."""
    architecture, costs = STATE[f"{choice.state}, {'own' if choice.own_clusters else 'managed'}"]
    return durable.latency(architecture, product.rate / stages.batch_of(choice), request, costs)


def page(product: Product, choice: Choice) -> float:
    """p99 in seconds of the dashboard's page: it has its slowest panel last. Each panel's read is taken as exponential."""
    each = sim.leaf_percentile(99.0, int(numbers.PANELS.value)) / 100
    read = held(product, choice, durable.Request(reads=1, writes=0))
    return hop(choice) - read * math.log1p(-each)


def distribution(product: Product, choice: Choice, seed: int = 1) -> tuple[Array, Array]:
    """Seconds of enrichment, sorted, and the share of alerts up to each: all moments, each with its share of the alerts."""
    plain = replace(choice, state="database", mesh="sidecar" if choice.mesh == "sidecar" else "none")
    return _distribution(product, plain, seed)


@lru_cache(256)
def _distribution(product: Product, choice: Choice, seed: int) -> tuple[Array, Array]:
    ordinary, burst = product.alerts
    responses, weights = [], []
    places = stages.sites(product, choice)
    for site, (devices, _) in enumerate(places):
        share = sum(devices) / sum(product.devices)
        of_bursts = share if len(places) > 1 else 1.0
        for moment in stages.MOMENTS:
            response = stages.enrich(product, choice, site, moment, seed).response
            part = burst * of_bursts if moment == "burst" else ordinary * share * stages.level(product, moment) / 3
            responses.append(response)
            weights.append(np.full(response.size, part / max(response.size, 1)))
    values, weight = np.concatenate(responses), np.concatenate(weights)
    order = np.argsort(values)
    return values[order], np.cumsum(weight[order]) / weight.sum()


def quantile(found: tuple[Array, Array], q: float) -> float:
    """The ``q``-quantile of a :func:`distribution`."""
    values, shares = found
    return float(values[min(int(np.searchsorted(shares, q)), values.size - 1)])


def evaluate(choice: Choice, product: Product = Product(), *, seed: int = 1) -> Outcome:
    """What ``choice`` comes to, for ``product``. Raises :class:`Invalid`, with the reason, if it cannot be built."""
    if reason := invalid(choice):
        raise Invalid(f"{choice}: {reason}")
    around = fixed(product, choice)
    found, shift = distribution(product, choice, seed), sum(around.values())
    values, shares = found
    in_time = int(np.searchsorted(values, product.on_time - shift, side="right"))
    late = 1.0 - (float(shares[in_time - 1]) if in_time else 0.0)
    wrong = tuple(going_wrong.faults(product, choice, seed))
    lines = money.lines(product, choice, seed)
    return Outcome(
        choice=choice,
        cost=sum(lines.values()),
        p50=shift + quantile(found, 0.5),
        p99=shift + quantile(found, 0.99),
        availability=going_wrong.availability(wrong, max(late, 0.0)),
        isolation=scores.isolation(choice),
        portability=scores.portability(choice),
        residency=1.0 if choice.orchestration == "one cluster" else 0.0,
        page=page(product, choice),
        late=max(late, 0.0),
        repeats=going_wrong.repeats(product, choice, around["state"] / 2, seed),
        lines=lines,
        faults=wrong,
    )


FIGURES = ("cost", "p99", "availability", "isolation", "portability", "residency", "repeats")


def score(seed: int, devices_a: int = 12_000, devices_b: int = 8_000, **decisions: str) -> dict[str, float]:
    """One design as :func:`beyondlab.sim.sweeps.sweep` wants it: its decisions as texts in, its figures as numbers out.

    The level of isolation is called ``level``, for ``isolation`` is the decision.
    """
    outcome = evaluate(Choice(**decisions), Product(devices=(devices_a, devices_b)), seed=seed)
    return {"level" if name == "isolation" else name: float(getattr(outcome, name)) for name in FIGURES}


CHAPTERS = {
    "containers": "What is a container?",
    "sim": "Measuring and simulating",
    "functions": "AWS Lambda and its cold starts",
    "microvms": "Firecracker and microVMs",
    "mesh": "Service mesh",
    "fleets": "Hybrid orchestration",
    "knative": "Knative and portable serverless",
    "inference": "Serverless for machine learning",
    "durable": "Stateful serverless",
    "hosting": "Serverless containers",
    "events": "Event-driven architectures",
}
"""Package -> the chapter whose models it has. Those of "Measuring and simulating" are the course's simulator itself."""

MODELS = (
    ("bytes that a new machine pulls", "containers", "bytes_pulled"),
    ("arrivals of readings and bursts", "sim", "poisson"),
    ("waits of pods that are always there", "sim", "queue"),
    ("a page that waits for its slowest panel", "sim", "leaf_percentile"),
    ("environments kept, cold starts", "sim", "simulate (keep-alive)"),
    ("what a function costs", "functions", "on_demand"),
    ("memory and cores of the wall, its strength", "microvms", "options"),
    ("proxies' CPU, memory and time", "mesh", "tax.sidecars, tax.ambient, tax.reserved"),
    ("replicas to each country", "fleets", "division.webster"),
    ("a cluster or zone away, fail-over", "fleets", "Timings, lost_minutes, Plan"),
    ("pods that follow the load, cold starts", "knative", "simulate (KPA)"),
    ("what moves unchanged", "knative", "moved_share, Move"),
    ("seconds of a batch through the model", "inference", "batching.fit"),
    ("read and write of the state; its bill", "durable", "latency, bill"),
    ("pods on whole nodes", "hosting", "pack, least_hosts"),
    ("what a serverless container costs", "hosting", "scheme"),
    ("batches from a queue or log; refused calls", "events", "batches, mean_batch, bounded_queue"),
    ("deliveries of a poison message", "events", "EventQueue"),
)
"""Number -> the package whose model gives it -> the functions called."""


def models() -> Table:
    """Which chapter's model gives which number."""
    return table(["Number", "Chapter", "Called"], [[number, CHAPTERS[package], called] for number, package, called in MODELS])
