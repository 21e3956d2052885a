"""Backpressure, order and scaling on events, by simulation and in closed form. Times in seconds, money in USD.

What queues alone can say is in ``beyondlab.sim``; here is what events add: capacity, keys, batches, polling, and an
autoscaler in the loop.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beyondlab import sim
from beyondlab.events.keda import Rule, Scaler
from beyondlab.events.log import partition_of
from beyondlab.events.queueing import Delivery, EventQueue
from beyondlab.kit.check import all_positive, non_negative, positive, whole
from beyondlab.kit.prices import price
from beyondlab.kit.tables import Table, percent, quantity, table

Array = NDArray[np.float64]

MONTH = 30 * 86_400.0
"""Seconds in the month of the bills."""


def surge(base: float, peak: float, begin: float, end: float, horizon: float, seed: int) -> Array:
    """Poisson arrivals at ``base`` a second, at ``peak`` a second from ``begin`` to ``end``, until ``horizon``."""
    quiet = sim.poisson(positive("base", base), horizon=positive("horizon", horizon), seed=seed)
    extra = sim.poisson(positive("peak - base", peak - base), horizon=end - begin, seed=seed + 1) + begin
    return np.sort(np.concatenate([quiet, extra]))


def bursts(rate: float, share: float, period: float, horizon: float, seed: int) -> Array:
    """Poisson arrivals only in the first ``share`` of every ``period``; ``rate`` a second on average over all of it."""
    if not 0 < share <= 1:
        raise ValueError(f"share={share!r}: must be over 0 and at most 1")
    active = sim.poisson(positive("rate", rate) / share, horizon=horizon * share, seed=seed)
    length = period * share
    return np.floor(active / length) * period + active % length


@dataclass(frozen=True)
class Bounded:
    """What became of each event of a queue that can be full. ``response`` is NaN for those turned away."""

    response: Array
    accepted: NDArray[np.bool_]

    @property
    def refused_share(self) -> float:
        return 1 - float(self.accepted.mean())


def bounded_queue(arrivals: ArrayLike, service: ArrayLike, servers: int, capacity: int) -> Bounded:
    """First come, first served (G/G/c/K): an event that finds ``capacity`` others, in work or waiting, is turned away."""
    times, seconds = np.asarray(arrivals, float), np.broadcast_to(np.asarray(service, float), np.shape(arrivals))
    whole("servers", servers, 1)
    whole("capacity", capacity, servers)
    free = [0.0] * servers
    heap: list[float] = []
    response, accepted = np.full(times.size, np.nan), np.zeros(times.size, bool)
    for i, now in enumerate(times):
        while heap and heap[0] <= now:
            heapq.heappop(heap)
        if len(heap) >= capacity:
            continue
        begin = max(now, heapq.heappop(free))
        end = begin + seconds[i]
        heapq.heappush(free, end)
        heapq.heappush(heap, end)
        accepted[i], response[i] = True, end - now
    return Bounded(response, accepted)


def blocking(load: float, capacity: int) -> float:
    """Share turned away by M/M/1/K, ``load`` = rate x mean service: (1 - r) r^K / (1 - r^(K+1)); 1/(K+1) at load 1."""
    positive("load", load)
    whole("capacity", capacity, 1)
    if math.isclose(load, 1.0):
        return 1 / (capacity + 1)
    return (1 - load) * load**capacity / (1 - load ** (capacity + 1))


class TokenBucket:
    """A rate limit: ``rate`` a second on average, ``burst`` at once. Full at the beginning."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst = positive("rate", rate), positive("burst", burst)
        self._tokens, self._last = self.burst, 0.0

    def take(self, now: float) -> bool:
        """Whether one may pass now. Times must not go back."""
        if now < self._last:
            raise ValueError(f"now={now!r}: must not be before {self._last!r}")
        self._tokens = min(self.burst, self._tokens + (now - self._last) * self.rate)
        self._last = now
        if self._tokens < 1 - 1e-9:
            return False
        self._tokens -= 1
        return True


