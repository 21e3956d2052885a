"""What one workload costs a month on each platform, over its rate and its burstiness.

A request is work, in vCPU-seconds, for one thread; an instance has a size, and works off one request at a time. Demand
comes in bursts: each carries the same number of requests and lasts a minute; between the beginnings of two bursts lie
gamma-distributed gaps of mean one minute, whose coefficient of variation is the burstiness. Capacity follows demand at
once, minute by minute, and is kept for ``hold`` minutes after it was last needed. Not modelled: the start-up of instances,
load balancers, logs, networks, free tiers; a vCPU is worth the same everywhere.

Prices are those of :mod:`beyondlab.kit.prices`.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from beyondlab import sim
from beyondlab.hosting import sizes
from beyondlab.hosting.metering import RULES
from beyondlab.kit import check, prices

HOURS = 730.0
"""Hours in a month."""
MINUTES = 20_160
"""Two weeks."""


@dataclass(frozen=True)
class Workload:
    """``rate``: mean requests a second. ``work``: vCPU-seconds a request. ``wait``: seconds a request that it waits for
    others, with no work: a fleet does something else meanwhile, by the request it is paid for. ``vcpu``, ``memory`` (MiB):
    what an instance needs. ``cv``: burstiness. ``target``: utilisation at which capacity is planned."""

    rate: float = 1.0
    work: float = 0.1
    vcpu: float = 0.5
    memory: int = 1024
    cv: float = 1.0
    target: float = 0.7
    wait: float = 0.0

    def __post_init__(self) -> None:
        for name in ("rate", "work", "vcpu", "memory"):
            check.positive(name, getattr(self, name))
        check.non_negative("wait", self.wait, "seconds")
        if not 0.01 <= self.cv <= 20:
            raise ValueError(f"cv={self.cv!r}: must be 0.01 to 20")
        if not 0 < self.target <= 1:
            raise ValueError(f"target={self.target!r}: must be over 0 and at most 1")

    def seconds(self, vcpu: float) -> float:
        """Mean seconds of work on an instance of ``vcpu``: one thread uses one core at most."""
        return self.work / min(vcpu, 1.0)

    def instances(self, vcpu: float) -> float:
        """Instances of ``vcpu`` that the mean rate keeps busy at the target, as a fraction."""
        return self.rate * self.seconds(vcpu) / self.target


@cache
def bursts(cv: float, minutes: int = MINUTES, seed: int = 1) -> NDArray[np.float64]:
    """Demand of each minute relative to the mean, shape (minutes,), of mean 1.

    A burst that begins within a minute lies partly in that one, partly in the next.
    """
    times = sim.renewal(1 / 60, cv, horizon=60.0 * minutes, seed=seed) / 60
    place = times.astype(np.int64)
    later = times - place
    demand = np.bincount(place, 1 - later, minlength=minutes + 1) + np.bincount(place + 1, later, minlength=minutes + 1)[: minutes + 1]
    return demand[1:minutes] / demand[1:minutes].mean()


def held(demand: NDArray[np.float64], hold: int) -> NDArray[np.float64]:
    """The largest demand of each minute and the ``hold`` - 1 before it. Raises ValueError for a hold under 1."""
    check.whole("hold", hold, 1)
    best = demand.copy()
    for back in range(1, min(hold, demand.size)):
        np.maximum(best[back:], demand[:-back], out=best[back:])
    return best


@dataclass(frozen=True)
class Fleet:
    """Instances that follow demand. ``hour``: USD of one. ``each``: workload instances that it holds. ``fixed``: USD an
    hour besides. ``peak``: always as many as the highest minute needs."""

    size: sizes.Size
    hour: float
    hold: int = 5
    least: int = 1
    each: int = 1
    fixed: float = 0.0
    peak: bool = False

    def mean_count(self, load: Workload, demand: NDArray[np.float64]) -> float:
        """Mean number of instances paid for."""
        wanted = load.instances(self.size.vcpu)
        if self.peak:
            return float(max(self.least, math.ceil(wanted * demand.max() / self.each - 1e-9)))
        return float(np.maximum(self.least, np.ceil(wanted * held(demand, self.hold) / self.each - 1e-9)).mean())

    def month(self, load: Workload, demand: NDArray[np.float64]) -> float:
        return HOURS * (self.fixed + self.hour * self.mean_count(load, demand))


@dataclass(frozen=True)
class PerRequest:
    """Paid by the request: ``request`` USD each, ``second`` USD while one is in work, rounded by ``rule``."""

    size: sizes.Size
    request: float
    second: float
    rule: str

    def each(self, load: Workload) -> float:
        """USD of a request, on average; the time of a request is taken as exponential."""
        return self.request + self.second * RULES[self.rule].mean_billed(load.seconds(self.size.vcpu) + load.wait)

    def month(self, load: Workload, demand: NDArray[np.float64] | None = None) -> float:
        return HOURS * 3600 * load.rate * self.each(load)


def _gb(size: sizes.Size) -> float:
    return size.memory / sizes.GIB


def _fargate(kind: str) -> Callable[[Workload], Fleet]:
    def build(load: Workload) -> Fleet:
        size = sizes.nearest("fargate", load.vcpu, load.memory)
        hour = size.vcpu * prices.price(f"fargate.vcpu-{kind}") + _gb(size) * prices.price(f"fargate.memory-{kind}")
        return Fleet(size, hour)

    return build


def _lambda(kind: str) -> Callable[[Workload], PerRequest]:
    def build(load: Workload) -> PerRequest:
        size = sizes.nearest("lambda", load.vcpu, load.memory)
        second = size.memory / 1024 * prices.price(f"lambda.duration-{kind}")
        return PerRequest(size, prices.price("lambda.requests") / 1e6, second, "lambda")

    return build


def _aci(load: Workload) -> Fleet:
    size = sizes.nearest("aci", load.vcpu, load.memory)
    return Fleet(size, size.vcpu * prices.price("aci.vcpu") + _gb(size) * prices.price("aci.memory"))


def _run_requests(load: Workload) -> PerRequest:
    size = sizes.nearest("cloud run", load.vcpu, load.memory)
    vcpu, memory, request = (prices.price(f"inference.cloud-run-{what}") for what in ("vcpu", "memory", "requests"))
    return PerRequest(size, request / 1e6, size.vcpu * vcpu + _gb(size) * memory, "cloud run")


def _run_instances(load: Workload) -> Fleet:
    size = sizes.nearest("cloud run", max(1.0, load.vcpu), load.memory)
    vcpu, memory = (prices.price(f"inference.cloud-run-instance-{what}") for what in ("vcpu", "memory"))
    return Fleet(size, 3600 * (size.vcpu * vcpu + _gb(size) * memory), hold=15, least=0)


NODE = sizes.Size(2.0, 8192)
"""EC2 m6i.large."""
ALLOCATABLE = (1.93, 7100)
"""vCPU and MiB of such a node that pods can have (chosen: what is usual on EKS)."""


def _kubernetes(load: Workload) -> Fleet:
    each = int(min(ALLOCATABLE[0] // load.vcpu, ALLOCATABLE[1] // load.memory))
    if each < 1:
        raise ValueError(f"vcpu={load.vcpu!r}, memory={load.memory!r}: no pod of this size fits a node of {NODE}")
    size = sizes.Size(load.vcpu, load.memory)
    return Fleet(size, prices.price("vm.on-demand"), hold=15, each=each, fixed=prices.price("fleet.control-plane"))


def _reserved(load: Workload) -> Fleet:
    each = int(min(NODE.vcpu // load.vcpu, NODE.memory // load.memory))
    if each < 1:
        raise ValueError(f"vcpu={load.vcpu!r}, memory={load.memory!r}: does not fit a machine of {NODE}")
    return Fleet(sizes.Size(load.vcpu, load.memory), prices.price("vm.reserved"), each=each, peak=True)


PLATFORMS: dict[str, Callable[[Workload], Fleet | PerRequest]] = {
    "Lambda": _lambda("x86"),
    "Lambda, Arm": _lambda("arm"),
    "Fargate": _fargate("x86"),
    "Fargate, Arm": _fargate("arm"),
    "Fargate Spot": _fargate("spot"),
    "ACI": _aci,
    "Cloud Run, requests": _run_requests,
    "Cloud Run, instances": _run_instances,
    "Kubernetes": _kubernetes,
    "reserved VM": _reserved,
}
"""Name -> how it charges for a workload."""

STEADY = tuple(name for name in PLATFORMS if name != "Fargate Spot" and not name.endswith("Arm"))
"""x86, and nobody takes the capacity away."""


def scheme(name: str, load: Workload) -> Fleet | PerRequest:
    """How a platform charges for ``load``. Raises ValueError for an unknown platform."""
    check.one_of("name", name, PLATFORMS)
    return PLATFORMS[name](load)


def monthly(load: Workload, platforms: Sequence[str] = tuple(PLATFORMS)) -> dict[str, float]:
    """USD a month of ``load`` on each platform."""
    demand = bursts(load.cv)
    return {name: scheme(name, load).month(load, demand) for name in platforms}


@dataclass(frozen=True)
class CostMap:
    """``usd[platform, cv, rate]``, USD a month."""

    platforms: tuple[str, ...]
    cvs: NDArray[np.float64]
    rates: NDArray[np.float64]
    usd: NDArray[np.float64]

    @property
    def cheapest(self) -> NDArray[np.int64]:
        """Number of the cheapest platform, shape (cvs, rates)."""
        return self.usd.argmin(axis=0)

    def name(self, cv: float, rate: float) -> str:
        """The cheapest at the point of the map that is nearest, in logarithms."""
        row = int(np.abs(np.log(self.cvs / cv)).argmin())
        return self.platforms[self.cheapest[row, int(np.abs(np.log(self.rates / rate)).argmin())]]

    def only(self, platforms: Sequence[str]) -> CostMap:
        """The map of some of its platforms. Raises ValueError for one that is not on it."""
        places = [self.platforms.index(name) for name in platforms]
        return CostMap(tuple(platforms), self.cvs, self.rates, self.usd[places])

    def shares(self) -> dict[str, float]:
        """Platform -> share of the map on which it is the cheapest, largest first; those with none are left out."""
        count = np.bincount(self.cheapest.ravel(), minlength=len(self.platforms)) / self.cheapest.size
        found = {name: float(count[k]) for k, name in enumerate(self.platforms) if count[k]}
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def line(self, one: str, other: str) -> NDArray[np.float64]:
        """For each cv the lowest rate at which ``other`` becomes cheaper than ``one``, interpolated; nan if it never does."""
        a, b = self.platforms.index(one), self.platforms.index(other)
        gap = np.log(self.usd[a] / self.usd[b])
        found = np.full(self.cvs.size, np.nan)
        for row, values in enumerate(gap):
            where = np.flatnonzero((values[:-1] <= 0) & (values[1:] > 0))
            if where.size:
                k = where[0]
                part = -values[k] / (values[k + 1] - values[k])
                found[row] = self.rates[k] * (self.rates[k + 1] / self.rates[k]) ** part
        return found


def cost_map(
    rates: Sequence[float], cvs: Sequence[float], platforms: Sequence[str] = tuple(PLATFORMS), load: Workload | None = None
) -> CostMap:
    """The costs of ``load`` at all these rates and burstinesses."""
    load = load or Workload()
    usd = np.empty((len(platforms), len(cvs), len(rates)))
    for row, cv in enumerate(cvs):
        demand = bursts(float(cv))
        for column, rate in enumerate(rates):
            here = replace(load, rate=float(rate), cv=float(cv))
            for number, name in enumerate(platforms):
                usd[number, row, column] = scheme(name, here).month(here, demand)
    return CostMap(tuple(platforms), np.asarray(cvs, float), np.asarray(rates, float), usd)


def break_even(by_request: str, fleet: str, load: Workload | None = None) -> float:
    """Requests a second at which one instance of ``fleet``, always on, costs as much as paying by the request.

    In closed form: USD of the instance a second over USD of a request. It holds as long as one instance can do the work.
    Raises ValueError if the first is not paid by the request or the second not by the instance.
    """
    load = load or Workload()
    one, other = scheme(by_request, load), scheme(fleet, load)
    if not isinstance(one, PerRequest) or not isinstance(other, Fleet):
        raise ValueError(f"by_request={by_request!r}, fleet={fleet!r}: one is paid by the request, the other by the instance")
    return (other.hour + other.fixed) / 3600 / one.each(load)


def poisson_mean_count(instances: float, *, hold: int = 5, least: int = 1) -> float:
    """Mean instances of a :class:`Fleet` at a cv of 1, in closed form.

    It takes bursts that begin and end with a minute: their number is then Poisson of mean 1, independent from minute to
    minute, and the largest of ``hold`` numbers is at most k with probability P(k)**hold. ``instances``: those that one
    burst keeps busy, as a fraction.
    """
    from scipy.stats import poisson

    bursts_at_most = np.arange(0, 60)
    below = poisson.cdf(bursts_at_most, 1.0) ** hold
    probability = np.diff(below, prepend=0.0)
    return float(np.sum(probability * np.maximum(least, np.ceil(bursts_at_most * instances - 1e-9))))


def age(on: datetime.date) -> tuple[datetime.date, datetime.date, int]:
    """Of the prices that this model reads: oldest and newest date, and the age of the oldest in days, ``on`` that day."""
    dates = [price.date for price in used()]
    return min(dates), max(dates), (on - min(dates)).days


def used() -> list[prices.Price]:
    """The prices that this model reads."""
    names = ("fleet.control-plane", *(n for n in prices.every() if n.startswith("inference.cloud-run-") and n != "inference.cloud-run-l4"))
    wanted = ("lambda.requests", "lambda.duration-x86", "lambda.duration-arm", *names)
    return [price for name, price in prices.every().items() if name in wanted or name.split(".")[0] in ("fargate", "aci", "vm")]


def second_hand() -> int:
    """How many of :func:`used` were not read on the seller's own page."""
    return sum("second-hand" in p.note or "transcription" in p.note for p in used())


def decide(load: Workload, **changes: float) -> Mapping[str, float]:
    """USD a month on each platform, the cheapest first. ``changes`` replace fields of ``load``."""
    return dict(sorted(monthly(replace(load, **changes)).items(), key=lambda item: item[1]))
