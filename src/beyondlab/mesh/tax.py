"""What a mesh costs a fleet: sidecars against ambient (a ztunnel on each node, waypoints where HTTP matters).

CPU follows requests, memory follows proxies, latency follows hops. The figures of a proxy are Istio's published ones
(:data:`ISTIO`) unless others are given, such as those that the lab measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from beyondlab.kit import check
from beyondlab.kit.tables import Table, quantity, table


@dataclass(frozen=True)
class Proxy:
    """One kind of proxy: ``cpu`` vCPU at 1,000 requests a second, ``memory`` MB each, ``hop`` ms that it adds."""

    cpu: float
    memory: float
    hop: float = math.nan

    def __post_init__(self) -> None:
        for name in ("cpu", "memory"):
            check.non_negative(name, getattr(self, name))


ISTIO = {"sidecar": Proxy(0.20, 60), "waypoint": Proxy(0.25, 60), "ztunnel": Proxy(0.06, 12)}
"""Istio 1.24 at 1,000 requests of 1 KB a second, two workers, as published (istio.io, Performance and Scalability)."""

RESERVED = Proxy(0.1, 134.2)
"""What Istio's charts reserve for a sidecar, whatever it does: 100 millicores, 128 MiB."""


@dataclass(frozen=True)
class Fleet:
    """A fleet: ``requests`` a second between its services, all together; ``l7`` is the share that needs HTTP features.

    ``waypoints``: replicas in all, with ambient. Raises ValueError if a number makes no sense.
    """

    nodes: int
    pods: int
    requests: float
    l7: float = 1.0
    waypoints: int = 2

    def __post_init__(self) -> None:
        for name, least in (("nodes", 1), ("pods", 1), ("waypoints", 0)):
            check.whole(name, getattr(self, name), least)
        check.non_negative("requests", self.requests)
        check.share("l7", self.l7)
        if self.l7 > 0 and self.waypoints == 0:
            raise ValueError("waypoints=0: HTTP features need one at least")


@dataclass(frozen=True)
class Bill:
    """What one way costs: vCPU in use, GB of memory, ms added to a request on average."""

    cpu: float
    memory: float
    latency: float


def sidecars(fleet: Fleet, proxy: Proxy = ISTIO["sidecar"]) -> Bill:
    """Each pod has a proxy, each request passes two: the caller's and the called one's."""
    return Bill(2 * proxy.cpu * fleet.requests / 1000, proxy.memory * fleet.pods / 1000, 2 * proxy.hop)


def ambient(fleet: Fleet, ztunnel: Proxy = ISTIO["ztunnel"], waypoint: Proxy = ISTIO["waypoint"]) -> Bill:
    """Each node has a ztunnel, each request passes two of them; the share ``l7`` a waypoint between them as well."""
    thousands = fleet.requests / 1000
    cpu = 2 * ztunnel.cpu * thousands + waypoint.cpu * fleet.l7 * thousands
    memory = ztunnel.memory * fleet.nodes + waypoint.memory * (fleet.waypoints if fleet.l7 else 0)
    return Bill(cpu, memory / 1000, 2 * ztunnel.hop + fleet.l7 * waypoint.hop)


def reserved(fleet: Fleet, proxy: Proxy = RESERVED) -> Bill:
    """What the scheduler sets aside for sidecars, used or not."""
    return Bill(proxy.cpu * fleet.pods, proxy.memory * fleet.pods / 1000, math.nan)


def same_cpu_share(sidecar: Proxy = ISTIO["sidecar"], ztunnel: Proxy = ISTIO["ztunnel"],
                   waypoint: Proxy = ISTIO["waypoint"]) -> float:  # fmt: skip
    """The share of HTTP traffic at which ambient uses as much CPU as sidecars; above 1: it never does."""
    return 2 * (sidecar.cpu - ztunnel.cpu) / waypoint.cpu


def compare(fleet: Fleet, hop: float) -> Table:
    """Ways to have the mesh's features for a fleet, side by side.

    ``hop``: ms that a sidecar adds, measured. A ztunnel and a waypoint are taken to add as much less or more as they use
    less or more CPU: an assumption. Raises ValueError if ``hop`` is negative.
    """
    check.non_negative("hop", hop, "ms")

    def hopped(name: str) -> Proxy:
        proxy = ISTIO[name]
        return Proxy(proxy.cpu, proxy.memory, hop * proxy.cpu / ISTIO["sidecar"].cpu)

    l4 = Fleet(fleet.nodes, fleet.pods, fleet.requests, l7=0.0, waypoints=0)
    bills = {
        "Sidecars, in use": sidecars(fleet, hopped("sidecar")),
        "Sidecars, reserved by default": reserved(fleet),
        "Ambient, mutual TLS only": ambient(l4, hopped("ztunnel"), hopped("waypoint")),
        f"Ambient, {100 * fleet.l7:.0f} % HTTP": ambient(fleet, hopped("ztunnel"), hopped("waypoint")),
    }
    rows = [
        [name, quantity(bill.cpu), quantity(bill.memory), "" if math.isnan(bill.latency) else quantity(bill.latency)]
        for name, bill in bills.items()
    ]
    return table(["Way", "vCPU", "GB", "ms a call"], rows, align="lrrr")


@dataclass(frozen=True)
class Reader:
    """A reader's situation, for :func:`decide`."""

    services: int
    languages: int
    calls: float
    """Calls between services for one request of a user."""
    budget: float
    """ms that a user's request may take longer at most."""
    needs_identity: bool
    """Whether callers must prove who they are: encryption inside the cluster, rules by caller."""
    needs_http: bool
    """Whether traffic must be split, retried or observed by request."""
    platform_people: float
    """People who can look after the mesh."""


def decide(reader: Reader, hop: float) -> str:
    """What fits, by the rules of thumb of the chapter; ``hop`` is the ms that a sidecar adds."""
    if not (reader.needs_identity or reader.needs_http):
        return "no mesh: nothing that it does is needed"
    if reader.services < 10 and reader.languages <= 2:
        return "no mesh: a library in few services is less to look after than a control plane"
    if reader.platform_people < 1:
        return "no mesh: nobody would look after it; take what your ingress or your cloud offers"
    if not reader.needs_http:
        return "ambient without waypoints: identity and encryption, no HTTP parsing"
    if 2 * hop * reader.calls > reader.budget:
        return "ambient, waypoints only where HTTP features are used: sidecars would take more time than there is"
    return "sidecars or ambient with waypoints: compare what they reserve"


EXAMPLES = {
    "A start-up": Reader(6, 1, 3, 20, needs_identity=False, needs_http=True, platform_people=0.5),
    "A bank": Reader(200, 5, 8, 30, needs_identity=True, needs_http=False, platform_people=6),
    "A marketplace": Reader(300, 4, 12, 60, needs_identity=True, needs_http=True, platform_people=8),
    "A trading desk": Reader(40, 2, 10, 2, needs_identity=True, needs_http=True, platform_people=3),
}
"""Four situations, made up."""


def decisions(readers: Mapping[str, Reader], hop: float) -> Table:
    """What fits each of ``readers``; ``hop`` is the ms that a sidecar adds."""
    return table(["Who", f"What fits, at {hop:g} ms a hop"], [[name, decide(reader, hop)] for name, reader in readers.items()])