def limited(arrivals: ArrayLike, rate: float, burst: float) -> NDArray[np.bool_]:
    """Which of the arrivals a token bucket lets pass."""
    bucket = TokenBucket(rate, burst)
    return np.array([bucket.take(now) for now in np.asarray(arrivals, float)], bool)


Order = Literal["none", "partition", "key"]


@dataclass(frozen=True)
class Ordered:
    """``response`` of each event, and ``overtaken``: the share that finished before an earlier event of its key."""

    response: Array
    overtaken: float


def by_key(arrivals: ArrayLike, service: ArrayLike, keys: Sequence[str], consumers: int, order: Order) -> Ordered:
    """The same events, worked by ``consumers`` in three ways.

    ``none``: anyone takes the next event. ``partition``: as many partitions as consumers, by Kafka's hash of the key,
    one consumer each. ``key``: anyone takes the oldest event of which no other of its key is in work, as in the message
    groups of SQS FIFO.
    """
    times = np.asarray(arrivals, float)
    seconds = np.broadcast_to(np.asarray(service, float), times.shape)
    whole("consumers", consumers, 1)
    if len(keys) != times.size:
        raise ValueError(f"keys: must have one entry for each of the {times.size} arrivals, got {len(keys)}")
    if order == "none":
        ends = sim.queue(times, np.ascontiguousarray(seconds), consumers).departure
    elif order == "partition":
        place = {key: partition_of(key, consumers) for key in set(keys)}
        part = np.array([place[key] for key in keys])
        ends = np.empty(times.size)
        for number in range(consumers):
            own = part == number
            if own.any():
                ends[own] = sim.queue(times[own], np.ascontiguousarray(seconds[own])).departure
    elif order == "key":
        ends = _one_a_key(times, seconds, keys, consumers)
    else:
        raise ValueError(f"order={order!r}: must be 'none', 'partition' or 'key'")
    latest: dict[str, float] = {}
    overtaken = 0
    for key, end in zip(keys, ends):
        overtaken += end < latest.get(key, -math.inf)
        latest[key] = max(end, latest.get(key, -math.inf))
    return Ordered(ends - times, overtaken / max(1, times.size))


def _one_a_key(times: Array, seconds: Array, keys: Sequence[str], consumers: int) -> Array:
    """Ends of service where a key has one event in work at most, and the oldest event that may begin does."""
    ends = np.empty(times.size)
    waiting: dict[str, deque[int]] = {}
    ready: list[int] = []
    working: list[tuple[float, int]] = []
    locked: set[str] = set()
    idle, coming = consumers, 0

    def begin(now: float) -> None:
        nonlocal idle
        while idle and ready:
            i = heapq.heappop(ready)
            ends[i] = now + seconds[i]
            heapq.heappush(working, (ends[i], i))
            idle -= 1

    while coming < times.size or working:
        if working and (coming >= times.size or working[0][0] <= times[coming]):
            now, i = heapq.heappop(working)
            idle += 1
            queue = waiting[keys[i]]
            if queue:
                heapq.heappush(ready, queue.popleft())
            else:
                locked.discard(keys[i])
        else:
            now, key = times[coming], keys[coming]
            if key in locked:
                waiting[key].append(coming)
            else:
                locked.add(key)
                waiting.setdefault(key, deque())
                heapq.heappush(ready, coming)
            coming += 1
        begin(now)
    return ends


@dataclass(frozen=True)
class Scaled:
    """What an autoscaled fleet did.

    ``response``: seconds from each event to the end of its work. ``time``, ``replicas``, ``lag``: the fleet and its lag
    whenever one of them was looked at or changed. ``consumer_seconds``: of all consumers, starting ones included.
    """

    response: Array
    time: Array
    replicas: NDArray[np.int64]
    lag: NDArray[np.int64]
    consumer_seconds: float
    work_seconds: float
    seconds: float

    @property
    def utilisation(self) -> float:
        """Share of the consumers' time that was work."""
        return self.work_seconds / self.consumer_seconds if self.consumer_seconds else float("nan")

    @property
    def p99(self) -> float:
        """99th percentile of the age of events when their work is done."""
        return float(np.percentile(self.response, 99)) if self.response.size else float("nan")


