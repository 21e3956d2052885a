"""One description of what the mesh shall do: xDS for Envoy (:mod:`.xds`) and Istio's and Linkerd's resources
(:mod:`.kubernetes`) are both made from it.

Times are seconds, shares lie between 0 and 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from beyondlab.kit import check

TRUST_DOMAIN = "cluster.local"
NAMESPACE = "lab"


def spiffe_id(service: str) -> str:
    """The SPIFFE identity of a service, in the form that Istio uses: trust domain, namespace, service account."""
    return f"spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/{service}"


@dataclass(frozen=True)
class Instance:
    """One replica: ``name``, the ``service`` it belongs to, its ``version`` and its ``zone``."""

    name: str
    service: str
    version: str = "v1"
    zone: str = "a"


@dataclass(frozen=True)
class Retries:
    """``attempts`` retries of failures (5xx and failed connections), each after a back-off of ``backoff`` seconds at first.

    ``budget`` is the share of the active requests that may be retries, with ``least`` always allowed; None: up to
    ``concurrent`` retries at a time whatever the load, as a static limit.
    """

    attempts: int
    budget: float | None = 0.2
    least: int = 3
    concurrent: int = 10_000
    backoff: float = 0.001
    per_try_timeout: float | None = None


@dataclass(frozen=True)
class Limits:
    """Envoy's circuit breaker: what may be open to a service at once."""

    connections: int = 1024
    pending: int = 1024
    requests: int = 1024


@dataclass(frozen=True)
class Outliers:
    """Outlier ejection. The defaults are Envoy's own."""

    consecutive_5xx: int = 5
    interval: float = 10.0
    base_ejection: float = 30.0
    max_ejection_percent: int = 10


@dataclass(frozen=True)
class Policy:
    """How callers treat a service, and whom the service lets in."""

    split: Mapping[str, int] = field(default_factory=dict)
    """Version -> weight in per cent. Empty: all instances, whatever their version."""
    timeout: float = 5.0
    retries: Retries | None = None
    limits: Limits | None = None
    outliers: Outliers | None = None
    balancer: Literal["ROUND_ROBIN", "LEAST_REQUEST", "RING_HASH", "RANDOM"] = "ROUND_ROBIN"
    locality_failover: bool = False
    """Prefer instances in zone a; go to others as those become unhealthy. Needs ``outliers``."""
    mutual_tls: bool = False
    callers: tuple[str, ...] | None = None
    """Services that may call, by their SPIFFE identity; None lets any in. Needs ``mutual_tls``."""
    methods: tuple[str, ...] = ("GET",)
    """Methods that those callers may use."""

    def __post_init__(self) -> None:
        if self.split and (any(weight < 0 for weight in self.split.values()) or sum(self.split.values()) != 100):
            raise ValueError(f"split={dict(self.split)!r}: weights must be at least 0 and sum to 100")
        check.positive("timeout", self.timeout, "seconds")
        if self.retries:
            check.whole("retries.attempts", self.retries.attempts, 1)
        if self.retries and self.retries.budget is not None:
            check.share("retries.budget", self.retries.budget)
        if self.locality_failover and self.outliers is None:
            raise ValueError("locality_failover=True: needs outliers, for something has to find out who is unhealthy")
        if self.callers is not None and not self.mutual_tls:
            raise ValueError(f"callers={self.callers!r}: needs mutual_tls, for without it a caller has no identity")


@dataclass(frozen=True)
class Description:
    """The instances, who calls whom (service -> service), and a policy for each service that is called."""

    instances: tuple[Instance, ...]
    calls: Mapping[str, str]
    policies: Mapping[str, Policy] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for service in (*self.policies, *self.calls, *self.calls.values()):
            if service not in self.services:
                raise ValueError(f"{service!r}: no instance belongs to this service; there are {', '.join(self.services)}")
        for service, policy in self.policies.items():
            missing = set(policy.split) - {i.version for i in self.of(service)}
            if missing:
                raise ValueError(f"split of {service}: {sorted(missing)[0]!r} is the version of no instance")

    @property
    def services(self) -> tuple[str, ...]:
        """In the order of their first instance."""
        return tuple(dict.fromkeys(instance.service for instance in self.instances))

    def of(self, service: str) -> tuple[Instance, ...]:
        """The instances of a service."""
        return tuple(instance for instance in self.instances if instance.service == service)

    def policy(self, service: str) -> Policy:
        """Its policy; the default where none is given."""
        return self.policies.get(service, Policy())

    def change(self, service: str, **changes: Any) -> Description:
        """This description with some fields of one policy changed."""
        return replace(self, policies={**self.policies, service: replace(self.policy(service), **changes)})


def shop() -> Description:
    """The three services of the chapter: ``web`` calls ``orders`` (two versions), ``orders`` calls ``stock``.

    ``stock`` has ten instances, five in zone a and five in zone b.
    """
    stock = [Instance(f"stock-{zone}{number}", "stock", zone=zone) for zone in "ab" for number in range(1, 6)]
    orders = [Instance("orders-v1", "orders"), Instance("orders-v2", "orders", version="v2")]
    return Description((Instance("web", "web"), *orders, *stock), {"web": "orders", "orders": "stock"})


def pair() -> Description:
    """Two services of one instance each, ``edge`` and ``backend``: the smallest mesh there is, for measuring its price."""
    return Description((Instance("edge", "edge"), Instance("backend", "backend")), {"edge": "backend"})
