"""What a mesh decides, as small classes without a clock: the moment, in seconds, is an argument.

Each follows the system that it is named after and is held to that system's own tests (``tests/mesh/test_model.py``):

* :class:`Ewma`: Linkerd's estimate of latency (linkerd2-proxy, ``linkerd/ewma/src/lib.rs``);
* :class:`PeakEwma`: two choices by that estimate times the requests in flight (Tower, ``tower::load::peak_ewma``);
* :class:`OutlierDetector`: Envoy's (``source/common/upstream/outlier_detection_impl.cc``);
* :class:`RetryBudget` and :class:`Limit`: Envoy's circuit breaker (``source/common/upstream/resource_manager_impl.h``);
* :class:`TokenBucket`: Envoy's (``source/common/common/token_bucket_impl.cc``).

The ring hash is in :mod:`.ring`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from beyondlab.kit import check

MIN_DECAY = 0.001
"""Seconds: a shorter decay is taken for this one, as in Linkerd."""

MIN_FILL_RATE = 1 / (365 * 24 * 3600)
"""Tokens a second: Envoy's slowest bucket gains one a year."""


class Ewma:
    """An average that forgets: a sample ``t`` seconds old weighs exp(−t / ``decay``). Infinite before the first sample.

    ``decay`` in seconds; ``now`` is the moment of its making. ``initial`` gives it a value at once.
    """

    def __init__(self, decay: float, now: float, initial: float = math.inf) -> None:
        self.decay, self.value, self.at = max(decay, MIN_DECAY), initial, now

    def get_at(self, now: float) -> float:
        """The value at ``now`` if nothing more comes: it fades. Changes nothing."""
        if math.isinf(self.value) or now <= self.at:
            return self.value
        return self.value * math.exp(-(now - self.at) / self.decay)

    def add(self, sample: float, now: float) -> None:
        """Take a sample into the average. One that is not newer than the last is ignored."""
        if now <= self.at:
            return
        if math.isinf(self.value):
            self.value = sample
        else:
            kept = math.exp(-(now - self.at) / self.decay)
            self.value = self.value * kept + sample * (1 - kept)
        self.at = now

    def add_peak(self, sample: float, now: float) -> None:
        """Up at once, down slowly: a sample above the faded value replaces it, one below is averaged in."""
        if math.isinf(self.value) or self.get_at(now) < sample:
            self.value, self.at = sample, now
        else:
            self.add(sample, now)

    def reset(self, value: float, now: float) -> None:
        """Forget everything: ``value``, as of ``now``."""
        self.value, self.at = value, now


class PeakEwma:
    """Two choices by cost: latency (a peak EWMA) times requests in flight and the one to come.

    ``hosts`` start at ``default`` seconds. ``penalty``: with a number, an answer that failed counts as at least that
    many seconds: what Linkerd's Load Biaser does for rate-limited answers. Raises ValueError without hosts.
    """

    def __init__(self, hosts: Sequence[Hashable], *, decay: float = 10.0, default: float = 0.03, penalty: float | None = None) -> None:
        if not hosts:
            raise ValueError("hosts=[]: there must be one at least")
        self.hosts, self.penalty = list(hosts), penalty
        check.all_positive(decay=decay, default=default)
        self.latency = {host: Ewma(decay, 0.0, default) for host in hosts}
        self.in_flight = dict.fromkeys(hosts, 0)

    def cost(self, host: Hashable, now: float) -> float:
        """Seconds that a request to ``host`` is expected to cost."""
        return self.latency[host].get_at(now) * (self.in_flight[host] + 1)

    def pick(self, now: float, draw: tuple[float, float]) -> Hashable:
        """The cheaper of two different hosts, drawn by two numbers from [0, 1); the first drawn, if equal."""
        if len(self.hosts) == 1:
            return self.hosts[0]
        first = int(draw[0] * len(self.hosts))
        second = int(draw[1] * (len(self.hosts) - 1))
        second += second >= first
        a, b = self.hosts[first], self.hosts[second]
        return a if self.cost(a, now) <= self.cost(b, now) else b

    def sent(self, host: Hashable) -> None:
        """A request goes to ``host``."""
        self.in_flight[host] += 1

    def answered(self, host: Hashable, seconds: float, now: float, *, failed: bool = False) -> None:
        """An answer came after ``seconds``."""
        self.in_flight[host] -= 1
        if failed and self.penalty is not None:
            seconds = max(seconds, self.penalty)
        self.latency[host].add_peak(seconds, now)


