"""Outages and what clients make of them: a retry storm, and balancers that are drawn to a host that fails fast.

:func:`storm` follows N. Bronson et al., "Metastable Failures in Distributed Systems" (HotOS 2021): a trigger pushes a
system over, and retries keep it there when the trigger is gone. All times are seconds. Everything is seeded.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from beyondlab.kit import check
from beyondlab.mesh.model import PeakEwma, RetryBudget

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Storm:
    """What came of the requests of a storm. Arrays of shape (requests,) or (attempts,), in seconds."""

    arrival: Array
    """When a user wanted something."""
    answered: Array
    """When the answer came; NaN where it never came in time."""
    attempts: Array
    """When each attempt was sent, retries included, ascending."""
    outage: tuple[float, float]

    @property
    def amplification(self) -> float:
        """Attempts a request."""
        return self.attempts.size / self.arrival.size

    def success(self, begin: float, end: float) -> float:
        """Share of the requests wanted from ``begin`` to ``end`` that were answered in time; NaN if there were none."""
        wanted = (self.arrival >= begin) & (self.arrival < end)
        return float(np.mean(np.isfinite(self.answered[wanted]))) if wanted.any() else math.nan

    def by_second(self, duration: float) -> tuple[Array, Array]:
        """Attempts and answered requests in each second, shape (seconds,) each."""
        edges = np.arange(0.0, duration + 1.0)
        sent, _ = np.histogram(self.attempts, edges)
        good, _ = np.histogram(self.arrival[np.isfinite(self.answered)], edges)
        return sent.astype(float), good.astype(float)

    def recovery(self, duration: float) -> float:
        """Seconds from the end of the outage to the last request that failed; infinite if they still fail at the end.

        At the end means: under half of the requests of the last two seconds (less the time an answer may take) succeed.
        """
        if self.success(duration - 3.0, duration - 1.0) < 0.5:
            return math.inf
        failed = self.arrival[np.isnan(self.answered) & (self.arrival < duration - 1.0)]
        return max(0.0, float(failed.max(initial=self.outage[1])) - self.outage[1])


def storm(
    rate: float,
    capacity: float,
    *,
    retries: int = 3,
    budget: float | None = None,
    timeout: float = 0.1,
    outage: tuple[float, float] = (5.0, 7.0),
    duration: float = 30.0,
    seed: int = 0,
) -> Storm:
    """Poisson users at ``rate`` a second; one server, first come, first served, ``capacity`` requests a second.

    During ``outage`` the server starts nothing. It does not hear that a client gave up after ``timeout`` seconds, and
    does the work for nobody. A client sends up to ``retries`` more attempts, at once; with a ``budget``, only while
    retries are at most that share of the attempts in flight (:class:`~beyondlab.mesh.model.RetryBudget`, no minimum).

    Raises ValueError for a rate, capacity, timeout or duration that is not positive, or an outage outside the duration.
    """
    check.all_positive(rate=rate, capacity=capacity, timeout=timeout, duration=duration)
    check.whole("retries", retries, 0)
    begin, end = outage
    if not 0 <= begin <= end < duration:
        raise ValueError(f"outage={outage!r}: must lie within the {duration:g} s")
    generator = np.random.default_rng(seed)
    arrival = np.cumsum(generator.exponential(1 / rate, int(rate * duration * 1.2) + 50))
    arrival = arrival[arrival < duration]
    answered, sent, free, active = np.full(arrival.size, np.nan), [], 0.0, 0
    allowance = None if budget is None else RetryBudget(budget, least=0)
    events = [(moment, 0, number, 0) for number, moment in enumerate(arrival)]
    heapq.heapify(events)
    while events:
        now, kind, number, attempt = heapq.heappop(events)
        if kind:  # an attempt is over: 1 answered, 2 timed out
            active -= 1
            if attempt and allowance:
                allowance.give_back()
            if kind == 1:
                answered[number] = now
                continue
            if attempt == retries or (allowance and not allowance.take(active)):
                continue
            attempt += 1
        if now >= duration:
            continue
        sent.append(now)
        active += 1
        start = max(now, free)
        start = end if begin <= start < end else start
        free = start + 1 / capacity
        done = (free, 1) if free <= now + timeout else (now + timeout, 2)
        heapq.heappush(events, (*done, number, attempt))
    return Storm(arrival, answered, np.array(sent), (begin, end))


def sustained_load(load: float, *, retries: int = 0, budget: float | None = None) -> float:
    """Load on the server, as a share of its capacity, while every attempt times out: what keeps a storm going.

    ``load`` · (1 + n) with n retries; ``load`` / (1 − b) with a budget b of the attempts in flight, at most that. Above
    1 an outage does not end by itself.
    """
    check.non_negative("load", load)
    limit = load * (1 + retries)
    return limit if budget is None else min(limit, load / (1 - budget))


def recovery_time(load: float, outage: float, timeout: float, *, retries: int = 0, budget: float | None = None) -> float:
    """Seconds after an outage until answers come in time again: the backlog, worked off at what capacity is left.

    A fluid limit. The backlog is ``outage`` · x, with x the sustained load; what is left is 1 − x; infinite if x ≥ 1.
    """
    x = sustained_load(load, retries=retries, budget=budget)
    return math.inf if x >= 1 else max(0.0, (outage * x - timeout) / (1 - x))


Choice = Literal["random", "least request", "peak EWMA", "peak EWMA with penalty"]


def attraction(policy: Choice, hosts: int = 10, *, in_flight: int = 80, slow: float = 0.04, fast: float = 0.001,
               requests: int = 20_000, seed: int = 0) -> float:  # fmt: skip
    """Share of the requests that go to the one host of ``hosts`` that fails after ``fast`` seconds.

    The others answer after an exponential time with a mean of ``slow`` seconds. ``in_flight`` clients send one request
    after the other. "least request" takes the better of two by requests in flight. Raises ValueError for an unknown
    policy or fewer than two hosts. The penalty is 5 s, Linkerd's default for its Load Biaser.
    """
    check.whole("hosts", hosts, 2)
    penalty = 5.0 if policy == "peak EWMA with penalty" else None
    balancer = PeakEwma(range(hosts), penalty=penalty)
    pickers: dict[str, Callable[[float, tuple[float, float]], int]] = {
        "random": lambda now, draw: int(draw[0] * hosts),
        "least request": lambda now, draw: _fewer(balancer, draw),
        "peak EWMA": balancer.pick,
        "peak EWMA with penalty": balancer.pick,
    }
    check.one_of("policy", policy, pickers)
    pick, generator = pickers[policy], np.random.default_rng(seed)
    draws, times = generator.random((requests, 2)), generator.exponential(slow, requests)
    waiting: list[tuple[float, int, float]] = []
    bad, now = 0, 0.0
    for number in range(requests):
        if number >= in_flight:
            now, host, sent = heapq.heappop(waiting)
            balancer.answered(host, now - sent, now, failed=host == 0)
        host = pick(now, tuple(draws[number]))
        bad += host == 0
        balancer.sent(host)
        heapq.heappush(waiting, (now + (fast if host == 0 else times[number]), host, now))
    return bad / requests


def _fewer(balancer: PeakEwma, draw: tuple[float, float]) -> int:
    """Of two hosts drawn independently, as Envoy does, the one with fewer requests in flight."""
    first, second = (int(share * len(balancer.hosts)) for share in draw)
    return first if balancer.in_flight[first] <= balancer.in_flight[second] else second
