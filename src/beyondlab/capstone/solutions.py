"""Three worked designs, and the check that tells what a design misses, and by how much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from beyondlab.capstone.model import Invalid, evaluate
from beyondlab.capstone.product import Choice, Product, Requirements
from beyondlab.kit.exercises import Verdict, verdict


@dataclass(frozen=True)
class Solution:
    """A worked design: its choice, and the reason for each decision."""

    choice: Choice
    reasons: Mapping[str, str]


POPULAR = Choice("container", "sidecar", "one cluster", "containers", "database", "log")
"""What "the cloud-native stack" usually means: one cluster, sidecars, pods that are always there, a log, a database."""

_KV = "compare-and-set on the broker that is there anyway; an id in each alert, so none goes out twice"
_QUEUE = "batches of ten make the model five times cheaper, and a burst waits instead of being refused"
_PLACES = "B's data must stay in B; A can fail over to B, not the other way round"

SOLUTIONS: Mapping[str, Solution] = {
    "cheapest": Solution(
        Choice("microvm", "none", "managed", "functions", "database", "queue"),
        {
            "isolation": "the platform's own: each environment in a microVM, a kernel for itself",
            "mesh": "a function has no pod for a proxy; the platform gives it an identity",
            "orchestration": "a region in each country, and nobody here has to run a cluster",
            "compute": "grows within a second in a burst, and costs nothing for room between two bursts",
            "state": "SQL moves as it is; with the platform's table too little of the design would",
            "events": _QUEUE,
        },
    ),
    "simplest": Solution(
        Choice("microvm", "ambient", "cluster per country", "containers", "key-value", "queue"),
        {
            "isolation": "a kernel of its own around third-party code; it fits into what whole nodes leave over",
            "mesh": "an identity for each service; ztunnels fit into the same room",
            "orchestration": _PLACES,
            "compute": "nothing scales and nothing starts: a burst waits for 2.6 s, and 3 are allowed",
            "state": _KV,
            "events": _QUEUE,
        },
    ),
    "most portable": Solution(
        Choice("gvisor", "ambient", "cluster per country", "knative", "key-value", "queue"),
        {
            "isolation": "gVisor runs on any node; nested virtualisation does not",
            "mesh": "SPIFFE identities move with the cluster; cloud roles do not",
            "orchestration": _PLACES,
            "compute": "Knative's API is the same everywhere, the handler a functions-framework one",
            "state": "NATS runs anywhere; compare-and-set is all it needs",
            "events": "NATS too; a plain call would move as it is, but its bursts would need five times the nodes",
        },
    ),
}
"""Name -> design. Each meets all requirements; a test holds them to it."""


def check(choice: Choice | None, *, product: Product = Product(), requirements: Requirements = Requirements()) -> Verdict:
    """Whether a design meets all requirements; else every one that it misses, and by how much."""
    if choice is None:
        return verdict(False, "Not answered yet: replace None with a Choice.")
    try:
        outcome = evaluate(choice, product)
    except Invalid as reason:
        return verdict(False, f"This cannot be built. {reason}")
    missed = outcome.missed(requirements)
    if missed:
        return verdict(False, "\n".join([f"{len(missed)} of 6 missed:", *(f"- {miss}" for miss in missed)]))
    return verdict(True, f"All six are met: {outcome.cost:,.0f} USD a month, p99 {outcome.p99:.2f} s, "
                         f"{100 * outcome.availability:.3f} % on time, level {outcome.isolation}, portability {outcome.portability:.2f}.")  # fmt: skip
