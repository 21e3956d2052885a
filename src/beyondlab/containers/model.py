"""CPU limits as the kernel keeps them, and what images that share layers weigh. Pure, seeded; times in seconds.

The rule of CFS bandwidth control is that of Documentation/scheduler/sched-bwc.rst of the Linux kernel: a group gets
``quota`` of CPU time at every period boundary; processors take it in slices; when it is used up, what still wants to
run waits for the next boundary. Unused quota is not saved up, beyond ``burst``.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beyondlab.kit import check
from beyondlab.kit.tables import Table, percent, table

PERIOD = 0.1
"""The kernel's default period, and that of Docker and Kubernetes."""

SLICE = 0.005
"""CPU time that a processor takes from the group's quota at once (sched_cfs_bandwidth_slice_us)."""

KEPT = 0.001
"""CPU time that a processor keeps of a slice when it has nothing left to run (min_cfs_rq_runtime)."""

GATHER = 0.005
"""How long given-back quota is gathered before it wakes who waits (cfs_bandwidth_slack_period in kernel/sched/fair.c)."""

SOON = 0.002
"""If the next period begins within this time, given-back quota waits for it (min_bandwidth_expiration)."""

_TINY = 1e-12


def burst_time(work: float, limit: float, *, threads: int = 1, period: float = PERIOD, phase: float = 0.0) -> float:
    """Seconds that a burst of ``work`` CPU-seconds takes on ``threads`` processors under a limit of ``limit`` processors.

    In closed form, for quota that is handed out as it is used. It starts ``phase`` seconds after a period boundary with
    the full quota q: what is left of that period serves min(q, threads (period - phase)); every further full period
    serves min(q, threads period); what remains runs at full speed.

    >>> round(burst_time(0.2, limit=0.4), 6)
    0.44

    Raises ValueError for a value that is not positive, or a ``phase`` outside of [0, period).
    """
    check.all_positive(work=work, limit=limit, threads=threads, period=period)
    if not 0 <= phase < period:
        raise ValueError(f"phase={phase!r}: must lie in [0, period={period!r})")
    first = min(limit * period, threads * (period - phase))
    if work <= first + _TINY:
        return work / threads
    each = min(limit * period, threads * period)
    full = math.ceil((work - first) / each - 1e-9) - 1
    return period - phase + full * period + (work - first - full * each) / threads


def throttled_periods(
    work: float, limit: float, *, threads: int = 1, period: float = PERIOD, phase: float = 0.0
) -> int:
    """At how many period boundaries such a burst is found waiting, in closed form: ``nr_throttled``.

    Arguments and errors as for :func:`burst_time`. It waits after the period it begins in unless that ended before the
    quota did, and after each full period but the last.
    """
    check.all_positive(work=work, limit=limit, threads=threads, period=period)
    if not 0 <= phase < period:
        raise ValueError(f"phase={phase!r}: must lie in [0, period={period!r})")
    first = min(limit * period, threads * (period - phase))
    if threads <= limit or work <= first + _TINY:
        return 0
    full = math.ceil((work - first) / (limit * period) - 1e-9) - 1
    return full + (threads * (period - phase) > limit * period + _TINY)


def longest_stall(limit: float, *, threads: int, period: float = PERIOD) -> float:
    """The longest a group can be made to wait at once, when ``threads`` use up its quota from a period's start.

    The quota lasts limit * period / threads seconds, the rest of the period is waiting: period (1 - limit / threads).
    """
    check.all_positive(limit=limit, threads=threads, period=period)
    return max(0.0, period * (1 - limit / threads))


@dataclass(frozen=True)
class Served:
    """What became of the requests. ``latency``: seconds of each, in order of arrival.

    ``throttled``: period boundaries at which something waited for quota; ``periods``: those up to the end;
    ``throttled_seconds``: waiting, summed over processors; ``longest``: the longest wait of one processor;
    ``used``: CPU-seconds.
    """

    latency: NDArray[np.float64]
    periods: int
    throttled: int
    throttled_seconds: float
    longest: float
    used: float

    def quantile(self, q: float, *, only: ArrayLike | None = None) -> float:
        """A quantile of the latency in seconds, of all requests or of those selected by ``only``."""
        return float(np.quantile(self.latency if only is None else self.latency[np.asarray(only)], q))


