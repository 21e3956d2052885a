"""What is to be built: a fleet of devices, six decisions about it, and what a design of it must keep.

Times in seconds, money in USD a month of 730 hours, rates a second. Nothing here simulates.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from beyondlab.kit import check

HOURS = 730.0
"""Hours of a month."""
SECONDS = HOURS * 3600


@dataclass(frozen=True)
class Product:
    """The fleet. Raises ValueError, naming the field, its value and what is allowed.

    ``devices``: in country A and country B; data of B must stay there. Each sends a reading every ``period`` seconds,
    by day more than at night: ``swing`` is the amplitude of the daily cosine. ``bursts`` times a day a network comes
    back, and ``returning`` of the devices of one country (A and B in turn) each send ``buffered`` readings within
    ``burst_seconds``. ``alerting``: share of ordinary readings that raise an alert; ``burst_alerting``: the same in a
    burst, for a line that was down is likelier to be wrong. ``on_time``: seconds after which an alert is late.
    ``batch_hours``: vCPU-hours of the nightly batch. ``viewers``: requests a second of the dashboard.
    """

    devices: tuple[int, int] = (12_000, 8_000)
    period: float = 60.0
    swing: float = 0.5
    bursts: float = 4.0
    returning: float = 0.3
    buffered: int = 5
    burst_seconds: float = 10.0
    alerting: float = 1 / 2000
    burst_alerting: float = 1 / 50
    on_time: float = 5.0
    batch_hours: float = 8.0
    viewers: float = 0.2

    def __post_init__(self) -> None:
        if len(self.devices) != 2 or not all(isinstance(n, int) and n > 0 for n in self.devices):
            raise ValueError(f"devices={self.devices!r}: must be two whole numbers of at least 1, of country A and B")
        for f in fields(self):
            if f.name != "devices":
                check.positive(f.name, getattr(self, f.name))
        for name in ("swing", "returning", "alerting", "burst_alerting"):
            check.share(name, getattr(self, name))

    @property
    def shares(self) -> tuple[float, float]:
        """Shares of the devices in A and in B."""
        total = sum(self.devices)
        return self.devices[0] / total, self.devices[1] / total

    @property
    def rate(self) -> float:
        """Readings a second, averaged over the day, bursts left out."""
        return sum(self.devices) / self.period

    @property
    def burst_readings(self) -> float:
        """Readings of an average burst."""
        return self.returning * sum(self.devices) / 2 * self.buffered

    @property
    def readings(self) -> float:
        """Readings a month."""
        return SECONDS * self.rate + SECONDS / 86_400 * self.bursts * self.burst_readings

    @property
    def alerts(self) -> tuple[float, float]:
        """Alerts a month: ordinary ones, and those of bursts."""
        days = SECONDS / 86_400
        return SECONDS * self.rate * self.alerting, days * self.bursts * self.burst_readings * self.burst_alerting


DIMENSIONS: Mapping[str, Mapping[str, str]] = {
    "isolation": {
        "container": "namespaces and control groups, the host's kernel",
        "gvisor": "a kernel in user space between program and host",
        "microvm": "a kernel of its own in a small virtual machine",
    },
    "mesh": {
        "none": "services talk to each other directly",
        "sidecar": "a proxy beside each instance",
        "ambient": "a proxy on each node, one for HTTP where needed",
    },
    "orchestration": {
        "one cluster": "one Kubernetes cluster, in country A",
        "cluster per country": "a cluster in each country",
        "managed": "a serverless platform, in a region in each country",
    },
    "compute": {
        "functions": "one invocation a reading, or a batch",
        "knative": "pods that follow the load, to zero and back",
        "containers": "pods that are always there, sized for the day's peak",
        "serverless containers": "containers that a platform places and scales",
    },
    "state": {
        "key-value": "a store with compare-and-set, and an id in each alert",
        "entity": "durable execution: one writer a device, resumed after a crash",
        "database": "an external database: read, then write",
    },
    "events": {
        "direct": "the gateway calls the enrichment and waits",
        "queue": "at least once, with a visibility time-out",
        "log": "an event log with partitions and offsets",
    },
}
"""Decision -> option -> what it means."""


@dataclass(frozen=True)
class Choice:
    """One design: an option for each of :data:`DIMENSIONS`. Raises ValueError for one that does not exist."""

    isolation: str
    mesh: str
    orchestration: str
    compute: str
    state: str
    events: str

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            check.one_of(name, value, DIMENSIONS[name])

    def __str__(self) -> str:
        return " · ".join(asdict(self).values())

    @property
    def own_clusters(self) -> int:
        """Clusters that you run yourself."""
        return {"one cluster": 1, "cluster per country": 2, "managed": 0}[self.orchestration]


def invalid(choice: Choice) -> str | None:
    """Why a design cannot be built; None if it can."""
    managed = choice.orchestration == "managed"
    rules = (
        (choice.compute == "functions" and not managed,
         "functions need a managed platform; on a cluster of your own, what scales to zero is Knative"),
        (choice.compute == "serverless containers" and not managed,
         "serverless containers need a managed platform; on a cluster of your own they are containers"),
        (choice.compute == "knative" and managed,
         "Knative needs a cluster; its managed form is called serverless containers here"),
        (choice.compute == "containers" and managed,
         "containers that are always there need a cluster; a platform's are serverless containers"),
        (managed and choice.isolation == "container",
         "no managed platform lets customers share a kernel: choose gVisor or a microVM"),
        (choice.compute == "functions" and choice.isolation != "microvm",
         "the platform decides: AWS Lambda runs each environment in a microVM"),
        (choice.compute == "functions" and choice.mesh != "none",
         "a function has no pod for a sidecar and no node for a ztunnel"),
        (choice.compute == "serverless containers" and choice.mesh == "ambient",
         "ambient needs a ztunnel on each node, and the nodes are not yours"),
    )  # fmt: skip
    return next((reason for broken, reason in rules if broken), None)


def combinations() -> list[Choice]:
    """All combinations, valid or not, the last decision fastest."""
    return [Choice(*options) for options in itertools.product(*DIMENSIONS.values())]


def designs() -> list[Choice]:
    """The combinations that can be built."""
    return [choice for choice in combinations() if invalid(choice) is None]


@dataclass(frozen=True)
class Requirements:
    """What a design must keep. ``residency``: at most this share of B's data may leave B; 0 is the law.

    ``cost``: USD a month. ``p99``: seconds of the alert path, bursts included. ``availability``: share of alerts that
    arrive, and on time. ``isolation``: level from 1 to 5 around third-party enrichment code. ``portability``: share
    of the work that moves to another place as it is.
    """

    cost: float = 800.0
    p99: float = 3.0
    availability: float = 0.999
    isolation: int = 4
    portability: float = 0.5
    residency: float = 0.0


UNITS = {"cost": "USD a month", "p99": "s", "availability": "share of alerts", "isolation": "levels",
         "portability": "share of the work", "residency": "share of B's data"}  # fmt: skip
"""Requirement -> unit of its figure."""
AT_MOST = ("cost", "p99", "residency")
"""Requirements that are upper limits; the others are lower ones."""


@dataclass(frozen=True)
class Miss:
    """A requirement that is not met. ``by``: how much is missing, positive, in :data:`UNITS`."""

    requirement: str
    wanted: float
    found: float

    @property
    def by(self) -> float:
        return abs(self.found - self.wanted)

    def __str__(self) -> str:
        if not math.isfinite(self.found):
            return f"{self.requirement}: never within {self.wanted:g} {UNITS[self.requirement]}: alerts are lost"
        limit = "at most" if self.requirement in AT_MOST else "at least"
        digits = {"cost": ",.0f", "availability": ".5f", "isolation": ".0f"}.get(self.requirement, ".2f")
        unit = "level" if self.requirement == "isolation" and self.by == 1 else UNITS[self.requirement]
        return (f"{self.requirement}: {self.found:{digits}}, {limit} {self.wanted:{digits}} wanted; "
                f"missed by {self.by:{digits}} {unit}")  # fmt: skip


def misses(scores: Mapping[str, float], requirements: Requirements = Requirements()) -> list[Miss]:
    """The requirements that a design with these ``scores`` (by name of the requirement) does not keep."""
    found = []
    for name, wanted in asdict(requirements).items():
        value = scores[name]
        if value > wanted if name in AT_MOST else value < wanted:
            found.append(Miss(name, wanted, value))
    return found
