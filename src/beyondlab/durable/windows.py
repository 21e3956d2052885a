"""Windows over a stream, by event time: tumbling, sliding and session windows, watermarks and late data.

The semantics are those of Apache Flink's ``WindowOperator`` with its event-time trigger: a window [start, end) fires
when the watermark reaches ``end - 1``; an event is late for it when the watermark has reached ``end - 1`` plus the allowed
lateness; session windows that overlap or touch are merged. The assigners are held to Flink's own tests
(``flink-streaming-java/src/test/java/org/apache/flink/streaming/runtime/operators/windowing``).

All times are whole milliseconds. The state is plain data (:meth:`Windows.state`), so that a checkpoint can hold it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from beyondlab.kit import check

Window = tuple[int, int]
"""Start and end in milliseconds; the end is not part of it."""

END_OF_STREAM = 1 << 62
"""The watermark after the last event."""


class Assigner(Protocol):
    """What puts an event into windows."""

    merging: bool

    def assign(self, time: int) -> list[Window]: ...


@dataclass(frozen=True)
class Tumbling:
    """Windows of ``size`` side by side, shifted by ``offset``. Raises ValueError unless abs(offset) < size."""

    size: int
    offset: int = 0
    merging = False

    def __post_init__(self) -> None:
        if not abs(self.offset) < self.size:
            raise ValueError(f"size={self.size!r}, offset={self.offset!r}: must satisfy abs(offset) < size")

    def assign(self, time: int) -> list[Window]:
        start = time - (time - self.offset) % self.size
        return [(start, start + self.size)]


@dataclass(frozen=True)
class Sliding:
    """Windows of ``size``, a new one every ``slide``. Raises ValueError unless abs(offset) < slide and size > 0."""

    size: int
    slide: int
    offset: int = 0
    merging = False

    def __post_init__(self) -> None:
        if not (abs(self.offset) < self.slide and self.size > 0):
            raise ValueError(
                f"size={self.size!r}, slide={self.slide!r}, offset={self.offset!r}: must satisfy abs(offset) < slide and size > 0"
            )

    def assign(self, time: int) -> list[Window]:
        last = time - (time - self.offset) % self.slide
        return [(start, start + self.size) for start in range(last, time - self.size, -self.slide)]


@dataclass(frozen=True)
class Session:
    """Windows that end when nothing came for ``gap``. Raises ValueError unless gap > 0."""

    gap: int
    merging = True

    def __post_init__(self) -> None:
        check.positive("gap", self.gap)

    def assign(self, time: int) -> list[Window]:
        return [(time, time + self.gap)]


def merge(windows: Iterable[Window]) -> list[Window]:
    """The windows with those that overlap or touch made one, in order."""
    merged: list[Window] = []
    for start, end in sorted(windows):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


@dataclass
class Aggregate:
    """What a window remembers of its events."""

    count: int = 0
    total: float = 0.0
    low: float = float("inf")
    high: float = float("-inf")
    firings: int = 0

    def add(self, value: float) -> None:
        self.count, self.total = self.count + 1, self.total + value
        self.low, self.high = min(self.low, value), max(self.high, value)

    def include(self, other: Aggregate) -> None:
        self.count, self.total = self.count + other.count, self.total + other.total
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.firings = max(self.firings, other.firings)


@dataclass(frozen=True)
class Fired:
    """The result of one window. ``firing`` is 1 for the first, more for a correction by late data."""

    key: str
    start: int
    end: int
    count: int
    mean: float
    low: float
    high: float
    firing: int = 1

    @property
    def name(self) -> str:
        """The same for the same result, whoever computes it: an idempotency key."""
        return f"{self.key}/{self.start}-{self.end}/{self.firing}"


@dataclass
class Windows:
    """One operator: events in, results of windows out.

    ``delay``: how far event time may lag behind the newest event seen, in ms: the watermark is that much (and 1 ms) behind.
    ``lateness``: how much longer a window stays, to be corrected. ``late`` counts events that came after that and
    were dropped.
    """

    assigner: Assigner
    delay: int
    lateness: int = 0
    newest: int | None = None
    watermark: int = -END_OF_STREAM
    late: int = 0
    open: dict[str, dict[Window, Aggregate]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("delay", "lateness"):
            check.non_negative(name, getattr(self, name), "milliseconds")

    def add(self, key: str, time: int, value: float) -> list[Fired]:
        """Take one event, and advance the watermark; the windows that fire."""
        fired: list[Fired] = []
        held = self.open.setdefault(key, {})
        dropped = True
        for window in self.assigner.assign(time):
            target = self._merged(held, window) if self.assigner.merging else window
            if target[1] - 1 + self.lateness <= self.watermark:
                continue
            dropped = False
            if self.assigner.merging:
                self._swallow(held, target)
            aggregate = held.setdefault(target, Aggregate())
            aggregate.add(value)
            if target[1] - 1 <= self.watermark:
                fired.append(_fire(key, target, aggregate))
        if not held:
            del self.open[key]
        self.late += dropped
        self.newest = time if self.newest is None else max(self.newest, time)
        return fired + self.advance(self.newest - self.delay - 1)

    def advance(self, watermark: int) -> list[Fired]:
        """Say that no event before ``watermark`` is expected any more; the windows that fire. It never goes back."""
        if watermark <= self.watermark:
            return []
        before, self.watermark = self.watermark, watermark
        fired = []
        for key in list(self.open):
            held = self.open[key]
            for window in sorted(held):
                if before < window[1] - 1 <= watermark:
                    fired.append(_fire(key, window, held[window]))
                if window[1] - 1 + self.lateness <= watermark:
                    del held[window]
            if not held:
                del self.open[key]
        return sorted(fired, key=lambda result: (result.end, result.key))

    def close(self) -> list[Fired]:
        """The end of the stream: all windows that are still open fire."""
        return self.advance(END_OF_STREAM)

    def state(self) -> dict[str, Any]:
        """All that a restarted operator needs, as JSON can hold it."""
        windows = [[key, *window, asdict(held)] for key, open_ in self.open.items() for window, held in open_.items()]
        return {"newest": self.newest, "watermark": self.watermark, "late": self.late, "open": windows}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` gave."""
        self.newest, self.watermark, self.late = state["newest"], state["watermark"], state["late"]
        self.open = {}
        for key, start, end, held in state["open"]:
            self.open.setdefault(key, {})[start, end] = Aggregate(**held)

    @staticmethod
    def _merged(held: dict[Window, Aggregate], window: Window) -> Window:
        return next(found for found in merge([*held, window]) if found[0] <= window[0] and window[1] <= found[1])

    @staticmethod
    def _swallow(held: dict[Window, Aggregate], target: Window) -> None:
        """Make one of all windows inside ``target``."""
        inside = [window for window in held if target[0] <= window[0] and window[1] <= target[1]]
        if inside and inside != [target]:
            merged = Aggregate()
            for window in inside:
                merged.include(held.pop(window))
            held[target] = merged


def _fire(key: str, window: Window, held: Aggregate) -> Fired:
    held.firings += 1
    mean = round(held.total / held.count, 6)
    return Fired(key, *window, held.count, mean, held.low, held.high, held.firings)