def scale_on_events(
    arrivals: ArrayLike, service: ArrayLike, rule: Rule, *, start: float = 5.0, replicas: int = 0, until: float = 0.0
) -> Scaled:
    """Serve events, first come, first served, by consumers that ``rule`` starts and stops.

    A consumer takes its first event ``start`` seconds after it was asked for; ``replicas`` are there from the beginning.
    Consumers that leave are those still starting, then idle ones, then busy ones, which end the event in hand. The run
    ends at ``until``, or later when nothing is left to do and the rule is back at its least.
    """
    times = np.asarray(arrivals, float)
    seconds = np.broadcast_to(np.asarray(service, float), times.shape)
    non_negative("start", start, "seconds")
    scaler = Scaler(rule, replicas=whole("replicas", replicas, 0))
    floor = rule.least if rule.idle is None else rule.idle
    response = np.full(times.size, np.nan)
    waiting: deque[int] = deque()
    working: list[tuple[float, int]] = []
    starting: list[float] = []
    idle, leaving, coming = replicas, 0, 0
    now = last = 0.0
    poll = sync = 0.0
    spent = 0.0
    trace: list[tuple[float, int, int]] = []

    def begin() -> None:
        nonlocal idle
        while idle and waiting:
            i = waiting.popleft()
            response[i] = now + seconds[i] - times[i]
            heapq.heappush(working, (now + seconds[i], i))
            idle -= 1

    def resize() -> None:
        nonlocal idle, leaving
        have = len(starting) + idle + len(working) - leaving
        while have < scaler.replicas:
            if leaving:
                leaving -= 1
            else:
                heapq.heappush(starting, now + start)
            have += 1
        while have > scaler.replicas:
            if starting:
                starting.remove(max(starting))
                heapq.heapify(starting)
            elif idle:
                idle -= 1
            else:
                leaving += 1
            have -= 1

    def look() -> None:
        trace.append((now, scaler.replicas, len(waiting) + len(working)))

    while True:
        done = coming >= times.size and not waiting and not working
        if done and now >= until and scaler.replicas == floor and not starting and not leaving:
            break
        following = [poll, sync]
        if coming < times.size:
            following.append(times[coming])
        if working:
            following.append(working[0][0])
        if starting:
            following.append(starting[0])
        now = min(following)
        spent += (now - last) * (len(starting) + idle + len(working))
        last = now
        while working and working[0][0] <= now:
            heapq.heappop(working)
            if leaving:
                leaving -= 1
            else:
                idle += 1
        while starting and starting[0] <= now:
            heapq.heappop(starting)
            idle += 1
        while coming < times.size and times[coming] <= now:
            waiting.append(coming)
            coming += 1
        begin()
        if poll <= now or sync <= now:
            lag = len(waiting) + len(working)
            if poll <= now:
                scaler.poll(now, lag)
                poll = now + rule.polling
            if sync <= now:
                scaler.sync(now, lag)
                sync = now + rule.sync
            resize()
            begin()
            look()
    look()
    t, n, lags = zip(*trace)
    return Scaled(response, np.array(t), np.array(n), np.array(lags), spent, float(seconds.sum()), now)


def always_on(arrivals: ArrayLike, service: ArrayLike, consumers: int, seconds: float) -> Scaled:
    """The same events for ``consumers`` that are always there, for ``seconds`` in all."""
    result = sim.queue(arrivals, service, consumers)
    seconds = max(seconds, float(result.departure.max()) if result.arrival.size else 0.0)
    return Scaled(
        result.response, np.array([0.0, seconds]), np.array([consumers] * 2), np.zeros(2, int), consumers * seconds,
        float(result.service.sum()), seconds,
    )  # fmt: skip


