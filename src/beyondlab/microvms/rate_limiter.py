"""Firecracker's rate limiter: two token buckets, for bytes and for operations.

After src/vmm/src/rate_limiter/mod.rs of firecracker-microvm/firecracker (Apache License 2.0), read at commit
c3f65045: integer nanoseconds, credit that never replenishes, operations larger than the bucket, and one timer. The
clock is an argument, so that a limiter can live in simulated time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

REFILL_TIMER_MS = 100
"""How long a limiter blocks after a request that its bucket could not serve."""

_NS_IN_MS = 1_000_000
_U64 = 2**64 - 1

Clock = Callable[[], int]
"""Gives nanoseconds that never go back."""


class TokenType(Enum):
    """What a token stands for."""

    BYTES = "bandwidth"
    OPS = "ops"


@dataclass(frozen=True)
class Reduction:
    """What taking tokens came to: ``failure``, ``success``, or ``overconsumption`` by ``ratio`` bucket sizes."""

    outcome: str
    ratio: float = 0.0


SUCCESS, FAILURE = Reduction("success"), Reduction("failure")


class SpuriousEvent(RuntimeError):
    """The limiter was told that its timer had fired, and it had not."""


class TokenBucket:
    """A bucket of ``size`` tokens that fills in ``refill_ms`` milliseconds, with ``burst`` tokens on top, once.

    Raises ValueError for a size or a time that is not positive: :func:`bucket` gives None for those, as Firecracker
    does, where a zero switches the limit off.
    """

    def __init__(self, size: int, burst: int, refill_ms: int, clock: Clock = time.monotonic_ns) -> None:
        for name, value, least in (("size", size, 1), ("burst", burst, 0), ("refill_ms", refill_ms, 1)):
            if not (isinstance(value, int) and least <= value <= _U64):
                raise ValueError(f"{name}={value!r}: must be a whole number from {least} to 2**64 - 1")
        refill_ns = refill_ms * _NS_IN_MS
        if refill_ns > _U64:
            raise ValueError(f"refill_ms={refill_ms!r}: must be under 2**64 nanoseconds")
        common = math.gcd(size, refill_ns)
        self.size, self.refill_ms, self.initial_burst = size, refill_ms, burst
        self.burst, self.budget = burst, size
        self.processed_capacity, self.processed_refill_time = size // common, refill_ns // common
        self._clock = clock
        self.last_update = clock()

    def replenish(self) -> None:
        """Add the whole tokens that came since the last time; the rest of the time is kept for the next one."""
        now = self._clock()
        elapsed = now - self.last_update
        if elapsed >= self.refill_ms * _NS_IN_MS:
            self.budget, self.last_update = self.size, now
            return
        tokens = elapsed * self.processed_capacity // self.processed_refill_time
        self.last_update += -(-tokens * self.processed_refill_time // self.processed_capacity)
        self.budget = min(self.budget + tokens, self.size)

    def reduce(self, tokens: int) -> Reduction:
        """Take ``tokens``: from the burst first, then from the bucket, which is filled only when it is short."""
        if self.burst > 0:
            if self.burst >= tokens:
                self.burst -= tokens
                self.last_update = self._clock()
                return SUCCESS
            tokens -= self.burst
            self.burst = 0
        if tokens > self.budget:
            self.replenish()
            if tokens > self.size:
                tokens -= self.budget
                self.budget = 0
                return Reduction("overconsumption", tokens / self.size)
            if tokens > self.budget:
                return FAILURE
        self.budget -= tokens
        return SUCCESS

    def give_back(self, tokens: int) -> None:
        """Return tokens that were taken and not used."""
        if self.burst > 0:
            self.burst = min(self.burst + tokens, self.initial_burst)
        else:
            self.budget = min(self.budget + tokens, self.size)


def bucket(size: int, burst: int, refill_ms: int, clock: Clock = time.monotonic_ns) -> TokenBucket | None:
    """A bucket, or None where a size or a time of zero, or a time past 2**64 ns, switches the limit off."""
    if size == 0 or refill_ms == 0 or refill_ms * _NS_IN_MS > _U64:
        return None
    return TokenBucket(size, burst, refill_ms, clock)


class RateLimiter:
    """Limits bytes and operations together. Without buckets it limits nothing.

    A refused request starts a timer; until it has fired and :meth:`event` was called, nothing is granted.
    """

    def __init__(
        self, bandwidth: TokenBucket | None = None, ops: TokenBucket | None = None, clock: Clock = time.monotonic_ns
    ) -> None:
        self.buckets = {TokenType.BYTES: bandwidth, TokenType.OPS: ops}
        self._clock = clock
        self._fires: int | None = None

    @classmethod
    def from_document(cls, document: dict[str, dict[str, int]] | None, clock: Clock = time.monotonic_ns) -> RateLimiter:
        """The limiter that a ``rate_limiter`` of Firecracker's API describes."""
        made = cls(clock=clock)
        made.update(document or {})
        return made

    def update(self, document: dict[str, dict[str, int]]) -> None:
        """Replace the buckets that ``document`` names, as Firecracker's update_buckets: a new one is full, one of size
        or time zero is gone, and one that is not named stays as it is."""
        for kind in TokenType:
            if found := document.get(kind.value):
                self.buckets[kind] = bucket(found["size"], found.get("one_time_burst", 0), found["refill_time"], self._clock)

    def consume(self, tokens: int, kind: TokenType) -> bool:
        """Whether ``tokens`` were granted."""
        if self._fires is not None:
            return False
        found = self.buckets[kind]
        if found is None:
            return True
        reduction = found.reduce(tokens)
        if reduction.outcome == "failure":
            self._fires = self._clock() + REFILL_TIMER_MS * _NS_IN_MS
            return False
        if reduction.outcome == "overconsumption":
            self._fires = self._clock() + int(reduction.ratio * found.refill_ms) * _NS_IN_MS
        return True

    def give_back(self, tokens: int, kind: TokenType) -> None:
        """Return tokens that were taken and not used."""
        found = self.buckets[kind]
        if found is not None:
            found.give_back(tokens)

    @property
    def blocked(self) -> bool:
        """Whether the timer is set."""
        return self._fires is not None

    def blocked_for(self) -> float:
        """Seconds until the timer fires; 0 where it has, or is not set."""
        return 0.0 if self._fires is None else max(0.0, (self._fires - self._clock()) / 1e9)

    def event(self) -> None:
        """The timer has fired: grant again. Raises :class:`SpuriousEvent` if it has not."""
        if self._fires is None or self._clock() < self._fires:
            raise SpuriousEvent("Rate limiter event handler called without a present timer")
        self._fires = None
