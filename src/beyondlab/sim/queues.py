"""Queues by simulation: G/G/c, first come, first served, with any arrivals and service times; and impatient clients.

M/M/c, M/D/c and M/G/1 are the same call with other inputs: Poisson or renewal arrivals from :mod:`.arrivals`, service
times from :mod:`.service`. All times are seconds. What a run must agree with is in :mod:`.closed_form`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beyondlab.kit import check
from beyondlab.sim import _check, _queue_kernels, engines
from beyondlab.sim._check import Seed
from beyondlab.sim.engines import Engine

Array = NDArray[np.float64]
_MOST_PAUSES = 100_000_000


@dataclass(frozen=True, eq=False)
class QueueResult:
    """What happened to each request. Arrays of shape (requests,), in seconds, in the order of the arrivals.

    ``arrival`` and ``service`` are the arrays given, if they were contiguous float64 arrays: do not change those.
    """

    arrival: Array
    start: Array
    """When its service began."""
    service: Array
    servers: int

    @property
    def wait(self) -> Array:
        """From arrival to the beginning of service."""
        return self.start - self.arrival

    @property
    def departure(self) -> Array:
        """When it left."""
        return self.start + self.service

    @property
    def response(self) -> Array:
        """From arrival to departure."""
        return self.departure - self.arrival

    @property
    def observed_seconds(self) -> float:
        """From the first arrival to the last departure; 0 without requests."""
        return float(self.departure.max() - self.arrival[0]) if self.arrival.size else 0.0

    @property
    def utilisation(self) -> float:
        """Share of the observed time that a server was busy, averaged over the servers; NaN if no time was observed."""
        seconds = self.observed_seconds * self.servers
        return float(self.service.sum()) / seconds if seconds else float("nan")

    @property
    def mean_in_system(self) -> float:
        """Requests in the system, waiting or in service, averaged over the observed time; NaN if that is empty.

        Each request counts for its response time, so this is the area under the number in the system, exactly.
        """
        return float(self.response.sum()) / self.observed_seconds if self.observed_seconds else float("nan")

    @property
    def most_waiting(self) -> int:
        """The longest that the queue was, in requests."""
        if not self.arrival.size:
            return 0
        begun = np.searchsorted(self.start, self.arrival, side="right")  # first come, first served: starts are sorted
        return max(0, int((np.arange(1, self.arrival.size + 1) - begun).max()))


def queue(arrivals: ArrayLike, service: ArrayLike, servers: int = 1, *, engine: Engine = "auto") -> QueueResult:
    """Serve requests first come, first served, by ``servers`` equal servers with one queue (G/G/c).

    Parameters
    ----------
    arrivals
        Arrival times, shape (requests,): finite, at least 0, sorted.
    service
        Service time of each request, shape (requests,), or one number for all: finite, at least 0.
    servers
        At least 1.
    engine
        ``"numba"``, ``"python"`` or ``"auto"`` (compiled where numba is installed). Both give the same bits.

    Raises
    ------
    ValueError
        If the input is not as said.

    Notes
    -----
    Each request starts when it has come and a server is free: with one server this is Lindley's recursion (D. V.
    Lindley, "The theory of queues with a single server", 1952), with more the one of J. Kiefer and J. Wolfowitz, "On
    the theory of queues with many servers" (1955), their vector kept as a heap.

    Examples
    --------
    >>> queue([0.0, 1.0, 2.0], 2.0, engine="python").wait
    array([0., 1., 2.])
    """
    times, seconds = inputs(arrivals, service)
    servers = check.whole("servers", servers, 1)
    start = np.empty(times.size)
    used = min(servers, max(1, times.size))  # no request ever needs the others
    engines.chosen(_queue_kernels.first_come, engine)(times, seconds, np.zeros(used), start)
    return QueueResult(times, start, seconds, servers)


@dataclass(frozen=True, eq=False)
class RetryResult:
    """What impatient clients got. Arrays of shape (requests,)."""

    attempts: NDArray[np.int64]
    """How often each request was sent."""
    response: Array
    """Seconds from the arrival to the answer, time-outs and pauses included; NaN for requests given up."""
    work_seconds: float
    """Server-seconds of work done, wanted or not."""
    wanted_seconds: float
    """Server-seconds of work of which a client got the answer."""

    @property
    def succeeded(self) -> NDArray[np.bool_]:
        """Whether an answer came in time."""
        return ~np.isnan(self.response)

    @property
    def success_share(self) -> float:
        """Requests answered over requests; NaN without requests."""
        return float(self.succeeded.mean()) if self.response.size else float("nan")

    @property
    def amplification(self) -> float:
        """Attempts a request; NaN without requests."""
        return float(self.attempts.mean()) if self.attempts.size else float("nan")


@dataclass(frozen=True)
class Backoff:
    """Pauses before retries: ``base`` seconds, doubled each time, at most ``cap``; with ``jitter`` a random share of it.

    That is "full jitter" of M. Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015). Raises
    ValueError if ``base`` or ``cap`` is no finite number of at least 0.
    """

    base: float = 0.1
    cap: float = 10.0
    jitter: bool = True

    def __post_init__(self) -> None:
        check.non_negative("base", self.base)
        check.non_negative("cap", self.cap)

    def pauses(self, requests: int, retries: int, seed: Seed) -> Array:
        """Seconds before each retry, shape (requests, retries)."""
        with np.errstate(over="ignore"):
            longest = np.minimum(self.cap, np.ldexp(self.base, np.arange(retries, dtype=np.int32)))
        share = _check.generator(seed).random((requests, retries)) if self.jitter else np.ones((requests, 1))
        return longest * share


def queue_with_retries(
    arrivals: ArrayLike,
    service: ArrayLike,
    servers: int = 1,
    *,
    timeout: float,
    retries: int = 0,
    backoff: Backoff | None = None,
    cancel: bool = False,
    seed: Seed = 0,
    engine: Engine = "auto",
) -> RetryResult:
    """Serve clients that give an attempt up ``timeout`` seconds after sending it, pause, and send again.

    Parameters
    ----------
    arrivals, service, servers, engine
        As for :func:`queue`. A retry takes as long to serve as the first attempt.
    timeout
        Seconds, greater than 0. An answer that comes exactly then is in time.
    retries
        Most attempts after the first one, at least 0.
        For each, a pause of each request is drawn: at most 1e8 in all.
    backoff
        Pauses before retries; :class:`Backoff` as it is by default.
    cancel
        Whether the server hears of a time-out: it drops the attempt, waiting or in service. Otherwise it serves it to
        the end, for nobody. That is what makes a retry storm.
    seed
        Integer or numpy Generator, for the jitter.

    Raises
    ------
    ValueError
        If the input is not as said.
    """
    times, seconds = inputs(arrivals, service)
    servers = check.whole("servers", servers, 1)
    timeout = check.positive("timeout", timeout)
    retries = check.whole("retries", retries, 0)
    if times.size * retries > _MOST_PAUSES:
        raise ValueError(f"retries={retries!r}: must be at most {_MOST_PAUSES // times.size} for {times.size} requests")
    if not isinstance(backoff, Backoff | None):
        raise ValueError(f"backoff={backoff!r}: must be a Backoff or None")
    pause = (backoff or Backoff()).pauses(times.size, retries, seed)
    attempts, finished = np.zeros(times.size, np.int64), np.full(times.size, np.nan)
    work = engines.chosen(_queue_kernels.with_retries, engine)(
        times, seconds, np.zeros(min(servers, max(1, times.size * (retries + 1)))), timeout, np.ascontiguousarray(pause), bool(cancel), attempts, finished
    )
    answered = ~np.isnan(finished)
    return RetryResult(attempts, finished - times, float(work), float(seconds[answered].sum()))


def inputs(arrivals: ArrayLike, service: ArrayLike) -> tuple[Array, Array]:
    """Both as contiguous float64 arrays of one length. Raises ValueError as :func:`queue`."""
    times = np.ascontiguousarray(_check.vector("arrivals", arrivals))
    _check.seconds("arrivals", times)
    late = np.flatnonzero(np.diff(times) < 0)
    if late.size:
        place = int(late[0]) + 1
        raise ValueError(f"arrivals[{place}]={times[place]}: must be sorted, not before {times[place - 1]}")
    if np.ndim(service) == 0:
        return times, np.full(times.size, check.non_negative("service", service))
    seconds = np.ascontiguousarray(_check.vector("service", service))
    if seconds.size != times.size:
        raise ValueError(f"service: must have one entry for each of the {times.size} arrivals, got {seconds.size}")
    _check.seconds("service", seconds)
    return times, seconds
