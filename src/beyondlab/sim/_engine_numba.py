"""Compiled engine of the keep-alive simulator. Same operations, in the same order, as the Python reference.

Busy environments are kept by departure time in a priority queue of two levels: the next departures in a short sorted
array, ``near`` (descending, the next one last), and the others, all of them later, in a 4-ary heap, ``far``. Up to some
30 requests in flight the heap stays empty, and inserting into a short array is faster than sifting, because its only
unpredictable branch is the end of one loop. The helpers are inlined by numba: as calls they halve the speed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import float64, int64, njit, types, uint8, void
from numpy.typing import NDArray

from beyondlab.sim._engine_python import kept_warm as _kept_warm_reference
from beyondlab.sim._totals import Totals

_NEAR = 32
# Places in the array of counts.
_IN_NEAR, _IN_FAR, _IDLE, _REQUESTS, _COLD, _THROTTLED, _PEAK = range(7)
# Places in the array of sums.
_BUSY, _KEPT, _CLOCK, _START = range(4)

_kept_warm = njit(_kept_warm_reference)


@njit(inline="always")
def _push(heap, size, value):
    hole = size
    while hole > 0:
        parent = (hole - 1) >> 2
        if heap[parent] <= value:
            break
        heap[hole] = heap[parent]
        hole = parent
    heap[hole] = value


@njit(inline="always")
def _pop(heap, size):
    """Take the least of ``size`` values. The hole goes down to a leaf, then the last value comes up from there."""
    least = heap[0]
    size -= 1
    value = heap[size]
    hole = 0
    child = 1
    while child + 3 < size:
        left = child + int(heap[child + 1] < heap[child])
        right = child + 2 + int(heap[child + 3] < heap[child + 2])
        if heap[right] < heap[left]:
            left = right
        heap[hole] = heap[left]
        hole = left
        child = 4 * hole + 1
    if child < size:
        best = child
        for other in range(child + 1, size):
            if heap[other] < heap[best]:
                best = other
        heap[hole] = heap[best]
        hole = best
    while hole > 0:
        parent = (hole - 1) >> 2
        if heap[parent] <= value:
            break
        heap[hole] = heap[parent]
        hole = parent
    heap[hole] = value
    return least


@njit(inline="always")
def _insert(near, in_near, far, in_far, departure):
    """Add a departure; return the new sizes of both levels."""
    if in_far > 0 and departure >= near[0]:
        _push(far, in_far, departure)
        return in_near, in_far + 1
    if in_near == _NEAR:
        half = _NEAR // 2
        for place in range(half):
            _push(far, in_far, near[place])
            in_far += 1
        for place in range(_NEAR - half):
            near[place] = near[place + half]
        in_near -= half
        if departure >= near[0]:
            _push(far, in_far, departure)
            return in_near, in_far + 1
    place = in_near
    while place > 0 and near[place - 1] < departure:
        near[place] = near[place - 1]
        place -= 1
    near[place] = departure
    return in_near + 1, in_far


@njit(inline="always")
def _refill(near, far, in_far):
    """Move the next departures from the heap into the empty sorted array; return the new sizes of both levels."""
    moved = min(in_far, _NEAR // 2)
    for place in range(moved - 1, -1, -1):
        near[place] = _pop(far, in_far)
        in_far -= 1
    return moved, in_far


@njit(inline="always")
def _depart(now, near, in_near, far, in_far, idle, idle_count, busy, clock):
    """Make idle what departs at or before ``now``; return the state that changed."""
    in_flight = in_near + in_far
    while True:
        if in_near == 0:
            if in_far == 0:
                break
            in_near, in_far = _refill(near, far, in_far)
        departed = near[in_near - 1]
        if departed > now:
            break
        busy += in_flight * (departed - clock)
        clock = departed
        in_flight -= 1
        in_near -= 1
        idle[idle_count] = departed
        idle_count += 1
    busy += in_flight * (now - clock)
    return in_near, in_far, idle_count, busy


def _feed(arrivals, service, cold_service, outcome, near, far, idle, counts, sums, keep_alive, limit):
    in_near, in_far, idle_count = counts[_IN_NEAR], counts[_IN_FAR], counts[_IDLE]
    cold, throttled, peak = counts[_COLD], counts[_THROTTLED], counts[_PEAK]
    busy, kept, clock, start = sums[_BUSY], sums[_KEPT], sums[_CLOCK], sums[_START]
    for index in range(arrivals.size):
        now = arrivals[index]
        in_near, in_far, idle_count, busy = _depart(
            now, near, in_near, far, in_far, idle, idle_count, busy, clock
        )
        clock = now
        if in_near + in_far >= limit:
            throttled += 1
            outcome[index] = 2
            continue
        if idle_count > 0 and now - idle[idle_count - 1] <= keep_alive:
            idle_count -= 1
            kept += now - max(idle[idle_count], start)
            departure = now + service[index]
            outcome[index] = 0
        else:
            for place in range(idle_count):
                kept += _kept_warm(idle[place], now, keep_alive, start)
            idle_count = 0
            cold += 1
            departure = now + cold_service[index]
            outcome[index] = 1
        in_near, in_far = _insert(near, in_near, far, in_far, departure)
        peak = max(peak, in_near + in_far)
    counts[_IN_NEAR], counts[_IN_FAR], counts[_IDLE] = in_near, in_far, idle_count
    counts[_COLD], counts[_THROTTLED], counts[_PEAK] = cold, throttled, peak
    counts[_REQUESTS] += arrivals.size
    sums[_BUSY], sums[_KEPT], sums[_CLOCK] = busy, kept, clock


def _advance(now, near, far, idle, counts, sums):
    in_near, in_far, idle_count, busy = _depart(
        now, near, counts[_IN_NEAR], far, counts[_IN_FAR], idle, counts[_IDLE], sums[_BUSY], sums[_CLOCK]
    )
    counts[_IN_NEAR], counts[_IN_FAR], counts[_IDLE] = in_near, in_far, idle_count
    sums[_BUSY], sums[_CLOCK] = busy, now


def _close(horizon, idle, counts, sums, keep_alive):
    for place in range(counts[_IDLE]):
        sums[_KEPT] += _kept_warm(idle[place], horizon, keep_alive, sums[_START])


def compiled(signature: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile for one signature, cached on disk where a place for the cache can be written, else in memory only."""
    try:
        return njit(signature, cache=True)(function)
    except (RuntimeError, OSError):  # "cannot cache function": no place is writable
        return njit(signature)(function)


