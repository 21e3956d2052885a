"""Service times (how long a request keeps its environment busy), in seconds, as float64 arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from beyondlab.kit import check
from beyondlab.sim import _check
from beyondlab.sim._check import Seed


def exponential(mean: float, count: int, seed: Seed) -> NDArray[np.float64]:
    """``count`` exponential service times of the given mean, greater than 0, in seconds.

    Raises ValueError if the mean is not finite and positive or the count is negative.
    """
    mean = check.positive("mean", mean)
    count = check.whole("count", count, 0)
    with np.errstate(over="ignore"):
        times = _check.generator(seed).standard_exponential(count) * mean
    return _finite(times, f"mean={mean!r}")


def lognormal(mu: float, sigma: float, count: int, seed: Seed) -> NDArray[np.float64]:
    """``count`` log-normal service times: the natural logarithm of the seconds is Normal(mu, sigma).

    The median is exp(mu), the mean exp(mu + sigma**2 / 2). Raises ValueError if ``mu`` is not finite, ``sigma`` is
    negative or not finite, the count is negative, or the parameters overflow.
    """
    mu = check.finite("mu", mu)
    sigma = check.non_negative("sigma", sigma)
    count = check.whole("count", count, 0)
    with np.errstate(over="ignore"):
        times = _check.generator(seed).lognormal(mu, sigma, count)
    return _finite(times, f"mu={mu!r}, sigma={sigma!r}")


def constant(seconds: float, count: int) -> NDArray[np.float64]:
    """``count`` service times of exactly ``seconds``, at least 0. Raises ValueError otherwise."""
    return np.full(check.whole("count", count, 0), check.non_negative("seconds", seconds))


def _finite(times: NDArray[np.float64], arguments: str) -> NDArray[np.float64]:
    if times.size and not np.isfinite(times.max()):
        raise ValueError(f"{arguments}: must be small enough for finite service times")
    return times
