"""A population of functions like the one published of Azure Functions.

Source: M. Shahrad et al., "Serverless in the Wild: Characterizing and Optimizing the Serverless Workload at a Large
Cloud Provider", USENIX ATC 2020. What is published and what is chosen here is said at each function.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from beyondlab.kit import check
from beyondlab.sim import _check, service
from beyondlab.sim._check import Seed

HOURLY_SHARE = 0.45
"""Published: applications invoked at most once an hour on average."""
MINUTELY_SHARE = 0.814
"""Published: applications invoked at most once a minute on average (the others, 18.6 %, are the most popular)."""
POPULAR_INVOCATIONS = 0.996
"""Published: share of all invocations that the 18.6 % most popular applications make."""
EXECUTION_MU, EXECUTION_SIGMA = -0.38, 2.36
"""Published: log-normal fit of the average execution time, of ln seconds."""

LOWEST_RATE = 1 / (14 * 86_400)
"""Chosen: one invocation in the 14 days of the published trace, 8.3e-7 a second."""


def _mean_log_uniform(low: float, high: float) -> float:
    return (high - low) / math.log(high / low)


def _highest_rate() -> float:
    """The rate at which the most popular functions' expected share of invocations is the published one."""
    others = HOURLY_SHARE * _mean_log_uniform(LOWEST_RATE, 1 / 3600)
    others += (MINUTELY_SHARE - HOURLY_SHARE) * _mean_log_uniform(1 / 3600, 1 / 60)
    wanted = others * POPULAR_INVOCATIONS / (1 - POPULAR_INVOCATIONS) / (1 - MINUTELY_SHARE)
    low, high = 1.0, 1_000.0
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _mean_log_uniform(1 / 60, middle) < wanted else (low, middle)
    return high


HIGHEST_RATE = _highest_rate()
"""Follows from the published shares and the log-uniform shape: some 13 a second."""

QUANTILES = (0.0, HOURLY_SHARE, MINUTELY_SHARE, 1.0)
RATES = (LOWEST_RATE, 1 / 3600, 1 / 60, HIGHEST_RATE)
"""The cumulative distribution of the rates is linear in their logarithm between these points."""


def mean_rate() -> float:
    """Expected rate of a function of this population, in invocations a second (some 0.37)."""
    pieces = zip(QUANTILES, QUANTILES[1:], RATES, RATES[1:], strict=False)
    return sum((q1 - q0) * _mean_log_uniform(r0, r1) for q0, q1, r0, r1 in pieces)


def function_rates(count: int, seed: Seed, *, stratified: bool = False) -> NDArray[np.float64]:
    """Mean invocations per second of ``count`` functions, shape (count,), in random order.

    Published (Section 3.3 and Figure 5): 45 % of applications are invoked at most once an hour on average, 81.4 % at
    most once a minute, and the other 18.6 % make 99.6 % of all invocations. The paper says this of applications; 54 %
    of them have one function, and this model takes one function for an application.

    Chosen here: between those points the logarithm of the rate is uniform. The lowest rate is one invocation in the
    14 days of the trace; the highest, some 13 a second, is what makes the expected share of the most popular 99.6 %.
    The real distribution reaches further up with few applications, so this one has a thinner upper tail.

    Parameters
    ----------
    count
        Number of functions, at least 0.
    seed
        Integer or numpy Generator.
    stratified
        Take the quantiles (i + 1/2) / count, shuffled, instead of independent draws. Then 1,000 functions show the
        published shares with almost no noise.

    Raises
    ------
    ValueError
        If ``count`` is negative or no integer, or the seed is none.
    """
    count = check.whole("count", count, 0)
    rng = _check.generator(seed)
    quantiles = rng.permutation((np.arange(count) + 0.5) / max(count, 1)) if stratified else rng.random(count)
    return np.exp(np.interp(quantiles, QUANTILES, np.log(RATES)))


def execution_seconds(count: int, seed: Seed) -> NDArray[np.float64]:
    """Average execution time in seconds of ``count`` functions, shape (count,).

    Published (Section 3.4): the average execution times of the functions fit a log-normal distribution with
    mu = -0.38 and sigma = 2.36 of ln seconds: median 0.68 s, 90 % between 0.014 s and 33 s. It is the distribution of
    averages over functions, not of the single executions of one function. Raises ValueError as
    :func:`beyondlab.sim.service.lognormal`.
    """
    return service.lognormal(EXECUTION_MU, EXECUTION_SIGMA, count, seed)