_INPUT = types.Array(float64, 1, "C", readonly=True)  # takes writable arrays as well
_FLOATS, _COUNTS = float64[::1], int64[::1]
_feed_compiled = compiled(
    void(
        _INPUT, _INPUT, _INPUT, uint8[::1], _FLOATS, _FLOATS, _FLOATS, _COUNTS, _FLOATS, float64, int64
    ),
    _feed,
)
_advance_compiled = compiled(void(float64, _FLOATS, _FLOATS, _FLOATS, _COUNTS, _FLOATS), _advance)
_close_compiled = compiled(void(float64, _FLOATS, _COUNTS, _FLOATS, float64), _close)


class NumbaEngine:
    """State of one run, in arrays that grow with the environments there are, not with the requests served."""

    def __init__(self, keep_alive: float, limit: int) -> None:
        self.keep_alive = keep_alive
        self.limit = limit
        self.near = np.empty(_NEAR)
        self.far = np.empty(0)
        self.idle = np.empty(0)
        self.counts = np.zeros(7, np.int64)
        self.sums = np.zeros(4)

    def _reserve(self, arrivals: int) -> None:
        in_flight = int(self.counts[_IN_NEAR] + self.counts[_IN_FAR])
        self.far = _grown(self.far, in_flight + arrivals)
        self.idle = _grown(self.idle, in_flight + arrivals + int(self.counts[_IDLE]))

    def advance(self, now: float) -> None:
        """As :meth:`beyondlab.sim._engine_python.PythonEngine.advance`."""
        self._reserve(0)
        _advance_compiled(now, self.near, self.far, self.idle, self.counts, self.sums)

    def reset(self, now: float) -> None:
        """As :meth:`beyondlab.sim._engine_python.PythonEngine.reset`."""
        self.advance(now)
        self.counts[[_REQUESTS, _COLD, _THROTTLED]] = 0
        self.counts[_PEAK] = self.counts[_IN_NEAR] + self.counts[_IN_FAR]
        self.sums[[_BUSY, _KEPT]] = 0.0
        self.sums[_START] = now

    def feed(
        self,
        arrivals: NDArray[np.float64],
        service: NDArray[np.float64],
        cold_service: NDArray[np.float64],
        outcome: NDArray[np.uint8],
    ) -> None:
        """As :meth:`beyondlab.sim._engine_python.PythonEngine.feed`."""
        self._reserve(arrivals.size)
        _feed_compiled(
            arrivals, service, cold_service, outcome, self.near, self.far, self.idle, self.counts, self.sums,
            self.keep_alive, self.limit,
        )  # fmt: skip

    def finish(self, horizon: float) -> Totals:
        """As :meth:`beyondlab.sim._engine_python.PythonEngine.finish`."""
        self.advance(horizon)
        _close_compiled(horizon, self.idle, self.counts, self.sums, self.keep_alive)
        return Totals(
            requests=int(self.counts[_REQUESTS]),
            cold=int(self.counts[_COLD]),
            throttled=int(self.counts[_THROTTLED]),
            peak_in_flight=int(self.counts[_PEAK]),
            busy_seconds=float(self.sums[_BUSY]),
            idle_seconds=float(self.sums[_KEPT]),
        )


def _grown(array: NDArray[np.float64], needed: int) -> NDArray[np.float64]:
    if needed <= array.size:
        return array
    larger = np.empty(max(needed, 2 * array.size))
    larger[: array.size] = array
    return larger