def serve(
    arrivals: ArrayLike,
    work: ArrayLike,
    *,
    limit: float = math.inf,
    threads: int,
    width: ArrayLike = 1,
    period: float = PERIOD,
    slice_: float = SLICE,
    burst: float = 0.0,
) -> Served:
    """Requests at a service of ``threads`` threads, each on a processor of its own, under a CPU limit.

    ``arrivals``: times in order; ``work``: CPU-seconds of each; ``width``: into how many equal parts a request splits
    itself, each for one thread, first come first served. It is done when all its parts are. ``limit`` in processors;
    ``burst``: CPU-seconds of unused quota that may be saved up.

    As in the kernel (kernel/sched/fair.c): quota is handed to processors in slices; one that goes idle gives back all
    but 1 ms; one that finds none waits for the next period boundary, or, where more than a slice was given back, for
    the end of 5 ms of gathering. Left out: that a thread can change its processor.

    Raises ValueError for arrays that do not fit, arrivals out of order, and values that are not positive.
    """
    arrive = np.atleast_1d(np.asarray(arrivals, dtype=float))
    need = np.broadcast_to(np.asarray(work, dtype=float), arrive.shape)
    parts = np.broadcast_to(np.asarray(width, dtype=int), arrive.shape)
    if arrive.ndim != 1 or not np.isfinite(arrive).all() or (arrive < 0).any() or (np.diff(arrive) < 0).any():
        raise ValueError("arrivals: must be finite times from 0 on, in order")
    if not ((need > 0) & np.isfinite(need)).all() or (parts < 1).any():
        raise ValueError("work, width: must be positive for every request")
    check.all_positive(threads=threads, period=period, slice_=slice_)
    if not limit > 0 or not burst >= 0:
        raise ValueError(f"limit={limit!r}, burst={burst!r}: a limit must be positive, a burst not negative")
    served = _Service(limit * period, threads, period, slice_, burst)
    return served.run(arrive.tolist(), (need / parts).tolist(), parts.tolist())


