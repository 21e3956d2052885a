"""Closed forms that the simulators must agree with. Rates in 1/s, times in seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from beyondlab.kit import check

_SPREADS = 9.0
_CERTAIN = 200.0
_PRECISION = 1e-12
_MOST_LOAD = 2_000.0


@dataclass(frozen=True)
class KeepAliveExact:
    """Steady state of the keep-alive policy under Poisson arrivals."""

    cold_share: float
    """Probability that a request is a cold start."""
    instances: float
    """Mean number of environments, busy and idle."""


def keep_alive_exact(rate: float, mean_service: float, keep_alive: float, *, provisioned: int = 0) -> KeepAliveExact:
    """Exact cold-start share and mean number of environments of the keep-alive policy.

    The policy is that of :mod:`beyondlab.sim.keep_alive` without a limit: one request an environment, the most
    recently used idle one first, expiry ``keep_alive`` seconds after the last use. Arrivals are Poisson, service times
    exponential with the same mean warm and cold.

    Derivation. Number the environments from 1, the one that is used first. As there is always an environment for a
    request, the number in flight N is that of an M/M/infinity queue, Poisson with mean rho = rate * mean_service.
    Environment k is taken exactly when a request finds k - 1 in flight, and falls idle when N returns to k - 1. It
    stays idle for T_k, the first-passage time of N from k - 1 to k, and has expired if T_k > keep_alive. With Poisson
    arrivals seeing time averages,

        cold share = sum over k of P(N = k - 1) P(T_k > keep_alive),
        instances  = sum over k of P(N >= k) + rate P(N = k - 1) E[min(T_k, keep_alive)].

    T_k is of phase type: with A the generator of N on 0..k-1, made symmetric by the square roots of the stationary
    probabilities, its density is rate * exp(A t)[k-1, k-1]. The eigenvalues w_j < 0 of the tridiagonal A and the
    squared last components of its eigenvectors give a mixture of exponentials of positive weights
    rate * v_j**2 / -w_j, whose sum is 1: nothing cancels. For large k the slowest w_j is below the rounding error of
    the solver, so its weight is taken as what the others leave. States more than 9 standard deviations below the mean
    (and 9 and 25 states above it) are left out: N is there with a probability below 1e-16.

    ``provisioned`` is a number of environments that the platform always keeps: the first ones in that order exist from
    the start and never expire, so their terms of the cold share are 0 and each counts as one instance. This is exact
    for a pool of a minimum size. It is an approximation where certain environments are the provisioned ones and are
    taken before all others, as others may then be busy while a provisioned one is free.

    Levels that are surely reached in time need no eigenvalues, and the sum ends where the rest is below 1e-12. Still,
    time grows faster than rate * mean_service: under a second for 200 requests in flight, some ten seconds for 2,000.

    Raises
    ------
    ValueError
        If an argument is not finite and positive, ``provisioned`` is negative or no whole number, or more than 2,000
        requests are in flight on average.
    """
    rate = check.positive("rate", rate)
    mean_service = check.positive("mean_service", mean_service)
    keep_alive = check.positive("keep_alive", keep_alive)
    provisioned = check.whole("provisioned", provisioned, 0)
    load = rate * mean_service
    if load > _MOST_LOAD:
        raise ValueError(f"rate * mean_service = {load!r}: must be at most {_MOST_LOAD:,.0f} requests in flight")
    from scipy.stats import poisson

    in_flight = poisson(load)
    spread = _SPREADS * math.sqrt(load)
    lowest = max(0, math.floor(load - spread))
    levels = np.arange(lowest + 1, math.ceil(load + spread) + 26)
    found, needed = in_flight.pmf(levels - 1), in_flight.sf(levels - 1)
    cold = 0.0
    instances = float(max(lowest, provisioned))  # 1..lowest are busy all the time but for a negligible share
    passage = climbed = 0.0  # E[T_k], and the mean time from the lowest state to k
    for level, at, above in zip(levels.tolist(), found.tolist(), needed.tolist(), strict=True):
        passage = (1 + (level - 1) / mean_service * passage) / rate if level - 1 > lowest else 1 / rate
        climbed += passage
        if level <= provisioned:
            continue
        # No eigenvalue is closer to 0 than -1 / climbed, so P(T_k > keep_alive) <= exp(-keep_alive / climbed).
        if keep_alive > _CERTAIN * climbed:
            expired, idle = 0.0, passage
        else:
            expired, idle = _first_passage(rate, 1 / mean_service, lowest, level, keep_alive)
        cold += at * expired
        instances += above + rate * at * idle
        if level > load and above < _PRECISION * cold and (2 * level * above + rate * keep_alive * above) < _PRECISION:
            break
    return KeepAliveExact(cold_share=cold, instances=instances)


def _first_passage(rate: float, ending: float, lowest: int, level: int, until: float) -> tuple[float, float]:
    """P(T > until) and E[min(T, until)] of the first passage of M/M/infinity from level - 1 to level.

    ``ending`` is the rate at which one request ends; states below ``lowest`` are left out.
    """
    from scipy.linalg import eigh_tridiagonal

    states = np.arange(lowest, level)
    leaving = rate + states * ending
    leaving[0] = rate if lowest else leaving[0]
    values, vectors = eigh_tridiagonal(-leaving, np.sqrt(rate * ending * states[1:]))
    decay = np.maximum(-values, 0.0)
    slowest = int(np.argmin(decay))
    others = np.arange(decay.size) != slowest
    weight = np.zeros(decay.size)
    weight[others] = rate * vectors[-1, others] ** 2 / decay[others]
    weight[slowest] = max(0.0, 1.0 - float(weight.sum()))
    return float(weight @ np.exp(-decay * until)), float(weight @ _mean_until(decay, until))


def _mean_until(decay: NDArray[np.float64], until: float) -> NDArray[np.float64]:
    """E[min(X, until)] of exponentials X of rates ``decay``, which may be 0."""
    exponent = decay * until
    small = exponent < 1e-8
    safe = np.where(small, 1.0, decay)
    return np.where(small, until * (1 - exponent / 2), -np.expm1(-exponent) / safe)


def idle_expiry_share(rate: float, keep_alive: float) -> float:
    """Probability exp(-rate * keep_alive) that no request comes for ``keep_alive`` seconds.

    It is the cold-start share of a rarely called function, whose requests hardly ever overlap (rate * mean service
    much below 1). For others it is far too low: their cold starts come from overlapping requests, see
    :func:`keep_alive_exact`. Raises ValueError if an argument is not finite and positive.
    """
    return math.exp(-check.positive("rate", rate) * check.positive("keep_alive", keep_alive))


def erlang_b(servers: int, load: float) -> float:
    """Erlang's loss formula: share of requests blocked by ``servers`` servers without a queue (M/G/c/c).

    ``load`` is the offered load, rate times mean service time, in erlangs. Uses the recursion
    1/B(c) = 1 + c / (load * B(c - 1)), written so that it cannot overflow. Raises ValueError if ``servers`` is
    negative or ``load`` is not finite and positive.
    """
    servers = check.whole("servers", servers, 0)
    load = check.positive("load", load)
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked


def erlang_c(servers: int, load: float) -> float:
    """Erlang's delay formula: share of requests that wait for one of ``servers`` servers (M/M/c).

    The mean wait is erlang_c * mean service / (servers - load). Raises ValueError unless
    0 < ``load`` < ``servers``, as the queue has no steady state otherwise.
    """
    servers = check.whole("servers", servers, 1)
    load = check.positive("load", load)
    if load >= servers:
        raise ValueError(f"load={load!r}: must be less than servers={servers}")
    blocked = erlang_b(servers, load)
    return blocked / (1 - load / servers * (1 - blocked))


def erlang_c_wait(servers: int, rate: float, mean_service: float) -> float:
    """Mean wait in an M/M/c queue, in seconds, before service.

    Raises ValueError as :func:`erlang_c`: the load, ``rate * mean_service``, must be less than ``servers``.
    """
    servers, load, mean_service = _loaded(servers, rate, mean_service)
    return erlang_c(servers, load) * mean_service / (servers - load)


def wait_exceeds(servers: int, rate: float, mean_service: float, seconds: float) -> float:
    """Probability that a request waits longer than ``seconds`` in an M/M/c queue.

    It is erlang_c * exp(-(servers - load) * seconds / mean_service). Raises ValueError as :func:`erlang_c`, or if
    ``seconds`` is negative.
    """
    servers, load, mean_service = _loaded(servers, rate, mean_service)
    seconds = check.non_negative("seconds", seconds)
    return erlang_c(servers, load) * math.exp(-(servers - load) * seconds / mean_service)


def response_percentile(rate: float, mean_service: float, percentile: float) -> float:
    """A percentile of the response time of an M/M/1 queue, in seconds.

    The response time is exponential with mean mean_service / (1 - rate * mean_service). Raises ValueError if the load
    is not less than 1, or ``percentile`` is not between 0 and 100.
    """
    _, load, mean_service = _loaded(1, rate, mean_service)
    return -math.log(1 - _share(percentile)) * mean_service / (1 - load)


def pollaczek_khinchine(rate: float, mean_service: float, cv: float) -> float:
    """Mean wait in an M/G/1 queue, in seconds, before service: load * mean_service * (1 + cv**2) / (2 * (1 - load)).

    ``cv`` is the coefficient of variation of the service time: 0 if it is constant, 1 if it is exponential. Raises
    ValueError if the load, ``rate * mean_service``, is not less than 1, or ``cv`` is negative.
    """
    _, load, mean_service = _loaded(1, rate, mean_service)
    return load * mean_service * (1 + check.non_negative("cv", cv) ** 2) / (2 * (1 - load))


def allen_cunneen(servers: int, rate: float, mean_service: float, arrival_cv: float, service_cv: float) -> float:
    """Approximate mean wait in a G/G/c queue, in seconds: that of M/M/c times (arrival_cv**2 + service_cv**2) / 2.

    An approximation for heavy load (A. O. Allen, "Probability, Statistics, and Queueing Theory", 1990, section 5.3; for
    one server it is J. F. C. Kingman's of 1961). Exact for M/G/1 and M/M/c. Raises ValueError as :func:`erlang_c`, or
    if a coefficient of variation is negative.
    """
    arrival_cv = check.non_negative("arrival_cv", arrival_cv)
    service_cv = check.non_negative("service_cv", service_cv)
    return erlang_c_wait(servers, rate, mean_service) * (arrival_cv**2 + service_cv**2) / 2


def littles_law(rate: float, response: float) -> float:
    """Mean number in a system: rate of arrivals times mean time in it, whatever the order and the distributions.

    J. D. C. Little, "A Proof for the Queuing Formula: L = lambda W", Operations Research 9(3), 1961. Raises ValueError
    if an argument is negative.
    """
    return check.non_negative("rate", rate) * check.non_negative("response", response)


def fan_out_slow(slow: float, calls: int) -> float:
    """Probability that at least one of ``calls`` independent calls is slow, if each is with probability ``slow``.

    J. Dean and L. A. Barroso, "The Tail at Scale", Communications of the ACM 56(2), 2013. Raises ValueError if ``slow``
    is no probability or ``calls`` is less than 1.
    """
    slow = check.share("slow", slow)
    calls = check.whole("calls", calls, 1)
    return 1.0 if slow == 1 else -math.expm1(calls * math.log1p(-slow))


def leaf_percentile(percentile: float, calls: int) -> float:
    """The percentile that each of ``calls`` independent calls must keep for all of them to keep ``percentile``.

    It is 100 * (percentile / 100)**(1 / calls). Raises ValueError if ``percentile`` is not between 0 and 100 or
    ``calls`` is less than 1.
    """
    return 100 * _share(percentile) ** (1 / check.whole("calls", calls, 1))


def largest_of(count: int) -> float:
    """Mean of the largest of ``count`` independent exponential times, in units of their mean: 1 + 1/2 + … + 1/count.

    Raises ValueError if ``count`` is less than 1.
    """
    return math.fsum(1 / place for place in range(1, check.whole("count", count, 1) + 1))


def _loaded(servers: int, rate: float, mean_service: float) -> tuple[int, float, float]:
    servers = check.whole("servers", servers, 1)
    rate, mean_service = check.positive("rate", rate), check.positive("mean_service", mean_service)
    if rate * mean_service >= servers:
        raise ValueError(f"rate * mean_service = {rate * mean_service!r}: must be less than servers={servers}")
    return servers, rate * mean_service, mean_service


def _share(percentile: float) -> float:
    number = check.finite("percentile", percentile)
    if not 0 < number < 100:
        raise ValueError(f"percentile={percentile!r}: must be between 0 and 100, neither included")
    return number / 100
