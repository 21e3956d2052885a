"""Knative at scale, simulated: what target, window and grace do to cold starts, cost and waits; and what a move costs.

No clock, no I/O; the same arrivals give the same result. The autoscaler in the kernel is that of :mod:`.kpa`; a test
replays its ticks through :class:`.kpa.Autoscaler`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from beyondlab import sim
from beyondlab.kit import check
from beyondlab.kit.prices import price
from beyondlab.kit.tables import Table, percent, quantity, table
from beyondlab.knative import _kernel, kpa
from beyondlab.sim import engines
from beyondlab.sim.queues import inputs

POLICIES = {"kpa": _kernel.KPA, "hpa": _kernel.HPA, "fixed": _kernel.FIXED}
DIRECT, QUEUED, COLD = _kernel.DIRECT, _kernel.QUEUED, _kernel.COLD
HPA_TICK, HPA_TOLERANCE, HPA_CALM = 15.0, 0.1, 300
"""Kubernetes' defaults: seconds between two looks, tolerance of the ratio, seconds without scaling down."""
MONTH = 30 * 86_400.0


@dataclass(frozen=True, eq=False)
class Result:
    """One simulated revision. Arrays have one entry a request; times in seconds.

    ``outcome``: ``DIRECT``, ``QUEUED`` for a place in a pod, or ``COLD``: no pod was ready when it came.
    ``ticks``: the autoscaler's decisions, columns time, ready, alive, stable, panic, desired.
    """

    waits: NDArray[np.float64]
    outcome: NDArray[np.int64]
    pod_seconds: float
    started: int
    peak: int
    seconds: float
    ticks: NDArray[np.float64]

    @property
    def cold(self) -> int:
        return int(np.count_nonzero(self.outcome == COLD))

    @property
    def cold_share(self) -> float:
        """NaN without requests."""
        return self.cold / self.outcome.size if self.outcome.size else math.nan


def simulate(
    arrivals: Any,
    service: Any,
    *,
    settings: kpa.Settings = kpa.Settings(),
    concurrency: int = 0,
    target: float | None = None,
    start: float = 2.0,
    grace: float = 0.0,
    policy: Literal["kpa", "hpa", "fixed"] = "kpa",
    initial: int = 0,
    horizon: float = 0.0,
    keep_ticks: int = 0,
    engine: Literal["auto", "numba", "python"] = "auto",
) -> Result:
    """Requests at ``arrivals`` (seconds, ascending), each ``service`` seconds long in a pod that it shares with others.

    Parameters
    ----------
    settings, concurrency, target
        As in :func:`.kpa.resolve_target`. ``min_scale`` and ``max_scale`` hold for every policy; 0 is no limit.
        "fixed" keeps ``initial`` pods.
    start
        Seconds from the decision until a pod is ready.
    grace
        Seconds between the decision for zero and the last pod's end: what it takes to put the activator into the path.
        Knative waits ``scale-to-zero-grace-period`` at most. The retention period is added.
    policy
        "hpa": the Kubernetes HPA on the same metric and target: every 15 s, tolerance 10 %, never under one pod, and
        no scaling down for 300 s.
    horizon
        The simulation goes on until then, at least.
    keep_ticks
        How many decisions to keep.

    Raises
    ------
    ValueError
        If arrivals fall, lengths differ, or a number is out of range.
    """
    arrivals, service = inputs(arrivals, service)
    for name, value in {"start": start, "grace": grace, "horizon": horizon}.items():
        check.non_negative(name, value, "seconds")
    check.one_of("policy", policy, POLICIES)
    check.whole("concurrency", concurrency, 0)
    check.whole("initial", initial, 0)
    if policy == "fixed" and initial < 1:
        raise ValueError(f"initial={initial!r}: a fixed number of pods must be at least 1")
    aimed, _ = kpa.resolve_target(settings, container_concurrency=concurrency, target=target)
    least = max(1, settings.min_scale) if policy == "hpa" else settings.min_scale
    packed = np.array([
        POLICIES[policy], aimed, concurrency, start, settings.stable_window,
        HPA_TICK if policy == "hpa" else math.ceil(settings.panic_window),
        settings.panic_threshold_percentage / 100, settings.max_scale_up_rate, settings.max_scale_down_rate,
        grace + settings.scale_to_zero_pod_retention_period, initial if policy == "fixed" else least,
        initial if policy == "fixed" else settings.max_scale, HPA_TICK if policy == "hpa" else kpa.TICK, HPA_TOLERANCE,
        HPA_CALM if policy == "hpa" else 0.0, initial, horizon, settings.activation_scale, settings.scale_down_delay,
    ])  # fmt: skip
    waits, outcome = np.zeros(arrivals.size), np.zeros(arrivals.size, np.int64)
    ticks = np.zeros((keep_ticks, 6))
    kernel = engines.chosen(_kernel.simulate, engine)
    pod_seconds, started, peak, rows, end = kernel(arrivals, service, packed, waits, outcome, ticks)
    return Result(waits, outcome, pod_seconds, started, peak, end, ticks[:rows])