class _Service:
    """The state of :func:`serve`. A processor is idle, running until a moment that is known, or waiting for quota."""

    def __init__(self, quota: float, threads: int, period: float, slice_: float, burst: float) -> None:
        self.quota, self.period, self.slice, self.burst = quota, period, slice_, burst
        self.free = math.isinf(quota)
        self.pool = quota
        self.local = [0.0] * threads
        self.left = [0.0] * threads
        self.owner = [-1] * threads
        self.idle = list(range(threads))
        self.running: list[tuple[float, int]] = []
        self.waiting: list[tuple[int, float]] = []
        self.queue: deque[tuple[int, float]] = deque()
        self.boundary = 0
        self.gathered = math.inf
        self.throttled, self.waited, self.longest, self.used = 0, 0.0, 0.0, 0.0

    def run(self, arrivals: list[float], part: list[float], parts: list[int]) -> Served:
        self.remaining, self.finish = list(parts), [0.0] * len(arrivals)
        upcoming, count, now, never = 0, len(arrivals), 0.0, math.inf
        running, period, free, pop = self.running, self.period, self.free, heapq.heappop
        next_arrival = arrivals[0] if count else never
        while upcoming < count or running or self.waiting:
            next_stop = running[0][0] if running else never
            next_boundary = (self.boundary + 1) * period
            if next_arrival > next_boundary and not (running or self.waiting):
                self._skip_to(next_arrival)
                continue
            now = never if free else next_boundary if next_boundary < self.gathered else self.gathered
            if next_stop <= now and next_stop <= next_arrival:
                now = next_stop
                self._stopped(now, pop(running)[1])
            elif next_arrival <= now:
                now = next_arrival
                self.queue.extend([(upcoming, part[upcoming])] * parts[upcoming])
                upcoming += 1
                next_arrival = arrivals[upcoming] if upcoming < count else never
                self._fill(now)
            elif now == self.gathered:
                self.gathered = math.inf
                if next_boundary - now >= SOON and self.pool > self.slice:
                    self._wake(now)
            else:
                self._refill(now)
        latency = np.array(self.finish) - np.array(arrivals)
        periods = 0 if self.free else math.ceil(now / self.period - 1e-9)
        return Served(latency, periods, self.throttled, self.waited, self.longest, self.used)

    def _fill(self, now: float) -> None:
        while self.queue and self.idle:
            processor = heapq.heappop(self.idle)
            self.owner[processor], self.left[processor] = self.queue.popleft()
            self._continue(now, processor)

    def _continue(self, now: float, processor: int) -> None:
        """Run until the part is done or the slice is used up; without a slice, wait."""
        granted, wanted = self.local[processor], self.left[processor]
        if self.free:
            granted = math.inf
        elif granted <= _TINY:
            granted = self.slice if self.slice < self.pool else self.pool
            if granted <= _TINY:
                self.waiting.append((processor, now))
                return
            self.pool -= granted
        stretch = wanted if wanted < granted else granted
        self.left[processor] = wanted - stretch
        self.local[processor] = granted - stretch
        self.used += stretch
        heapq.heappush(self.running, (now + stretch, processor))

    def _stopped(self, now: float, processor: int) -> None:
        if self.left[processor] > _TINY:
            self._continue(now, processor)
            return
        request = self.owner[processor]
        self.remaining[request] -= 1
        if not self.remaining[request]:
            self.finish[request] = now
        if self.queue:
            self.owner[processor], self.left[processor] = self.queue.popleft()
            self._continue(now, processor)
            return
        heapq.heappush(self.idle, processor)
        if not self.free and self.local[processor] > KEPT:
            self.pool += self.local[processor] - KEPT
            self.local[processor] = KEPT
            until = (self.boundary + 1) * self.period - now
            if self.waiting and self.pool > self.slice and until >= GATHER + SOON and math.isinf(self.gathered):
                self.gathered = now + GATHER

    def _refill(self, now: float) -> None:
        self.boundary += 1
        self.pool = min(self.pool + self.quota, self.quota + self.burst)
        if self.waiting:
            self.throttled += 1
            self._wake(now)

    def _wake(self, now: float) -> None:
        woken, self.waiting = self.waiting, []
        for processor, since in woken:
            if self.pool <= _TINY and self.local[processor] <= _TINY:
                self.waiting.append((processor, since))
                continue
            self.waited += now - since
            self.longest = max(self.longest, now - since)
            self._continue(now, processor)

    def _skip_to(self, moment: float) -> None:
        """Nothing runs and nothing waits: all boundaries up to ``moment`` at once."""
        passed = max(1, math.floor(moment / self.period) - self.boundary)
        self.boundary += passed
        self.pool = min(self.pool + passed * self.quota, self.quota + self.burst)


def bytes_pulled(images: Sequence[Mapping[str, int]]) -> tuple[int, int]:
    """Bytes that a machine pulls for these images, one after another, and bytes if no layer were shared.

    An image is a mapping from a layer's digest to its size. Raises ValueError if one digest comes with two sizes.
    """
    sizes: dict[str, int] = {}
    for layers in images:
        for name, size in layers.items():
            if sizes.setdefault(name, size) != size:
                raise ValueError(f"images: the layer {name} has {size} and {sizes[name]} bytes; a digest has one content")
    return sum(sizes.values()), sum(sum(layers.values()) for layers in images)


def distinct_bases(images: int, shares: ArrayLike) -> float:
    """How many different base images ``images`` images are built on, on average, each choosing base i with share p_i.

    Sum over i of 1 - (1 - p_i)^images. Raises ValueError if the shares are no distribution.
    """
    p = np.asarray(shares, dtype=float)
    if images < 0 or (p < 0).any() or not math.isclose(p.sum(), 1.0, rel_tol=1e-9):
        raise ValueError(f"images={images!r}, shares summing to {p.sum():g}: must not be negative, and sum to 1")
    return float(-np.expm1(images * np.log1p(-np.minimum(p, 1 - 1e-15))).sum())


def popularity(bases: int, exponent: float = 1.0) -> NDArray[np.float64]:
    """Shares of ``bases`` base images after Zipf's law: the i-th has 1 / i^exponent of the first's."""
    if bases < 1 or exponent < 0:
        raise ValueError(f"bases={bases!r}, exponent={exponent!r}: at least one base, exponent not negative")
    weights = np.arange(1, bases + 1, dtype=float) ** -exponent
    return weights / weights.sum()


