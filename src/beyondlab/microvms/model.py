"""MicroVMs at scale: pages that clones do not share, starts that queue, neighbours that flood a disk, and a choice.

Pure functions, seeded. Times in seconds and sizes in bytes unless a name says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beyondlab.kit import check
from beyondlab.kit.tables import Table, quantity, table
from beyondlab.microvms.rate_limiter import RateLimiter, TokenType

STARTS_PER_CORE = 5.0
"""MicroVMs that Firecracker starts a second on one core, steadily (its design document)."""

MONTH_HOURS = 730.0


def distinct_pages(writes: ArrayLike, pages: int) -> NDArray[np.float64] | float:
    """Expected number of different pages that ``writes`` random writes touch, each page as likely as the others.

    A page stays untouched with probability (1 - 1/pages)**writes; the expectations add up. Raises ValueError for no
    page or a negative number of writes.
    """
    pages = check.whole("pages", pages, 1)
    count = np.asarray(writes, dtype=float)
    if not np.all(count >= 0):
        raise ValueError(f"writes={writes!r}: must be 0 or more")
    touched = pages * -np.expm1(count * np.log1p(-1 / pages)) if pages > 1 else np.minimum(count, 1.0)
    return touched if np.ndim(writes) else float(touched)


def distinct_pages_weighted(writes: float, weights: ArrayLike) -> float:
    """The same for pages of different popularity: ``weights`` are their shares of the writes, scaled to a sum of 1.

    Raises ValueError for weights that are negative or all zero.
    """
    shares = np.asarray(weights, dtype=float)
    if shares.size == 0 or not np.all(shares >= 0) or not shares.sum() > 0:
        raise ValueError("weights: must be zero or more, with at least one above")
    if not writes >= 0:
        raise ValueError(f"writes={writes!r}: must be 0 or more")
    shares = shares / shares.sum()
    with np.errstate(divide="ignore"):
        return float(-np.expm1(writes * np.log1p(-shares)).sum())


def simulated_distinct(writes: int, weights: ArrayLike, *, repetitions: int = 200, seed: int) -> float:
    """Mean number of different pages in ``repetitions`` random sequences of writes."""
    shares = np.asarray(weights, dtype=float)
    rng = np.random.default_rng(seed)
    size = check.whole("repetitions", repetitions, 1), check.whole("writes", writes, 0)
    drawn = rng.choice(shares.size, size=size, p=shares / shares.sum())
    return float(np.mean([np.unique(row).size for row in drawn]))


def start_waits(arrivals: ArrayLike, service: ArrayLike, servers: int) -> NDArray[np.float64]:
    """How long each start waits for a core, first come, first served.

    ``arrivals``: sorted seconds. ``service``: core seconds of a start, one value or one each. ``servers``: cores.
    """
    moments = np.asarray(arrivals, dtype=float)
    if moments.ndim != 1 or np.any(np.diff(moments) < 0):
        raise ValueError("arrivals: must be one sorted sequence of seconds")
    lengths = np.broadcast_to(np.asarray(service, dtype=float), moments.shape)
    if not np.all(lengths > 0):
        raise ValueError("service: must be positive seconds")
    free = [0.0] * check.whole("servers", servers, 1)
    heapify(free)
    waits = np.empty(moments.size)
    for number, (now, length) in enumerate(zip(moments.tolist(), lengths.tolist(), strict=True)):
        begin = max(now, free[0])
        heapreplace(free, begin + length)
        waits[number] = begin - now
    return waits


def burst_time(starts: int, cores: int, *, per_core: float = STARTS_PER_CORE) -> float:
    """Seconds until the last of ``starts``, wanted at the same moment, is up: whole rounds of one start a core."""
    rounds = -(-check.whole("starts", starts, 1) // check.whole("cores", cores, 1))
    return rounds / check.positive("per_core", per_core)


def transfer_time(total: float, size: float, refill_ms: float, burst: float = 0.0) -> float:
    """Seconds that a token bucket takes to let ``total`` tokens pass, asked for in small portions.

    The one-time burst and the full bucket pass at once, the rest at the rate of the refill, size / refill_ms.
    """
    check.positive("size", size)
    check.positive("refill_ms", refill_ms)
    return max(0.0, total - size - burst) * refill_ms / size / 1e3


def effective_rate(size: float, refill_ms: float, *, timer_ms: float = 100.0) -> float:
    """Tokens a second that a greedy client really gets when an empty bucket blocks it for ``timer_ms``.

    A bucket that fills within that time stands full for the rest of it.
    """
    return check.positive("size", size) / max(check.positive("refill_ms", refill_ms), timer_ms) * 1e3


@dataclass(frozen=True)
class Neighbours:
    """Two microVMs on one disk: milliseconds of each of the quiet one's reads, and what the loud one got, in bytes/s."""

    latencies_ms: NDArray[np.float64]
    loud_rate: float

    def percentile(self, share: float) -> float:
        """Milliseconds that ``share`` (0 to 100) of the quiet one's reads stay under."""
        return float(np.percentile(self.latencies_ms, share))