@dataclass(frozen=True, eq=False)
class Traffic:
    """Functions and their requests: parallel lists of arrival times and service times, over ``horizon`` seconds."""

    arrivals: Sequence[NDArray[np.float64]]
    service: Sequence[NDArray[np.float64]]
    horizon: float

    @property
    def requests(self) -> int:
        return sum(times.size for times in self.arrivals)


def traffic(functions: int = 100, *, hours: float = 6.0, most_rate: float = 5.0, seed: int = 7) -> Traffic:
    """The first ``functions`` HTTP functions of a workload like Azure's (``workloads.workload``) that are called.

    Those called more than ``most_rate`` times a second are left out: they never scale to zero. Raises ValueError if
    the workload holds too few.
    """
    workload = sim.workload(max(400, 6 * functions), seed)
    fit = np.flatnonzero((workload.trigger == "http") & (workload.rate <= most_rate))
    horizon = 3600.0 * hours
    arrivals, service = [], []
    for place in fit:
        times = workload.arrivals(int(place), horizon)
        if times.size:
            arrivals.append(times)
            service.append(np.minimum(workload.service(int(place), times.size), 60.0))
        if len(arrivals) == functions:
            return Traffic(arrivals, service, horizon)
    raise ValueError(f"functions={functions!r}: the workload has only {len(arrivals)} that fit")


@dataclass(frozen=True)
class Fleet:
    """All functions of a traffic under one policy."""

    name: str
    cold_share: float
    median_cold_share: float
    """Of the functions: half have a larger share of cold requests."""
    p99: float
    """99th percentile of the wait before the function begins, over all requests, in seconds."""
    pod_hours: float
    usd_month: float
    started: int

    @property
    def row(self) -> list[Any]:
        return [self.name, percent(self.cold_share, digits=2), percent(self.median_cold_share, digits=2),
                f"{quantity(self.p99, digits=2)} s", quantity(self.pod_hours, digits=3), quantity(self.usd_month, digits=3)]  # fmt: skip


def fleet(name: str, load: Traffic, *, vcpu: float = 1.0, gib: float = 0.5, **options: Any) -> Fleet:
    """Simulate each function of ``load``; further arguments go to :func:`simulate`.

    The cost is what Cloud Run asks for as many always-on vCPU- and GiB-seconds: a yardstick, not a Knative bill.
    """
    results = [simulate(a, s, horizon=load.horizon, **options) for a, s in zip(load.arrivals, load.service)]
    waits = np.concatenate([result.waits for result in results])
    seconds = sum(result.pod_seconds for result in results)
    a_second = vcpu * price("portable.cloud-run-vcpu") + gib * price("portable.cloud-run-memory")
    return Fleet(
        name,
        sum(result.cold for result in results) / load.requests,
        float(np.median([result.cold_share for result in results])),
        float(np.quantile(waits, 0.99)),
        seconds / 3600,
        seconds * a_second * MONTH / load.horizon,
        sum(result.started for result in results),
    )


