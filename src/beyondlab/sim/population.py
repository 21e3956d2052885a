"""Many functions at once: what a day of a whole population costs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, SeedSequence
from numpy.typing import ArrayLike, NDArray

from beyondlab.kit import check
from beyondlab.sim import _check
from beyondlab.sim._check import Seed
from beyondlab.sim.arrivals import MOST_EXPECTED, poisson_chunks
from beyondlab.sim.engines import Engine, is_compiled
from beyondlab.sim.keep_alive import NO_LIMIT, KeepAlive

DAY = 86_400.0
"""Seconds of a day."""

_RAMP = 10.0
_BUSY, _BLOCK = 100, 100


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
    workers: int | None = None,
) -> PopulationResult:
    """Simulate every function of a population for a day under the keep-alive policy.

    Arrivals are Poisson, service times exponential. Each function has its own two random streams, spawned from the
    seed by its place in ``rates``: its result does not depend on the other functions. Requests are made and served in
    chunks, so memory does not grow with their number.

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
    workers
        Threads, at least 1; the compiled engine runs them at once. Default: one for each core that this process may
        use. The result is the same for any number.

    Raises
    ------
    ValueError
        If an argument is out of range; the message names it, its value and what is allowed.
    """
    rate = _per_function("rates", rates, None)
    means = _per_function("mean_service", mean_service, rate.size)
    extra = _per_function("start_up", start_up, rate.size, least_is_zero=True)
    keep_alive = check.positive("keep_alive", keep_alive)
    horizon = check.positive("horizon", horizon)
    root = _check.generator(seed)
    workers = _cores() if workers is None else check.whole("workers", workers, 1)
    limit = None if limit is None else check.whole("limit", limit, 1)
    if warm_up is None:
        before = keep_alive + _RAMP * (means + extra)
    else:
        before = np.full(rate.size, check.non_negative("warm_up", warm_up))
    too_many = np.flatnonzero(rate * (before + horizon) > MOST_EXPECTED)
    if too_many.size:
        raise ValueError(
            f"rates[{too_many[0]}]={rate[too_many[0]]}: expects more than the allowed {MOST_EXPECTED:g} arrivals"
        )
    run = _runner(engine, keep_alive, limit)
    counted, seconds = np.empty((3, rate.size), np.int64), np.empty((2, rate.size))

    kind = type(root.bit_generator)

    def serve(index: int, stream: SeedSequence) -> None:
        start = before[index]
        totals = run(kind, stream.spawn(2), rate[index], means[index], extra[index], start, start + horizon)
        counted[:, index], seconds[:, index] = totals[:3], totals[3:]

    streams = root.bit_generator.seed_seq.spawn(rate.size)
    if workers == 1 or rate.size < 2:
        for index, stream in enumerate(streams):
            serve(index, stream)
    else:
        _share_out(serve, streams, rate, workers)
    return PopulationResult(*counted, *seconds, observed_seconds=horizon)


Run = Callable[..., tuple[int, int, int, float, float]]


def _runner(engine: Engine, keep_alive: float, limit: int | None) -> Run:
    """What simulates one function: requests, cold starts, throttled, busy and idle seconds."""
    if is_compiled(engine):
        from beyondlab.sim._population_kernel import simulate

        most = NO_LIMIT if limit is None else min(limit, NO_LIMIT)
        return lambda kind, parts, rate, mean, extra, start, end: simulate(
            kind, parts, rate, mean, extra, keep_alive, most, start, end
        )
    return lambda kind, parts, rate, mean, extra, start, end: _in_chunks(
        KeepAlive(keep_alive, limit=limit, warm_up=start, engine="python"),
        *(Generator(kind(part)) for part in parts), rate, mean, extra, end,
    )  # fmt: skip


def _in_chunks(
    run: KeepAlive, arriving: Generator, serving: Generator, rate: float, mean: float, extra: float, end: float
) -> tuple[int, int, int, float, float]:
    """The reference: chunks of arrivals, fed to the simulator."""
    for arrivals in poisson_chunks(rate, horizon=end, seed=arriving):
        warm = serving.standard_exponential(arrivals.size) * mean
        run.feed(arrivals, warm, warm + extra if extra else None)
    result = run.finish(end)
    return result.requests, result.cold, result.throttled, result.busy_seconds, result.idle_seconds


def _share_out(
    serve: Callable[[int, SeedSequence], None], streams: list[SeedSequence], rate: NDArray[np.float64], workers: int
) -> None:
    """Run all functions in threads: each busy one for itself, the others in blocks."""
    order = np.argsort(rate)[::-1]
    busy = min(_BUSY, order.size)
    blocks = [order[place : place + 1] for place in range(busy)]
    blocks += [order[place : place + _BLOCK] for place in range(busy, order.size, _BLOCK)]

    def serve_block(block: NDArray[np.int64]) -> None:
        for index in block.tolist():
            serve(index, streams[index])

    with ThreadPoolExecutor(workers) as threads:
        deque(threads.map(serve_block, blocks), maxlen=0)


def _cores() -> int:
    from beyondlab.kit.machine import look

    return max(1, int(look().cores))


def _per_function(
    name: str, values: ArrayLike, length: int | None, *, least_is_zero: bool = False
) -> NDArray[np.float64]:
    if np.ndim(values) == 0 and length is not None:
        checked = check.non_negative if least_is_zero else check.positive
        return np.full(length, checked(name, values))
    array = _check.vector(name, values)
    if length is not None and array.size != length:
        raise ValueError(
            f"{name}: must be one number or have one entry for each of the {length} rates, got {array.size}"
        )
    wrong = ~(np.isfinite(array) & ((array >= 0) if least_is_zero else (array > 0)))
    if wrong.any():
        index = int(np.flatnonzero(wrong)[0])
        allowed = "finite, at least 0" if least_is_zero else "finite and greater than 0"
        raise ValueError(f"{name}[{index}]={array[index]}: must be {allowed}")
    return array.astype(np.float64)