def pull_all(
    images: int, shares: ArrayLike, *, base_bytes: int, own_bytes: int, seed: int, runs: int = 1
) -> NDArray[np.float64]:
    """Bytes pulled for ``images`` images of one base layer and one own layer each, for each of ``runs`` draws.

    Bases are drawn by their ``shares``; drawing and counting are independent of :func:`distinct_bases`.
    """
    rng = np.random.default_rng(seed)
    p = np.asarray(shares, dtype=float)
    totals = np.empty(runs)
    for run in range(runs):
        drawn = rng.choice(p.size, size=images, p=p)
        catalogue = [{f"base {base}": base_bytes, f"own {number}": own_bytes} for number, base in enumerate(drawn)]
        totals[run] = bytes_pulled(catalogue)[0]
    return totals


@dataclass(frozen=True)
class Service:
    """A service as its owner knows it: small requests, and now and then a burst of parallel work beside them.

    ``rate``: requests a second; ``work``: CPU-seconds of one, on average (exponential). ``burst_every``: seconds between
    bursts, such as garbage collections; ``burst_work``: CPU-seconds of one; ``burst_threads``: how many threads it
    uses. ``limit``: processors. ``threads``: all threads there are.
    """

    rate: float = 200.0
    work: float = 0.002
    burst_every: float = 1.0137
    burst_work: float = 0.3
    burst_threads: int = 16
    limit: float = 2.0
    threads: int = 64

    def __post_init__(self) -> None:
        check.all_positive(**vars(self))
        if self.burst_threads > self.threads:
            raise ValueError(f"burst_threads={self.burst_threads!r}: must be at most threads={self.threads!r}")

    @property
    def used(self) -> float:
        """Processors in use on average."""
        return self.rate * self.work + self.burst_work / self.burst_every


@dataclass(frozen=True)
class Latency:
    """Latency of the small requests in seconds, and the share of periods in which the service was throttled."""

    p50: float
    p99: float
    p999: float
    throttled: float


def latency(
    service: Service, *, seconds: float = 150.0, seed: int = 1, period: float = PERIOD, burst: float = 0.0
) -> Latency:
    """Simulate ``service`` for ``seconds``: Poisson requests, bursts at regular times, see :func:`serve`.

    The same ``seed`` gives the same requests whatever the limit. Raises ValueError for a time that is not positive.
    """
    check.all_positive(seconds=seconds, period=period)
    rng = np.random.default_rng(seed)
    small = np.cumsum(rng.exponential(1 / service.rate, size=int(service.rate * seconds)))
    need = rng.exponential(service.work, size=small.size)
    wide = np.arange(service.burst_every / 2, small[-1], service.burst_every)
    moments = np.concatenate([small, wide])
    order = np.argsort(moments, kind="stable")
    served = serve(
        moments[order],
        np.concatenate([need, np.full(wide.size, service.burst_work)])[order],
        limit=service.limit,
        threads=service.threads,
        width=np.concatenate([np.ones(small.size, int), np.full(wide.size, service.burst_threads)])[order],
        period=period,
        burst=burst,
    )
    of_small = order < small.size
    p50, p99, p999 = (served.quantile(q, only=of_small) for q in (0.5, 0.99, 0.999))
    return Latency(p50, p99, p999, served.throttled / max(1, served.periods))


def decide(service: Service, *, seconds: float = 150.0, seed: int = 1) -> Table:
    """What could be done about throttling, simulated on the reader's numbers: a table."""
    whole = max(1, math.floor(service.limit))
    options = {
        "as it is": (service, {}),
        f"bursts on {whole} threads": (replace(service, burst_threads=min(whole, service.burst_threads)), {}),
        "a period of 10 ms": (service, {"period": 0.01}),
        "unused quota saved up to one period": (service, {"burst": service.limit * PERIOD}),
        "twice the limit": (replace(service, limit=2 * service.limit), {}),
        "no limit": (replace(service, limit=1e6), {}),
    }
    rows = []
    for name, (changed, settings) in options.items():
        found = latency(changed, seconds=seconds, seed=seed, **settings)
        times = [f"{1e3 * value:.1f} ms" for value in (found.p50, found.p99, found.p999)]
        rows.append([name, *times, percent(found.throttled)])
    return table(["Setting", "p50", "p99", "p99.9", "Periods throttled"], rows, align="lrrrr")