def fleets(rows: Sequence[Fleet]) -> Table:
    """Fleets as a table to show."""
    header = ["Setting", "Requests cold", "Median function", "p99 wait", "Pod-hours", "USD a month"]
    return table(header, [row.row for row in rows], align="lrrrrr")


def cold_share(rate: float, keep: float) -> float:
    """Share of requests that come after a gap longer than ``keep`` seconds, for Poisson arrivals and short service."""
    return math.exp(-rate * keep)


def zero_after(settings: kpa.Settings, grace: float = 0.0) -> tuple[float, float]:
    """Least and most seconds from the end of the last request until the last pod ends.

    The average over the window must be nothing: the window, and up to a bucket and a tick more.
    """
    least = settings.stable_window + settings.scale_to_zero_pod_retention_period + grace
    return least, least + kpa.BUCKET + kpa.TICK


# What a move costs


@dataclass(frozen=True)
class Part:
    """One thing that a move touches. ``moves``: the share of it that needs no change; ``hours`` to redo all of it."""

    name: str
    moves: float
    hours: float

    @property
    def left(self) -> float:
        """Hours of work."""
        return (1 - self.moves) * self.hours


@dataclass(frozen=True)
class Move:
    """A move of ``functions`` functions. ``usd_hour``: what an hour of work costs; ``usd_month``: the bill today."""

    parts: tuple[Part, ...]
    functions: int = 20
    usd_hour: float = 100.0
    usd_month: float = 1_000.0
    egress_gb: float = 0.0
    parallel_months: float = 1.0
    """How long both places run side by side."""

    def __post_init__(self) -> None:
        for part in self.parts:
            if not (0 <= part.moves <= 1 and part.hours >= 0):
                raise ValueError(f"part {part.name!r}: moves={part.moves!r} must be a share, hours={part.hours!r} 0 or more")
        if self.functions < 1 or not self.usd_month > 0:
            raise ValueError(f"functions={self.functions!r}, usd_month={self.usd_month!r}: must be positive")

    @property
    def hours(self) -> float:
        return self.functions * sum(part.left for part in self.parts)

    @property
    def usd(self) -> float:
        """Work, data that leaves, and the time in which both bills come."""
        egress = self.egress_gb * price("portable.egress")
        return self.hours * self.usd_hour + egress + self.parallel_months * self.usd_month

    @property
    def lock_in(self) -> float:
        """Cost of the move in months of today's bill."""
        return self.usd / self.usd_month

    def pays_after(self, saving: float) -> float:
        """Months until a bill that is smaller by the share ``saving`` has paid for the move; inf if it never does."""
        if not saving <= 1:
            raise ValueError(f"saving={saving!r}: must be a share of the bill, at most 1")
        return self.lock_in / saving if saving > 0 else math.inf

    def table(self) -> Table:
        rows = [[part.name, percent(part.moves, digits=2), quantity(part.hours), quantity(self.functions * part.left)]
                for part in self.parts]  # fmt: skip
        return table(["What", "Moves as it is", "Hours to redo, a function", f"Hours left, {self.functions} functions"], rows, align="lrrr")


HOURS: Mapping[str, float] = {"code": 16.0, "configuration": 4.0, "events": 4.0, "identity": 4.0, "limits": 2.0}
"""Chosen: hours to redo each part of one function from nothing. Put in your own."""


def move(code: float, configuration: float, events: float, identity: float, limits: float, **options: Any) -> Move:
    """A move, from the share of each part that moves unchanged, with the hours of :data:`HOURS`."""
    shares = {"code": code, "configuration": configuration, "events": events, "identity": identity, "limits": limits}
    return Move(tuple(Part(name, share, HOURS[name]) for name, share in shares.items()), **options)


def with_settings(**changes: Any) -> kpa.Settings:
    """Knative's defaults with ``changes``."""
    return replace(kpa.Settings(), **changes)