class TokenBucket:
    """Envoy's: ``size`` tokens at first and at most, ``rate`` more a second, a fraction of one counted."""

    def __init__(self, size: int, rate: float, now: float = 0.0) -> None:
        self.size, self.rate = check.positive("size", size), max(abs(rate), MIN_FILL_RATE)
        self.tokens, self.filled = float(size), now

    def consume(self, tokens: int, now: float, *, partial: bool = False) -> int:
        """Take ``tokens``, or what there is if ``partial``; how many were taken: all, or none."""
        if self.tokens < self.size:
            self.tokens = min(self.tokens + (now - self.filled) * self.rate, self.size)
            self.filled = now
        if partial:
            tokens = min(tokens, math.floor(self.tokens))
        if self.tokens < tokens:
            return 0
        self.tokens -= tokens
        return tokens

    def next_token_ms(self) -> int:
        """Milliseconds after which to ask again: 0 with a token there, else those of a whole token."""
        return 0 if self.tokens >= 1 else math.ceil(1000 / self.rate)

    def reset(self, tokens: int, now: float) -> None:
        """Set the tokens."""
        self.tokens, self.filled = float(tokens), now


@dataclass
class Limit:
    """How many of something may be open at once: connections, waiting requests, requests."""

    most: int
    open: int = 0
    overflow: int = 0
    """How often one was refused."""

    def can_create(self) -> bool:
        return self.open < self.most

    @property
    def remaining(self) -> int:
        """How many more; never negative."""
        return max(0, self.most - self.open)

    def take(self) -> bool:
        """Open one if there is room; whether it was."""
        if not self.can_create():
            self.overflow += 1
            return False
        self.open += 1
        return True

    def give_back(self) -> None:
        """Close one."""
        self.open -= 1


@dataclass
class RetryBudget:
    """Retries in flight are at most ``share`` of the requests in flight, waiting ones included, but ``least`` always.

    Envoy's defaults are 20 % and 3. Raises ValueError if ``share`` is not from 0 to 1.
    """

    share: float = 0.2
    least: int = 3
    retrying: int = 0
    overflow: int = 0

    def __post_init__(self) -> None:
        check.share("share", self.share)

    def most(self, active: int) -> int:
        """Retries allowed while ``active`` requests are in flight."""
        return max(int(self.share * active + 1e-9), self.least)

    def take(self, active: int) -> bool:
        """Begin a retry if the budget allows; whether it does."""
        if self.retrying >= self.most(active):
            self.overflow += 1
            return False
        self.retrying += 1
        return True

    def give_back(self) -> None:
        """A retry is over."""
        self.retrying -= 1


def success_rate_threshold(rates: Sequence[float], factor: float = 1.9) -> tuple[float, float]:
    """Mean of the hosts' success rates (per cent), and below what a host is an outlier: mean − factor · deviation.

    The deviation is the population's. Raises ValueError without a rate.
    """
    if not len(rates):
        raise ValueError("rates=[]: there must be one at least")
    mean = sum(rates) / len(rates)
    deviation = math.sqrt(sum((rate - mean) ** 2 for rate in rates) / len(rates))
    return mean, mean - factor * deviation


@dataclass
class _Host:
    consecutive: int = 0
    ejected: float | None = None
    multiplier: int = 0
    unejected: float | None = None
    total: int = 0
    good: int = 0


@dataclass(frozen=True)
class Event:
    """An ejection or a return, in the order in which they happened."""

    at: float
    host: Hashable
    action: str
    """``"eject"`` or ``"return"``"""
    reason: str = ""


