"""Reference engine of the keep-alive simulator: plain Python, every floating-point operation in a fixed order.

:mod:`beyondlab.sim._engine_numba` does the same operations in the same order, so both give the same bits.
"""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from beyondlab.sim._totals import Totals

Seconds = NDArray[np.float64]


def kept_warm(since: float, until: float, keep_alive: float, start: float) -> float:
    """Idle seconds, counted from ``start``, of an environment idle from ``since`` and not used before ``until``."""
    seconds = until - since
    if seconds > keep_alive:
        seconds = keep_alive
    if since < start:
        seconds -= start - since
        if seconds < 0.0:
            seconds = 0.0
    return seconds


class PythonEngine:
    """State of one run: departures of busy environments in a heap, idle environments in a stack.

    Environments become idle in order of time, so the top of the stack is the most recently used one, and when it has
    expired so have all under it. No expiry event is needed: what has expired is found at the next cold start.
    """

    def __init__(self, keep_alive: float, limit: int) -> None:
        self.keep_alive = keep_alive
        self.limit = limit
        self.departures: list[float] = []
        self.idle: list[float] = []
        self.totals = Totals()
        self.start = 0.0
        self.clock = 0.0

    def advance(self, now: float) -> None:
        """Move the clock to ``now``: environments whose departure is at or before it become idle."""
        departures = self.departures
        while departures and departures[0] <= now:
            departed = departures[0]
            self.totals.busy_seconds += len(departures) * (departed - self.clock)
            self.clock = departed
            self.idle.append(heappop(departures))
        self.totals.busy_seconds += len(departures) * (now - self.clock)
        self.clock = now

    def reset(self, now: float) -> None:
        """Start counting at ``now``: the environments stay, the totals go."""
        self.advance(now)
        self.start = now
        self.totals = Totals(peak_in_flight=len(self.departures))

    def feed(self, arrivals: Seconds, service: Seconds, cold_service: Seconds, outcome: NDArray[np.uint8]) -> None:
        """Serve requests in order of arrival; write 0 warm, 1 cold, 2 throttled to ``outcome``."""
        totals, idle, departures = self.totals, self.idle, self.departures
        columns = zip(arrivals.tolist(), service.tolist(), cold_service.tolist(), strict=True)
        for index, (now, warm_seconds, cold_seconds) in enumerate(columns):
            self.advance(now)
            totals.requests += 1
            if len(departures) >= self.limit:
                totals.throttled += 1
                outcome[index] = 2
                continue
            if idle and now - idle[-1] <= self.keep_alive:
                totals.idle_seconds += now - max(idle.pop(), self.start)
                heappush(departures, now + warm_seconds)
                outcome[index] = 0
            else:
                for since in idle:
                    totals.idle_seconds += kept_warm(since, now, self.keep_alive, self.start)
                idle.clear()
                totals.cold += 1
                heappush(departures, now + cold_seconds)
                outcome[index] = 1
            totals.peak_in_flight = max(totals.peak_in_flight, len(departures))

    def finish(self, horizon: float) -> Totals:
        """Stop at ``horizon``: what is idle then is paid for until it, or until it expired."""
        self.advance(horizon)
        for since in self.idle:
            self.totals.idle_seconds += kept_warm(since, horizon, self.keep_alive, self.start)
        return self.totals