def neighbours(
    limit: Mapping[str, Any] | None = None,
    *,
    seconds: float = 30.0,
    seed: int,
    disk_rate: float = 500e6,
    overhead: float = 0.1e-3,
    quiet_rate: float = 100.0,
    quiet_bytes: int = 4096,
    loud_bytes: int = 1 << 20,
    depth: int = 32,
) -> Neighbours:
    """A quiet microVM reads ``quiet_bytes`` at ``quiet_rate`` random moments a second; a loud one keeps ``depth`` reads
    of ``loud_bytes`` waiting all the time, under the rate limiter ``limit`` (as Firecracker's API has it; None: none).

    The disk serves one request after another, ``overhead`` seconds and then ``disk_rate`` bytes a second.
    """
    from beyondlab.sim import poisson

    clock = [0]
    limiter = RateLimiter.from_document(dict(limit) if limit else None, clock=lambda: clock[0])
    quiet = poisson(quiet_rate, horizon=seconds, seed=seed)
    events: list[tuple[float, int, str]] = [(float(t), n, "quiet") for n, t in enumerate(quiet)] + [(0.0, -1, "loud")]
    heapify(events)
    number, free, waiting, sent = quiet.size, 0.0, 0, 0
    armed = False
    latencies: list[float] = []

    def serve(now: float, size: int) -> float:
        nonlocal free
        free = max(now, free) + overhead + size / disk_rate
        return free

    while events and events[0][0] < seconds:
        now, _, kind = heappop(events)
        clock[0] = round(now * 1e9)
        if kind == "quiet":
            latencies.append(1e3 * (serve(now, quiet_bytes) - now))
            continue
        if kind == "done":
            waiting -= 1
            sent += loud_bytes
        if kind == "timer":
            armed = False
            limiter.event()
        while waiting < depth and not armed:
            if limiter.consume(1, TokenType.OPS) and limiter.consume(loud_bytes, TokenType.BYTES):
                waiting, number = waiting + 1, number + 1
                heappush(events, (serve(now, loud_bytes), number, "done"))
            if limiter.blocked:
                armed, number = True, number + 1
                heappush(events, (now + limiter.blocked_for() + 1e-9, number, "timer"))
    return Neighbours(np.array(latencies), sent / seconds)


Threat = Literal["mistakes", "colleagues", "strangers"]
THREATS: dict[str, int] = {"mistakes": 1, "colleagues": 2, "strangers": 3}
"""Whose code it is: your own, with its mistakes; your firm's other teams'; anybody's, perhaps written to break out."""


@dataclass(frozen=True)
class Wall:
    """One kind of isolation. ``start_ms``: of one core. ``memory_kib``: that one more instance costs on top of the
    program. ``call_ns``: on top of a plain system call. ``strength``: the strongest of :data:`THREATS` it is used for
    today. ``native``: runs Linux programs as they are. ``source``: where the figures are from.
    """

    name: str
    start_ms: float
    memory_kib: float
    call_ns: float
    strength: int
    native: bool
    source: str


@dataclass(frozen=True)
class Load:
    """What you want to run. ``calls``: system calls a second of one instance; ``memory_mib``: of the program itself;
    ``wait_ms``: the longest start you accept.
    """

    threat: Threat
    instances: int
    starts_per_second: float
    calls: float
    memory_mib: float
    wait_ms: float = math.inf
    native: bool = True

    def __post_init__(self) -> None:
        check.one_of("threat", self.threat, THREATS)
        check.whole("instances", self.instances, 1)
        for name in ("starts_per_second", "calls", "memory_mib"):
            check.non_negative(name, getattr(self, name))
        if not self.wait_ms > 0:
            raise ValueError(f"wait_ms={self.wait_ms!r}: must be positive")


@dataclass(frozen=True)
class Option:
    """A wall for a load: why not (or None), memory in GiB, cores for starting and for crossing the wall, USD a month."""

    wall: Wall
    against: str | None
    memory_gib: float
    cores: float
    usd: float


def options(load: Load, walls: Sequence[Wall], *, usd_per_gib_hour: float, usd_per_core_hour: float) -> list[Option]:
    """Every wall for a load, in the order given."""
    found = []
    for wall in walls:
        against = None
        if wall.strength < THREATS[load.threat]:
            against = f"not against {load.threat}"
        elif load.native and not wall.native:
            against = "needs programs compiled for it"
        elif wall.start_ms > load.wait_ms:
            against = "starts too slowly"
        memory = load.instances * (load.memory_mib + wall.memory_kib / 1024) / 1024
        cores = load.starts_per_second * wall.start_ms / 1e3 + load.instances * load.calls * wall.call_ns / 1e9
        usd = MONTH_HOURS * (memory * usd_per_gib_hour + cores * usd_per_core_hour)
        found.append(Option(wall, against, memory, cores, usd))
    return found


def decide(load: Load, walls: Sequence[Wall], *, usd_per_gib_hour: float, usd_per_core_hour: float) -> Table:
    """The options as a table; the cheapest that is good enough is marked."""
    found = options(load, walls, usd_per_gib_hour=usd_per_gib_hour, usd_per_core_hour=usd_per_core_hour)
    good = [option for option in found if option.against is None]
    best = min(good, key=lambda option: option.usd, default=None)
    rows = [
        [
            option.wall.name,
            "**cheapest that does**" if option is best else option.against or "does",
            f"{quantity(option.memory_gib)} GiB",
            quantity(option.cores),
            f"{option.usd:,.0f}",
        ]
        for option in found
    ]
    return table(["Wall", "For this load", "Memory", "Cores for the wall", "USD a month"], rows, align="llrrr")


def density(memory_kib: float, total_bytes: float = 8 * 2**30) -> int:
    """Instances that fit into ``total_bytes`` of memory, by what each has to itself."""
    return int(total_bytes // (check.positive("memory_kib", memory_kib) * 1024))