@dataclass
class OutlierDetector:
    """Envoy's outlier detection. Feed it :meth:`result` for each answer and :meth:`sweep` each ``interval`` seconds.

    * ``consecutive`` failures (5xx) in a row eject a host at once.
    * A sweep ejects hosts whose success rate since the last sweep is under mean − ``factor`` · deviation of the hosts,
      where at least ``least_hosts`` had at least ``volume`` requests; and, if ``failure_percent`` is set, those that
      failed at least that share.
    * A host returns at the first sweep after ``base`` · k seconds, at most ``longest``; k grows with each ejection and
      shrinks with each healthy sweep.
    * No ejection takes the ejected hosts over ``max_percent`` of all, unless ``always_one`` allows the first.

    Times in seconds. The defaults are Envoy 1.40's, whose enforcement of failure percentages is off.
    """

    hosts: Iterable[Hashable]
    consecutive: int = 5
    interval: float = 10.0
    base: float = 30.0
    longest: float = 300.0
    max_percent: float = 10.0
    always_one: bool = False
    success_rate: bool = True
    factor: float = 1.9
    least_hosts: int = 5
    volume: int = 100
    failure_percent: float | None = None
    failure_volume: int = 50
    events: list[Event] = field(default_factory=list)
    overflow: int = 0
    """Ejections that ``max_percent`` forbade."""

    def __post_init__(self) -> None:
        self._hosts = {host: _Host() for host in self.hosts}
        self.longest = max(self.longest, self.base) if self.longest == 300.0 else self.longest
        if self.longest < self.base:
            raise ValueError(f"longest={self.longest!r}: must not be under base={self.base!r}")

    @property
    def ejected(self) -> list[Hashable]:
        """The hosts that get nothing now."""
        return [name for name, host in self._hosts.items() if host.ejected is not None]

    @property
    def ejected_in_order(self) -> list[Hashable]:
        """Every ejection so far, in its order."""
        return [event.host for event in self.events if event.action == "eject"]

    def result(self, name: Hashable, failed: bool, now: float) -> None:
        """An answer of a host came at ``now``; ``failed`` says whether it was a 5xx."""
        host = self._hosts[name]
        host.total += 1
        if not failed:
            host.good += 1
            host.consecutive = 0
            return
        host.consecutive += 1
        if host.consecutive == self.consecutive and host.ejected is None:
            self._eject(name, host, now, "consecutive 5xx")
            host.consecutive = 0

    def sweep(self, now: float) -> None:
        """What Envoy does each ``interval``: returns, success rates, and shorter memories for healthy hosts."""
        for name, host in self._hosts.items():
            if host.ejected is not None and now - host.ejected >= min(self.base * host.multiplier, self.longest):
                host.ejected, host.consecutive, host.unejected = None, 0, now
                self.events.append(Event(now, name, "return"))
        counts = {name: (host.good, host.total) for name, host in self._hosts.items() if host.ejected is None and host.total}
        for host in self._hosts.values():
            host.good = host.total = 0
        self._judge_rates({n: 100 * good / total for n, (good, total) in counts.items()}, counts, now)
        for host in self._hosts.values():
            if host.ejected is None and host.unejected is not None and now - host.unejected >= self.interval:
                host.multiplier = max(0, host.multiplier - 1)

    def _judge_rates(self, rates: Mapping[Hashable, float], counts: Mapping[Hashable, tuple[int, int]], now: float) -> None:
        busy = [name for name in rates if counts[name][1] >= self.volume]
        if self.success_rate and len(busy) >= max(1, self.least_hosts):
            _, threshold = success_rate_threshold([rates[name] for name in busy], self.factor)
            for name in busy:
                if rates[name] < threshold:
                    self._eject(name, self._hosts[name], now, "success rate")
        busy = [name for name in rates if counts[name][1] >= self.failure_volume]
        if self.failure_percent is not None and len(busy) >= max(1, self.least_hosts):
            for name in busy:
                if 100 - rates[name] >= self.failure_percent and self._hosts[name].ejected is None:
                    self._eject(name, self._hosts[name], now, "failure percentage")

    def _eject(self, name: Hashable, host: _Host, now: float, reason: str) -> None:
        already = len(self.ejected)
        allowed = 100 * (already + 1) / len(self._hosts) <= self.max_percent
        if not (allowed or (self.always_one and already == 0)):
            self.overflow += 1
            return
        host.ejected = now
        if host.multiplier * self.base < self.longest + self.base:
            host.multiplier += 1
        self.events.append(Event(now, name, "eject", reason))


def attempts(fail: float, retries: int) -> float:
    """Mean attempts a request, if each fails with probability ``fail`` and up to ``retries`` more are made.

    The sum 1 + p + … + pⁿ: amplification is mild while little fails, and n + 1 when everything does.
    """
    check.share("fail", fail)
    check.whole("retries", retries, 0)
    return float(sum(fail**k for k in range(retries + 1)))


def two_choices_response(load: float, choices: int = 2, *, terms: int = 60) -> float:
    """Mean response time, in mean service times, of the shortest of ``choices`` queues among very many, at ``load``.

    M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (IEEE TPDS 12(10), 2001): Poisson arrivals,
    exponential service. The sum over i ≥ 1 of load^((d^i − d) / (d − 1)); 1/(1 − load) for one choice.
    """
    if not 0 <= load < 1:
        raise ValueError(f"load={load!r}: must be from 0 to under 1")
    if choices == 1:
        return 1 / (1 - load)
    powers = [(choices**i - choices) // (choices - 1) for i in range(1, min(terms, 40))]
    return float(np.sum([load**power for power in powers if power < 100_000]))
