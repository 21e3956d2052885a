"""Many functions at once, one after the other: what a day of a whole population costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beyondlab.sim import _check
from beyondlab.sim._check import Seed
from beyondlab.sim.arrivals import poisson_chunks
from beyondlab.sim.keep_alive import Engine, KeepAlive, KeepAliveResult

DAY = 86_400.0
"""Seconds of a day."""

_RAMP = 10.0


@dataclass(frozen=True, eq=False)
class PopulationResult:
    """What each function did while it was observed. All arrays have shape (functions,)."""

    requests: NDArray[np.int64]
    cold: NDArray[np.int64]
    throttled: NDArray[np.int64]
    busy_seconds: NDArray[np.float64]
    """Environment-seconds spent serving."""
    idle_seconds: NDArray[np.float64]
    """Environment-seconds kept warm."""
    observed_seconds: float
    """Length of the time counted, the same for every function."""

    @property
    def cold_share(self) -> float:
        """Cold starts over requests served, over all functions; NaN if none was served."""
        served = int(self.requests.sum() - self.throttled.sum())
        return int(self.cold.sum()) / served if served else float("nan")

    @property
    def function_cold_share(self) -> NDArray[np.float64]:
        """Cold starts over requests served, for each function; NaN where none was served."""
        served = self.requests - self.throttled
        return np.divide(self.cold, served, out=np.full(served.size, np.nan), where=served > 0)


def simulate_day(
    rates: ArrayLike,
    mean_service: ArrayLike,
    keep_alive: float,
    *,
    seed: Seed,
    start_up: ArrayLike = 0.0,
    horizon: float = DAY,
    warm_up: float | None = None,
    limit: int | None = None,
    engine: Engine = "auto",
) -> PopulationResult:
    """Simulate every function of a population for a day under the keep-alive policy.

    Arrivals are Poisson, service times exponential. Each function has its own two random streams, spawned from the
    seed by its place in ``rates``: its result does not depend on the other functions. Functions are simulated one
    after the other and their requests in chunks, so memory does not grow with the number of requests.

    Parameters
    ----------
    rates
        Mean invocations per second of each function, shape (functions,), finite and greater than 0.
    mean_service
        Mean service time in seconds, one number or shape (functions,), finite and greater than 0.
    keep_alive
        Seconds that an idle environment is kept.
    seed
        Integer or numpy Generator.
    start_up
        Seconds added to the service time of a cold start, one number or shape (functions,), at least 0.
    horizon
        Seconds observed.
    warm_up
        Seconds simulated before that, from an empty system, and not counted. Default: ``keep_alive`` and ten times
        the mean service time (start-up included), for each function. That is steady state: which environments exist
        depends on the requests in flight during the last ``keep_alive`` seconds only.
    limit
        Most requests of one function in flight at once; None for no limit.
    engine
        As for :func:`beyondlab.sim.keep_alive.simulate`.

    Raises
    ------
    ValueError
        If an argument is out of range; the message names it, its value and what is allowed.
    """
    rate = _per_function("rates", rates, None)
    means = _per_function("mean_service", mean_service, rate.size)
    extra = _per_function("start_up", start_up, rate.size, least_is_zero=True)
    keep_alive = _check.positive("keep_alive", keep_alive)
    horizon = _check.positive("horizon", horizon)
    root = _check.generator(seed)
    ramp = None if warm_up is None else _check.non_negative("warm_up", warm_up)
    results = []
    for index in range(rate.size):
        before = keep_alive + _RAMP * (means[index] + extra[index]) if ramp is None else ramp
        run = KeepAlive(keep_alive, limit=limit, warm_up=before, engine=engine)
        (stream,) = root.spawn(1)
        results.append(_run(run, stream, rate[index], means[index], extra[index], before + horizon))
    return PopulationResult(
        requests=np.array([result.requests for result in results], np.int64),
        cold=np.array([result.cold for result in results], np.int64),
        throttled=np.array([result.throttled for result in results], np.int64),
        busy_seconds=np.array([result.busy_seconds for result in results], np.float64),
        idle_seconds=np.array([result.idle_seconds for result in results], np.float64),
        observed_seconds=horizon,
    )


def _run(
    run: KeepAlive, stream: np.random.Generator, rate: float, mean: float, extra: float, end: float
) -> KeepAliveResult:
    arriving, serving = stream.spawn(2)
    for arrivals in poisson_chunks(rate, horizon=end, seed=arriving):
        warm = serving.standard_exponential(arrivals.size) * mean
        run.feed(arrivals, warm, warm + extra if extra else None)
    return run.finish(end)


def _per_function(
    name: str, values: ArrayLike, length: int | None, *, least_is_zero: bool = False
) -> NDArray[np.float64]:
    if np.ndim(values) == 0 and length is not None:
        check = _check.non_negative if least_is_zero else _check.positive
        return np.full(length, check(name, values))
    array = _check.vector(name, values)
    if length is not None and array.size != length:
        raise ValueError(
            f"{name}: must be one number or have one entry for each of the {length} rates, got {array.size}"
        )
    wrong = ~(np.isfinite(array) & ((array >= 0) if least_is_zero else (array > 0)))
    if wrong.any():
        index = int(np.flatnonzero(wrong)[0])
        allowed = "finite, at least 0" if least_is_zero else "finite and greater than 0"
        raise ValueError(f"{name}[{index}] = {array[index]}: must be {allowed}")
    return array.astype(np.float64)
