"""Policies for idle environments of many functions: what is kept, for how long, and what goes when memory is full.

* :class:`FixedKeepAlive`: each is kept for the same time (the policy of :mod:`.keep_alive`);
* :class:`HybridHistogram`: a function's own idle times tell when to unload it, to load it again and to give it up;
* :class:`GreedyDual`: all are kept until memory is needed; the one of least worth goes first;
* :class:`LeastRecentlyUsed`: the same, but the one that has been idle longest goes first.

All run through one event loop. One request an environment at a time; of a function's idle environments the most
recently used one serves next. Times are seconds, memory is in MB.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beyondlab.kit import check
from beyondlab.sim import _check, _policy_kernel, engines
from beyondlab.sim.engines import Engine
from beyondlab.sim.queues import inputs

MINUTE = 60.0
_MOST_MINUTES = 7 * 24 * 60


@dataclass(frozen=True)
class FixedKeepAlive:
    """An idle environment is kept for ``seconds``, greater than 0; a request that comes exactly then finds it warm."""

    seconds: float = 600.0

    def __post_init__(self) -> None:
        check.positive("seconds", self.seconds)


@dataclass(frozen=True)
class HybridHistogram:
    """The policy of M. Shahrad et al., "Serverless in the Wild", USENIX ATC 2020, section 4, without its time series.

    Each function has a histogram of its idle times, from the end of its last request in flight to the next arrival, in
    bins of a minute. When it falls idle, it is unloaded; it is loaded again shortly before the ``head`` percentile of
    its idle times, rounded down to the minute, and given up shortly after the ``tail`` percentile, rounded up. If the
    head is under a minute, it is not unloaded meanwhile.

    Published: the range of 4 hours, head 5 %, tail 99 %. The margin of 10 % is that of the simulator of FaasCache
    (aFuerst/faascache-sim). Chosen here, as not confirmed in a text at hand: a histogram is trusted if the coefficient
    of variation of its counts is at least ``least_cv``, and more idle times lie inside its range than beyond; else an
    environment is kept for ``standard`` seconds. The paper forecasts rare functions by ARIMA; here they get the
    standard. The paper decides for applications; here a function is one.
    """

    range_minutes: int = 240
    head: float = 5.0
    tail: float = 99.0
    margin: float = 0.1
    least_cv: float = 2.0
    standard: float = 240 * MINUTE

    def __post_init__(self) -> None:
        if check.whole("range_minutes", self.range_minutes, 1) > _MOST_MINUTES:
            raise ValueError(f"range_minutes={self.range_minutes!r}: must be at most {_MOST_MINUTES}, a week")
        for name in ("head", "tail"):
            if not 0 < check.finite(name, getattr(self, name)) <= 100:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be a percentile over 0, at most 100")
        if self.head > self.tail:
            raise ValueError(f"head={self.head!r}: must not be over tail={self.tail!r}")
        if not 0 <= check.finite("margin", self.margin) < 1:
            raise ValueError(f"margin={self.margin!r}: must be at least 0 and less than 1")
        check.non_negative("least_cv", self.least_cv)
        check.positive("standard", self.standard)


@dataclass(frozen=True)
class GreedyDual:
    """The policy of A. Fuerst and P. Sharma, "FaasCache", ASPLOS 2021, within ``memory_mb`` for all functions together.

    A function's priority is set at each use: clock + frequency * start-up seconds / memory. The frequency counts the
    uses of its environments that exist. When memory is needed, the idle environment of the least priority goes, of
    those the one idle longest, and the clock is set to its priority. As in the authors' simulator
    (aFuerst/faascache-sim), a request is dropped if memory does not suffice; but there everything idle is evicted
    before that is known, here nothing.
    """

    memory_mb: float

    def __post_init__(self) -> None:
        check.positive("memory_mb", self.memory_mb)


@dataclass(frozen=True)
class LeastRecentlyUsed:
    """Within ``memory_mb`` for all functions together, the environment that has been idle longest goes first.

    Drops as :class:`GreedyDual`.
    """

    memory_mb: float

    def __post_init__(self) -> None:
        check.positive("memory_mb", self.memory_mb)


Policy = FixedKeepAlive | HybridHistogram | GreedyDual | LeastRecentlyUsed


@dataclass(frozen=True, eq=False)
class PolicyResult:
    """What a policy did. Arrays of shape (functions,), but for ``outcome``."""

    outcome: NDArray[np.uint8]
    """For each request, shape (requests,): 0 warm, 1 cold, 2 dropped for want of memory."""
    warm: NDArray[np.int64]
    cold: NDArray[np.int64]
    dropped: NDArray[np.int64]
    prewarmed: NDArray[np.int64]
    """Environments loaded before a request asked for them."""
    evicted: NDArray[np.int64]
    """Idle environments unloaded because memory was needed."""
    idle_mb_seconds: NDArray[np.float64]
    """Memory kept for environments that did nothing, over time: what the policy wastes."""
    busy_mb_seconds: NDArray[np.float64]
    """Memory of environments in use (start-up included), over time."""
    peak_mb: float
    """Most memory held at once."""

    @property
    def cold_share(self) -> float:
        """Cold starts over requests served, over all functions; NaN if none was served."""
        served = int(self.warm.sum() + self.cold.sum())
        return int(self.cold.sum()) / served if served else float("nan")


def simulate_policy(
    arrivals: ArrayLike,
    function: ArrayLike,
    service: ArrayLike,
    policy: Policy,
    *,
    memory_mb: ArrayLike,
    start_up: ArrayLike = 0.0,
    horizon: float | None = None,
    engine: Engine = "auto",
) -> PolicyResult:
    """Run requests of many functions, merged in order of time, under a policy.

    Parameters
    ----------
    arrivals
        Arrival times, shape (requests,): finite, at least 0, sorted.
    function
        Number of the function of each request, shape (requests,): integers from 0, less than the number of functions.
    service
        Service time of each request when warm, shape (requests,), or one number for all: finite, at least 0.
    policy
        One of the four above.
    memory_mb
        Memory of an environment of each function, shape (functions,), finite and greater than 0. Tells how many
        functions there are.
    start_up
        Seconds that a cold start takes on top, shape (functions,), or one number for all: finite, at least 0.
    horizon
        End of the observed time in seconds, not before the last arrival; default: the last arrival.
    engine
        ``"numba"``, ``"python"`` or ``"auto"``. Both give the same bits.

    Raises
    ------
    ValueError
        If an argument is not as said.
    """
    times, seconds = inputs(arrivals, service)
    memory = np.ascontiguousarray(_check.vector("memory_mb", memory_mb))
    if not (memory.size and np.all((memory > 0) & (memory < math.inf))):
        raise ValueError("memory_mb: must have at least one entry, all finite and greater than 0")
    numbers = _numbers(function, times.size, memory.size)
    extra = np.full(memory.size, check.non_negative("start_up", start_up)) if np.ndim(start_up) == 0 else (
        np.ascontiguousarray(_check.vector("start_up", start_up))
    )  # fmt: skip
    if extra.size != memory.size:
        raise ValueError(f"start_up: must have one entry for each of the {memory.size} functions, got {extra.size}")
    _check.seconds("start_up", extra)
    last = float(times[-1]) if times.size else 0.0
    end = last if horizon is None else check.non_negative("horizon", horizon)
    if end < last:
        raise ValueError(f"horizon={horizon!r}: must not be before the last arrival, {last!r}")
    kind, limit, keep_alive, histogram = _parameters(policy)
    outcome = np.empty(times.size, np.uint8)
    counts, sums = np.zeros((5, memory.size), np.int64), np.zeros((2, memory.size))
    kernel = engines.chosen(_policy_kernel.serve, engine)
    peak = kernel(
        times, numbers, seconds, extra, memory, kind, limit, keep_alive, histogram.range_minutes, MINUTE,
        float(histogram.head), float(histogram.tail), float(histogram.margin), float(histogram.least_cv),
        float(histogram.standard), end, outcome, counts, sums,
    )  # fmt: skip
    return PolicyResult(outcome, *counts, *sums, float(peak))


def _parameters(policy: Policy) -> tuple[int, float, float, HybridHistogram]:
    """Number of the policy, limit of memory, keep-alive, and the histogram's parameters; those not its own are idle."""
    unused = HybridHistogram()
    if isinstance(policy, FixedKeepAlive):
        return _policy_kernel.FIXED, math.inf, float(policy.seconds), unused
    if isinstance(policy, HybridHistogram):
        return _policy_kernel.HISTOGRAM, math.inf, 0.0, policy
    if isinstance(policy, GreedyDual):
        return _policy_kernel.GREEDY_DUAL, float(policy.memory_mb), 0.0, unused
    if isinstance(policy, LeastRecentlyUsed):
        return _policy_kernel.LEAST_RECENT, float(policy.memory_mb), 0.0, unused
    raise ValueError(f"policy={policy!r}: must be FixedKeepAlive, HybridHistogram, GreedyDual or LeastRecentlyUsed")


def _numbers(function: ArrayLike, requests: int, functions: int) -> NDArray[np.int64]:
    try:
        numbers = np.asarray(function)
    except ValueError:
        raise ValueError("function: must have one integer for each arrival, got a ragged list") from None
    if numbers.shape != (requests,) or (requests and numbers.dtype.kind not in "iu"):
        raise ValueError(f"function: must have one integer for each of the {requests} arrivals, got shape {numbers.shape}")
    wrong = np.flatnonzero((numbers < 0) | (numbers >= functions))
    if wrong.size:
        raise ValueError(f"function[{wrong[0]}]={numbers[wrong[0]]}: must be from 0 to {functions - 1}")
    return np.ascontiguousarray(numbers, np.int64)
