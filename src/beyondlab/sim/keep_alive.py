"""Keep-alive of execution environments: how often does a request find a warm one, and what is paid for that?

The policy is the fixed one that function platforms start from:

* one request an environment at a time: a request that finds no idle environment gets a new one, a *cold start*;
* of the idle environments, the most recently used one serves next;
* an idle environment expires ``keep_alive`` seconds after its last request ended; a request that comes exactly then
  still finds it warm;
* a request that ends at the moment another one arrives has freed its environment for it;
* with a ``limit``, a request that arrives while that many are in flight is throttled, that is, dropped.

All times are seconds.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beyondlab.kit import check
from beyondlab.sim import _check
from beyondlab.sim._totals import Totals
from beyondlab.sim.engines import Engine, is_compiled

WARM, COLD, THROTTLED = 0, 1, 2
"""Values in the outcome array."""

_CHUNK = 65_536
NO_LIMIT = sys.maxsize
"""A limit that is none."""


@dataclass(frozen=True)
class KeepAliveResult:
    """What one run of the keep-alive simulator counted from ``warm_up`` to ``horizon``.

    Two results are equal if all counts and areas are; ``outcome`` is not compared.
    """

    requests: int
    """Requests that arrived at or after the warm-up: warm + cold + throttled."""
    cold: int
    """Requests that started a new environment."""
    throttled: int
    """Requests dropped at the limit."""
    busy_seconds: float
    """Environment-seconds spent serving."""
    idle_seconds: float
    """Environment-seconds kept warm, idle and paid for."""
    observed_seconds: float
    """Length of the time counted, horizon - warm_up."""
    peak_in_flight: int
    """Most requests served at once."""
    outcome: NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)
    """If asked for: 0 warm, 1 cold, 2 throttled, for every request given, those before the warm-up included."""

    @property
    def warm(self) -> int:
        """Requests served by an environment that was idle."""
        return self.requests - self.cold - self.throttled

    @property
    def instance_seconds(self) -> float:
        """Environment-seconds in all, busy and idle."""
        return self.busy_seconds + self.idle_seconds

    @property
    def cold_share(self) -> float:
        """Cold starts over requests served (throttled ones are not); NaN if none was."""
        served = self.requests - self.throttled
        return self.cold / served if served else float("nan")

    @property
    def mean_instances(self) -> float:
        """Environments that existed, averaged over the observed time; NaN if that is empty."""
        return self.instance_seconds / self.observed_seconds if self.observed_seconds else float("nan")

    @property
    def utilisation(self) -> float:
        """Busy over all environment-seconds; NaN if there were none."""
        return self.busy_seconds / self.instance_seconds if self.instance_seconds else float("nan")


class _Engine(Protocol):
    def reset(self, now: float) -> None: ...

    def feed(
        self,
        arrivals: NDArray[np.float64],
        service: NDArray[np.float64],
        cold_service: NDArray[np.float64],
        outcome: NDArray[np.uint8],
    ) -> None: ...

    def finish(self, horizon: float) -> Totals: ...


def _engine(name: Engine, keep_alive: float, limit: int) -> _Engine:
    if is_compiled(name):
        from beyondlab.sim._engine_numba import NumbaEngine

        return NumbaEngine(keep_alive, limit)
    from beyondlab.sim._engine_python import PythonEngine

    return PythonEngine(keep_alive, limit)


class KeepAlive:
    """The keep-alive simulator for a stream of requests: feed it in any number of chunks, then finish.

    The result does not depend on how the requests are divided into chunks. Memory grows with the environments that
    exist at once, not with the requests (one byte a request if ``outcomes`` is set).

    Parameters
    ----------
    keep_alive
        Seconds that an idle environment is kept after its last request ended; finite, greater than 0.
    limit
        Most requests in flight at once, at least 1; None for no limit.
    warm_up
        Requests before this second are simulated but not counted, and areas count from it.
    outcomes
        Whether to record what happened to each request.
    engine
        ``"numba"`` (compiled), ``"python"`` (reference) or ``"auto"`` (compiled where numba is installed). Both give
        the same result, bit for bit.

    Raises
    ------
    ValueError
        If an argument is out of range; the message names it, its value and what is allowed.
    """

    def __init__(
        self,
        keep_alive: float,
        *,
        limit: int | None = None,
        warm_up: float = 0.0,
        outcomes: bool = False,
        engine: Engine = "auto",
    ) -> None:
        keep_alive = check.positive("keep_alive", keep_alive)
        most = NO_LIMIT if limit is None else min(check.whole("limit", limit, 1), NO_LIMIT)
        self._warm_up = check.non_negative("warm_up", warm_up)
        self._engine = _engine(engine, keep_alive, most)
        self._outcomes: list[NDArray[np.uint8]] | None = [] if outcomes else None
        self._fed = 0
        self._last = 0.0
        self._counting = self._warm_up == 0
        self._finished = False

    def feed(self, arrivals: ArrayLike, service: ArrayLike, cold_service: ArrayLike | None = None) -> None:
        """Serve the next requests.

        Parameters
        ----------
        arrivals
            Arrival times, shape (n,): finite, sorted, not before 0 nor before the last one fed already.
        service
            Service time of each request, shape (n,), or one number for all: finite, at least 0.
        cold_service
            Service time instead, where the request is a cold start (start-up included); default: ``service``.

        Raises
        ------
        ValueError
            If the input is not as said. Nothing has been served then.
        RuntimeError
            After :meth:`finish`.
        """
        self._refuse_finished()
        times = _check.vector("arrivals", arrivals)
        warm = _Column("service", service, times.size)
        cold = warm if cold_service is None else _Column("cold_service", cold_service, times.size)
        self._check_arrivals(times)
        warm.check()
        if cold is not warm:
            cold.check()
        boundary = 0 if self._counting else int(np.searchsorted(times, self._warm_up))
        self._serve(times, warm, cold, 0, boundary)
        if boundary < times.size:
            self._start_counting()
            self._serve(times, warm, cold, boundary, times.size)
        if times.size:
            self._last = float(times[-1])
            self._fed += times.size

    def finish(self, horizon: float | None = None) -> KeepAliveResult:
        """End the run and return what was counted.

        ``horizon`` is the end of the observed time in seconds, not before the last arrival nor the warm-up; default:
        the last arrival. Raises ValueError if it is before them, RuntimeError if the run has ended already.
        """
        self._refuse_finished()
        end = self._last if horizon is None else check.non_negative("horizon", horizon)
        if end < self._last:
            raise ValueError(f"horizon={horizon!r}: must not be before the last arrival, {self._last!r}")
        if end < self._warm_up:
            default = " (the last arrival)" if horizon is None else ""
            raise ValueError(f"horizon={end!r}{default}: must not be before warm_up={self._warm_up!r}")
        self._start_counting()
        totals = self._engine.finish(end)
        self._finished = True
        outcome = None
        if self._outcomes is not None:
            outcome = np.concatenate(self._outcomes) if self._outcomes else np.empty(0, np.uint8)
            self._outcomes = None
        return KeepAliveResult(
            requests=totals.requests,
            cold=totals.cold,
            throttled=totals.throttled,
            busy_seconds=totals.busy_seconds,
            idle_seconds=totals.idle_seconds,
            observed_seconds=end - self._warm_up,
            peak_in_flight=totals.peak_in_flight,
            outcome=outcome,
        )

    def _refuse_finished(self) -> None:
        if self._finished:
            raise RuntimeError("this run has been finished; start another KeepAlive")

    def _start_counting(self) -> None:
        if not self._counting:
            self._engine.reset(self._warm_up)
            self._counting = True

    def _serve(self, times: NDArray[np.float64], warm: _Column, cold: _Column, begin: int, end: int) -> None:
        recorded = None
        if self._outcomes is not None:
            recorded = np.empty(end - begin, np.uint8)
            self._outcomes.append(recorded)
        scratch = np.empty(min(_CHUNK, end - begin), np.uint8) if recorded is None else recorded
        for start in range(begin, end, _CHUNK):
            stop = min(start + _CHUNK, end)
            served = warm.part(start, stop)
            self._engine.feed(
                np.ascontiguousarray(times[start:stop]),
                served,
                served if cold is warm else cold.part(start, stop),
                scratch[: stop - start] if recorded is None else recorded[start - begin : stop - begin],
            )

    def _check_arrivals(self, times: NDArray[np.float64]) -> None:
        last = self._last
        for start in range(0, times.size, _CHUNK):
            part = times[start : start + _CHUNK]
            _check.seconds("arrivals", part, start)
            if part[0] < last or (part[1:] < part[:-1]).any():
                late = int(np.flatnonzero(np.concatenate(([part[0] < last], part[1:] < part[:-1])))[0])
                before = part[late - 1] if late else last
                raise ValueError(
                    f"arrivals[{start + late}]={part[late]}: must be sorted, not before the one before it, {before}"
                    if self._fed + start + late
                    else f"arrivals[0]={part[0]}: must be at least 0"
                )
            last = part[-1]


class _Column:
    """Service times of the requests of one call: an array, or one number for all of them."""

    def __init__(self, name: str, values: ArrayLike, length: int) -> None:
        self.name = name
        self.array: NDArray[np.float64] | None = None
        if np.ndim(values) == 0:
            self.same = np.full(min(length, _CHUNK), check.non_negative(name, values))
            return
        self.array = _check.vector(name, values)
        if self.array.size != length:
            raise ValueError(f"{name}: must have one entry for each of the {length} arrivals, got {self.array.size}")

    def check(self) -> None:
        if self.array is not None:
            for start in range(0, self.array.size, _CHUNK):
                _check.seconds(self.name, self.array[start : start + _CHUNK], start)

    def part(self, start: int, stop: int) -> NDArray[np.float64]:
        if self.array is None:
            return self.same[: stop - start]
        return np.ascontiguousarray(self.array[start:stop])


def simulate(
    arrivals: ArrayLike,
    service: ArrayLike,
    keep_alive: float,
    *,
    cold_service: ArrayLike | None = None,
    limit: int | None = None,
    horizon: float | None = None,
    warm_up: float = 0.0,
    outcomes: bool = False,
    engine: Engine = "auto",
) -> KeepAliveResult:
    """Simulate the keep-alive policy for requests given as arrays.

    Arguments, units and errors are those of :class:`KeepAlive`, its ``feed`` and its ``finish``; the result is the
    same. Beyond the inputs, memory is a few megabytes and what the environments need; inputs that are no float64 arrays
    are converted.

    Examples
    --------
    >>> result = simulate([0.0, 5.0, 700.0], 1.0, keep_alive=600.0, engine="python")
    >>> result.cold, result.warm, result.idle_seconds
    (2, 1, 604.0)
    """
    run = KeepAlive(keep_alive, limit=limit, warm_up=warm_up, outcomes=outcomes, engine=engine)
    run.feed(arrivals, service, cold_service)
    return run.finish(horizon)