def mean_batch(rate: float, size: int, window: float) -> float:
    """Mean number of events in a batch that ends at ``size`` events or ``window`` seconds after its first one.

    Poisson arrivals: the first one, and of those that follow within the window at most size - 1.
    """
    positive("rate", rate)
    whole("size", size, 1)
    non_negative("window", window, "seconds")
    mean, total, term = rate * window, 0.0, math.exp(-rate * window)
    below = term
    for k in range(1, size):
        total += 1 - below  # P(N >= k)
        term *= mean / k
        below += term
    return 1 + total


def batches(arrivals: ArrayLike, size: int, window: float) -> tuple[NDArray[np.int64], Array]:
    """Events in each batch, and each event's wait for its batch to be complete."""
    times = np.asarray(arrivals, float)
    whole("size", size, 1)
    sizes, waits = [], np.empty(times.size)
    begin = 0
    while begin < times.size:
        end = min(begin + size, int(np.searchsorted(times, times[begin] + window, side="right")))
        full = end - begin == size
        closed = times[end - 1] if full else times[begin] + window
        waits[begin:end] = closed - times[begin:end]
        sizes.append(end - begin)
        begin = end
    return np.array(sizes), waits


@dataclass(frozen=True)
class Channel:
    """One way to get events to a consumer: mean wait in seconds, requests a month, USD a month."""

    name: str
    wait: float
    requests: float
    usd: float


def channels(rate: float, *, poll: float = 1.0, long_poll: float = 20.0, batch: int = 10, window: float = 1.0) -> list[Channel]:
    """Pull and push, priced as SQS requests: each event is sent and deleted, alone or in batches.

    ``poll``: seconds between short polls that take all there is, ten at a time. ``long_poll``: seconds an empty long
    poll stays open. Push: the broker sends each event by itself; a request a delivery. Batched push waits ``window``
    seconds or for ``batch`` events. Poisson arrivals; one consumer, fast enough.
    """
    all_positive(rate=rate, poll=poll, long_poll=long_poll)
    whole("batch", batch, 1)
    events = rate * MONTH
    each = 2 * events
    polls = MONTH / poll * _full_and_empty(rate * poll)
    waits = MONTH * rate / (1 - math.exp(-rate * long_poll)) if rate * long_poll < 700 else events
    size = mean_batch(rate, batch, window)
    grouped = float(batches(sim.poisson(rate, count=20_000, seed=1), batch, window)[1].mean())
    ways = [
        (f"short poll every {poll:g} s", poll / 2, each + polls),
        (f"long poll of {long_poll:g} s", 0.0, each + waits),
        ("push, one by one", 0.0, each + events),
        (f"push, up to {batch} or {window:g} s", grouped, events + 2 * events / size),
    ]
    usd = price("events.sqs-requests") / 1e6
    return [Channel(name, wait, requests, requests * usd) for name, wait, requests in ways]


def _full_and_empty(events: float) -> float:
    """Receives of one poll: tens until one comes back short. At least one."""
    return 1 + events / 10


@dataclass(frozen=True)
class Need:
    """What somebody needs of the way an event travels."""

    answer: bool = False
    """Does the sender need the result now?"""
    replay: bool = False
    """Must old events be read again, or by readers that come later?"""
    order: bool = False
    """Must events of one key stay in order?"""
    readers: int = 1
    """Kinds of readers that each want every event."""
    rules: bool = False
    """Must events be routed by their content to others' services?"""


def choose(need: Need) -> tuple[str, str]:
    """Direct call, queue, log or bus, and why."""
    if need.answer:
        return "direct call", "the sender waits for the result; a queue would only hide the wait"
    if need.replay:
        return "log", "it keeps events after they are read; a queue forgets them"
    if need.rules or need.readers > 3:
        return "bus", "rules route events to many receivers that do not know each other"
    if need.order and need.readers == 1:
        return "queue", "FIFO with a group for each key: order inside, parallel across"
    if need.readers > 1:
        return "log", "each group of readers keeps its own place"
    return "queue", "one kind of consumer, no order, each event by itself: the simplest thing that holds back load"


