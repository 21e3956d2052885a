"""What the autoscaler does with the metrics it is sent: averages over a window, plain and weighted, and a running maximum.

The rules are those of Knative Serving, ``pkg/autoscaler/aggregation/bucketing.go`` and ``aggregation/max``; the tests
hold them to Knative's own tables. Times are seconds on any clock that does not go back far.
"""

from __future__ import annotations

import math
from collections import deque

from beyondlab.kit import check

SMALLEST_WEIGHT = 0.2
"""Least weight of the newest bucket in a weighted average, so that a long window does not become a plain average."""
PRECISION = 0.9999
"""What the weights of a whole window must sum to at least."""


def smoothing(buckets: int) -> float:
    """Weight of the newest of ``buckets`` in the exponentially weighted average.

    Raises ValueError if ``buckets`` is under 1.
    """
    check.whole("buckets", buckets, 1)
    return max(1 - (1 - PRECISION) ** (1 / buckets), SMALLEST_WEIGHT)


def round_down(value: float, digits: int = 6) -> float:
    """``value`` cut off after ``digits`` decimals, towards minus infinity."""
    return math.floor(value * 10**digits) / 10**digits


class WindowAverage:
    """Buckets of ``granularity`` seconds over a ``window``; what is recorded in one bucket is summed.

    ``clock zero`` does not matter. Raises ValueError if ``granularity`` is not positive or longer than ``window``.
    """

    def __init__(self, window: float, granularity: float = 1.0) -> None:
        if not 0 < granularity <= window < math.inf:
            raise ValueError(f"granularity={granularity!r}: must be positive and no longer than window={window!r} seconds")
        self.granularity = granularity
        self._resize(window)
        self._sums: dict[int, float] = {}
        self._first: int | None = None
        self._last: int | None = None

    def _resize(self, window: float) -> None:
        self.window = window
        self.buckets = math.ceil(window / self.granularity - 1e-9)
        """Number of buckets in the window."""

    def _place(self, now: float) -> int:
        return math.floor(now / self.granularity + 1e-9)

    @property
    def _span(self) -> float:
        """The window in buckets, not rounded."""
        return self.window / self.granularity

    def record(self, now: float, value: float) -> None:
        """Add ``value`` to the bucket of ``now``. What is older than the window is ignored; a gap counts as zeros.

        After a window without data the average starts afresh: only what came since then counts.
        """
        place = self._place(now)
        if self._last is not None and place != self._last:
            if place + self._span <= self._last:
                return
            if place > self._last and place - self._last >= self._span:
                self._sums.clear()
                self._first = place
        self._first = place if self._first is None else min(self._first, place)
        self._last = place if self._last is None else max(self._last, place)
        self._sums[place] = self._sums.get(place, 0.0) + value
        for old in [old for old in self._sums if old <= self._last - self.buckets]:
            del self._sums[old]

    def empty(self, now: float) -> bool:
        """Whether nothing was recorded for longer than the window."""
        return self._last is None or self._place(now) - self._last > self._span

    def values(self, now: float) -> dict[int, float]:
        """Number of a bucket -> its sum, for the buckets inside the window that ends ``now``."""
        edge = max(self._place(now), self._last or 0) - self.buckets
        return {place: value for place, value in sorted(self._sums.items()) if place > edge}

    def average(self, now: float) -> float:
        """Mean of the buckets; 0 if the window is empty.

        Only buckets since the first record count, and none after the last: 6 s of data in a 60 s window are averaged
        over 6 s.
        """
        if self._last is None:
            return 0.0
        late = max(0, self._place(now) - self._last)
        if late >= self._span:
            return 0.0
        count = min(self._last - self._first + 1, self.buckets - late)
        return round_down(sum(self.values(now).values()) / count)

    def resize(self, window: float, now: float) -> None:
        """Change the window; what fits into it stays. Without data since a window it is as new."""
        if window == self.window:
            return
        if not self.granularity <= window < math.inf:
            raise ValueError(f"window={window!r}: must be at least granularity={self.granularity!r} seconds")
        if self._last is None or self._place(now) - self._last > self._span:
            self._sums.clear()
            self._first = self._last = None
        else:
            self._first = self._last - self.buckets + 1
        self._resize(window)
        if self._last is not None:
            self._sums = {place: value for place, value in self._sums.items() if place > self._last - self.buckets}


class WeightedAverage(WindowAverage):
    """The same buckets, averaged with weights that fall by the factor ``1 - smoothing`` from one to the next older."""

    def average(self, now: float) -> float:
        """Exponentially weighted mean of the buckets; 0 if the window is empty."""
        if self.empty(now):
            return 0.0
        weight = smoothing(self.buckets)
        newest = max(self._place(now), self._last)
        return sum(value * weight * (1 - weight) ** (newest - place) for place, value in self.values(now).items())


class MaxWindow:
    """The largest of the values recorded in the last ``length`` indices, in constant time on average."""

    def __init__(self, length: int) -> None:
        check.whole("length", length, 1)
        self.length = length
        self._falling: deque[tuple[int, float]] = deque()

    def record(self, index: int, value: float) -> None:
        """Record ``value`` at ``index``; indices must not fall."""
        while self._falling and self._falling[-1][1] <= value:
            self._falling.pop()
        self._falling.append((index, value))
        while self._falling[0][0] <= index - self.length:
            self._falling.popleft()

    def current(self) -> float:
        """The maximum as of the last record. Raises ValueError before the first."""
        if not self._falling:
            raise ValueError("nothing was recorded yet")
        return self._falling[0][1]


class MaxTimeWindow:
    """:class:`MaxWindow` over ``duration`` seconds in steps of ``granularity`` seconds."""

    def __init__(self, duration: float, granularity: float = 1.0) -> None:
        if not 0 < granularity <= duration < math.inf:
            raise ValueError(f"granularity={granularity!r}: must be positive, at most duration={duration!r} seconds")
        self.granularity = granularity
        self._window = MaxWindow(math.ceil(duration / granularity - 1e-9))

    def record(self, now: float, value: float) -> None:
        self._window.record(math.floor(now / self.granularity + 1e-9), value)

    def current(self) -> float:
        return self._window.current()
