"""One function of a population from its random streams to its counts, compiled, without holding the interpreter's lock.

Draws and sums are those of :func:`beyondlab.sim.arrivals.poisson_chunks` and :class:`beyondlab.sim.keep_alive.KeepAlive`,
one by one, so the result is theirs, bit for bit.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.random import SeedSequence

from beyondlab.sim import _engine_numba as engine

_CHUNK = 8_192
_FEW = 20_000.0

_feed, _advance, _close = engine._feed_compiled, engine._advance_compiled, engine._close_compiled
_NEAR, _IN_NEAR, _IN_FAR, _IDLE = engine._NEAR, engine._IN_NEAR, engine._IN_FAR, engine._IDLE
_REQUESTS, _COLD, _THROTTLED = engine._REQUESTS, engine._COLD, engine._THROTTLED
_BUSY, _KEPT, _START = engine._BUSY, engine._KEPT, engine._START


@njit(nogil=True)
def _grown(array, needed):
    if needed <= array.size:
        return array
    larger = np.empty(max(needed, 2 * array.size))
    larger[: array.size] = array
    return larger


@njit(nogil=True)
def _reset(now, near, far, idle, counts, sums):
    """Count from ``now`` on."""
    _advance(now, near, far, idle, counts, sums)
    counts[_REQUESTS], counts[_COLD], counts[_THROTTLED] = 0, 0, 0
    sums[_BUSY], sums[_KEPT], sums[_START] = 0.0, 0.0, now


def _simulate(arriving, serving, rate, mean, extra, keep_alive, limit, warm_up, end):
    """Requests, cold starts, throttled, busy and idle seconds from ``warm_up`` to ``end``, for two Generators."""
    expected = rate * end
    size = min(_CHUNK, int(expected + 4 * np.sqrt(expected)) + 4)
    arrivals, warm, cold, outcome = np.empty(size), np.empty(size), np.empty(size), np.empty(size, np.uint8)
    near, far, idle = np.empty(_NEAR), np.empty(0), np.empty(0)
    counts, sums = np.zeros(7, np.int64), np.zeros(4)
    counting = warm_up == 0.0
    following = arriving.standard_exponential() / rate
    while following < end:
        if not counting and following >= warm_up:
            idle = _grown(idle, counts[_IN_NEAR] + counts[_IN_FAR] + counts[_IDLE])
            _reset(warm_up, near, far, idle, counts, sums)
            counting = True
        until = end if counting else min(warm_up, end)
        filled = 0
        while filled < size and following < until:
            arrivals[filled] = following
            warm[filled] = serving.standard_exponential() * mean
            cold[filled] = warm[filled] + extra
            filled += 1
            following += arriving.standard_exponential() / rate
        in_flight = counts[_IN_NEAR] + counts[_IN_FAR]
        far = _grown(far, in_flight + filled)
        idle = _grown(idle, in_flight + filled + counts[_IDLE])
        _feed(
            arrivals[:filled], warm[:filled], cold[:filled], outcome, near, far, idle, counts, sums, keep_alive, limit
        )
    idle = _grown(idle, counts[_IN_NEAR] + counts[_IN_FAR] + counts[_IDLE])
    if not counting:
        _reset(warm_up, near, far, idle, counts, sums)
    _advance(end, near, far, idle, counts, sums)
    _close(end, idle, counts, sums, keep_alive)
    return counts[_REQUESTS], counts[_COLD], counts[_THROTTLED], sums[_BUSY], sums[_KEPT]


def _simulate_drawn(arrivals, draws, mean, extra, keep_alive, limit, warm_up, end):
    """The same for arrival times and service times over their mean that are drawn already: a call without Generators."""
    warm = draws * mean
    cold = warm + extra
    outcome = np.empty(arrivals.size, np.uint8)
    near, far, idle = np.empty(_NEAR), np.empty(arrivals.size), np.empty(arrivals.size)
    counts, sums = np.zeros(7, np.int64), np.zeros(4)
    split = np.searchsorted(arrivals, warm_up)
    _feed(arrivals[:split], warm[:split], cold[:split], outcome, near, far, idle, counts, sums, keep_alive, limit)
    if warm_up > 0.0:
        _reset(warm_up, near, far, idle, counts, sums)
    _feed(arrivals[split:], warm[split:], cold[split:], outcome, near, far, idle, counts, sums, keep_alive, limit)
    _advance(end, near, far, idle, counts, sums)
    _close(end, idle, counts, sums, keep_alive)
    return counts[_REQUESTS], counts[_COLD], counts[_THROTTLED], sums[_BUSY], sums[_KEPT]


def _compiled(function):
    try:
        return njit(cache=True, nogil=True)(function)
    except (RuntimeError, OSError):  # "cannot cache function": no place is writable
        return njit(nogil=True)(function)


_simulate_compiled, _simulate_drawn_compiled = _compiled(_simulate), _compiled(_simulate_drawn)


def simulate(
    kind: type, parts: list[SeedSequence], rate: float, mean: float, extra: float, keep_alive: float, limit: int,
    warm_up: float, end: float,
) -> tuple[int, int, int, float, float]:  # fmt: skip
    """Counts and sums of one function. ``kind``: the bit generator; ``parts``: its seeds for arrivals and for service.

    Handing a Generator to compiled code takes longer than simulating a rare function, whose few draws numpy makes.
    """
    arriving, serving = (np.random.Generator(kind(part)) for part in parts)
    expected = rate * end
    if expected <= _FEW:
        gaps = arriving.standard_exponential(int(expected + 6 * math.sqrt(expected)) + 12)
        times = np.cumsum(gaps / rate)
        if times[-1] >= end:
            times = times[: times.searchsorted(end)]
            draws = serving.standard_exponential(times.size)
            return _simulate_drawn_compiled(times, draws, mean, extra, keep_alive, limit, warm_up, end)
        arriving = np.random.Generator(kind(parts[0]))  # more came than were drawn: once more, without a bound
    return _simulate_compiled(arriving, serving, rate, mean, extra, keep_alive, limit, warm_up, end)