def decide(
    rate: float, work: float, share: float, *, period: float = 3_600.0, seed: int = 1, start: float = 5.0,
    rule: Rule | None = None,
) -> Table:
    """Your workload, scaled on events and always on: consumers, utilisation, age and USD a month.

    ``rate``: events a second on average. ``work``: seconds of work for each. ``share`` of each ``period`` in which they
    all come. Always-on is sized for the peak at 80 % utilisation, and for the mean at 80 %.
    """  # fmt: skip
    horizon = 6 * period
    arrivals = bursts(rate, share, period, horizon, seed)
    service = sim.exponential(positive("work", work), count=arrivals.size, seed=seed + 1)
    peak = max(1, math.ceil(rate / share * work / 0.8))
    mean = max(1, math.ceil(rate * work / 0.8))
    threshold = max(1.0, 5.0 / work)
    scaled = scale_on_events(arrivals, service, rule or Rule(threshold=threshold, most=peak), start=start, until=horizon)
    rows = []
    for name, result in (
        ("scaled on events, from zero", scaled),
        (f"always on, {peak} for the peak", always_on(arrivals, service, peak, horizon)),
        (f"always on, {mean} for the mean", always_on(arrivals, service, mean, horizon)),
    ):
        usd = result.consumer_seconds / result.seconds * MONTH / 3600 * price("events.consumer-hour")
        rows.append([name, percent(result.utilisation, digits=2), f"{quantity(float(np.median(result.response)), digits=2)} s",
                     f"{quantity(result.p99, digits=2)} s", f"{usd:,.2f}"])  # fmt: skip
    return table(["Consumers", "Busy", "Median age", "p99 age", "USD a month"], rows, align="lrrrr")


@dataclass(frozen=True)
class InHand:
    """What a consumer did that holds events in advance: works begun and ended, and those of them that counted."""

    works: int
    done: int
    seconds: float

    @property
    def useful(self) -> float:
        """Share of the works whose acknowledgement was accepted."""
        return self.done / self.works if self.works else float("nan")


def in_hand(work: float, credits: int, visibility: float, seconds: float, *, check: bool = False) -> InHand:
    """One consumer with ``credits`` events in hand, ``work`` seconds each, on a queue from scratch that never runs dry.

    An event in hand longer than ``visibility`` is delivered again, here to the same consumer, and the acknowledgement of
    its first delivery is refused. With ``check`` the consumer drops, unworked, events whose time would be over.
    """
    whole("credits", credits, 1)
    all_positive(work=work, seconds=seconds)
    queue = EventQueue(visibility)
    for number in range(credits):
        queue.send(number)
    hand: deque[tuple[Delivery, float]] = deque()
    now, works, done = 0.0, 0, 0
    while now < seconds:
        while len(hand) < credits and (found := queue.receive(now)) is not None:
            hand.append((found, now + visibility))
        if not hand:
            now = queue.next_visible()
            continue
        delivery, until = hand.popleft()
        if check and now + work > until + 1e-9:
            continue
        now += work
        works += 1
        if queue.acknowledge(delivery):
            done += 1
            queue.send(done)
    return InHand(works, done, now)


EVENT_GRID = (10, 30, 60, 300, 600, 1_800, 3_600, 10_800, 21_600)
"""Seconds between the attempts of Azure Event Grid; after them every 12 hours."""


def attempts_within(waits: Sequence[float], last: float, lifetime: float) -> int:
    """Deliveries that begin within ``lifetime``: at once, after each of ``waits``, and then every ``last`` seconds."""
    now, count, place = 0.0, 0, 0
    while now <= lifetime:
        count += 1
        now += waits[place] if place < len(waits) else last
        place += 1
    return count
