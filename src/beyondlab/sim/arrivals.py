"""Arrival times of requests, in seconds from 0, as sorted float64 arrays.

The arrays of :func:`poisson` and :func:`renewal` are the concatenation of the chunks that their streaming variants
yield for the same seed, whatever the size of the chunks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from beyondlab.kit import check
from beyondlab.sim import _check
from beyondlab.sim._check import Seed

CHUNK = 65_536
"""Default number of requests in a chunk of the streaming variants."""

MOST_EXPECTED = 1e12
"""Arrivals that a call may expect at most."""
_LEAST_CV, _MOST_CV = 0.01, 20.0

Gaps = Callable[[int], NDArray[np.float64]]
"""Draws inter-arrival times of mean 1."""


def poisson(
    rate: float, *, horizon: float | None = None, count: int | None = None, seed: Seed
) -> NDArray[np.float64]:
    """Arrival times of a Poisson process.

    Parameters
    ----------
    rate
        Mean arrivals per second, greater than 0.
    horizon
        All arrivals in [0, horizon) seconds, or
    count
        the first ``count`` arrivals. Give exactly one of the two.
    seed
        Integer or numpy Generator. With ``horizon``, a Generator is advanced by a few draws more than there are
        arrivals.

    Returns
    -------
    Sorted array of seconds, shape (arrivals,).

    Raises
    ------
    ValueError
        If the rate is not finite and positive, or not exactly one of ``horizon`` and ``count`` is given.
    """
    return _joined(poisson_chunks(rate, horizon=horizon, count=count, seed=seed))


def poisson_chunks(
    rate: float, *, horizon: float | None = None, count: int | None = None, seed: Seed, size: int = CHUNK
) -> Iterator[NDArray[np.float64]]:
    """The arrivals of :func:`poisson`, at most ``size`` at a time: memory does not grow with their number.

    Arguments are checked at the call, not at the first chunk.
    """
    rate = check.positive("rate", rate)
    rng = _check.generator(seed)
    return _chunks(rate, rng.standard_exponential, horizon, count, size)


def renewal(
    rate: float, cv: float, *, horizon: float | None = None, count: int | None = None, seed: Seed
) -> NDArray[np.float64]:
    """Arrival times of a renewal process with gamma-distributed inter-arrival times.

    ``cv`` is the coefficient of variation (standard deviation over mean) of the inter-arrival times: 1 is a Poisson
    process, under 1 more regular, over 1 bursty. The first arrival comes one inter-arrival time after 0 (an ordinary,
    not a stationary renewal process). Other arguments, units and errors as for :func:`poisson`; ``cv`` must lie
    between 0.01 and 20.
    """
    return _joined(renewal_chunks(rate, cv, horizon=horizon, count=count, seed=seed))


def renewal_chunks(
    rate: float, cv: float, *, horizon: float | None = None, count: int | None = None, seed: Seed, size: int = CHUNK
) -> Iterator[NDArray[np.float64]]:
    """The arrivals of :func:`renewal`, at most ``size`` at a time."""
    rate = check.positive("rate", rate)
    if not _LEAST_CV <= check.finite("cv", cv) <= _MOST_CV:
        raise ValueError(f"cv={cv!r}: must be between {_LEAST_CV} and {_MOST_CV}")
    rng = _check.generator(seed)
    shape = 1 / float(cv) ** 2
    return _chunks(rate, lambda n: rng.standard_gamma(shape, n) / shape, horizon, count, size)


def _chunks(
    rate: float, gaps: Gaps, horizon: float | None, count: int | None, size: int
) -> Iterator[NDArray[np.float64]]:
    size = check.whole("size", size, 1)
    if (horizon is None) == (count is None):
        raise ValueError(f"horizon={horizon!r}, count={count!r}: give exactly one of the two")
    if count is not None:
        return _counted(rate, gaps, check.whole("count", count, 0), size)
    until = check.positive("horizon", horizon)
    if rate * until > MOST_EXPECTED:
        raise ValueError(
            f"horizon={horizon!r}: at rate={rate!r} it expects more than the allowed {MOST_EXPECTED:g} arrivals"
        )
    return _within(rate, gaps, until, size)


def _counted(rate: float, gaps: Gaps, count: int, size: int) -> Iterator[NDArray[np.float64]]:
    now = 0.0
    for start in range(0, count, size):
        times = _cumulated(now, gaps(min(size, count - start)), rate)
        now = float(times[-1])
        if not math.isfinite(now):
            raise ValueError(f"rate={rate!r}: must be large enough for finite arrival times")
        yield times


def _within(rate: float, gaps: Gaps, horizon: float, size: int) -> Iterator[NDArray[np.float64]]:
    now = 0.0
    while True:
        expected = rate * (horizon - now)
        times = _cumulated(now, gaps(min(size, math.ceil(expected + 4 * math.sqrt(expected)) + 4)), rate)
        now = float(times[-1])
        if now >= horizon:
            inside = times[: np.searchsorted(times, horizon)]
            if inside.size:
                yield inside
            return
        yield times


def _cumulated(start: float, gaps: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        gaps /= rate
    gaps[0] += start
    return np.cumsum(gaps, out=gaps)


def _joined(chunks: Iterator[NDArray[np.float64]]) -> NDArray[np.float64]:
    parts = list(chunks)
    return np.concatenate(parts) if parts else np.empty(0)
