"""What state costs: in time, where the function reads and writes it in one of four ways; in replay; in money.

Times are seconds, rates requests a second. The four architectures, each after a published system:

- ``remote``: every operation is a call to a store (DynamoDB from Lambda);
- ``cached``: reads are answered by a cache beside the function, with a probability; writes go to the store after the
  answer (Cloudburst: Sreekanti et al., PVLDB 13(11), 2020);
- ``log``: reads from a local copy of the log's index, each write one append (Boki: Jia and Witchel, SOSP 2021);
- ``partition``: state in the owner's memory, all writes of all requests of a moment in one commit (Netherite: Burckhardt
  et al., PVLDB 15(8), 2022).

The structures are the papers'; the numbers in :class:`Costs` are assumptions of this course, not measurements of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beyondlab import sim
from beyondlab.kit import check
from beyondlab.kit.prices import price
from beyondlab.kit.tables import Table, quantity, table

Array = NDArray[np.float64]

ARCHITECTURES = ("remote", "cached", "log", "partition")


@dataclass(frozen=True)
class Costs:
    """Assumed times of one operation, in seconds. Raises ValueError unless all are finite and positive, hit in [0, 1]."""

    compute: float = 0.001
    """The function's own work."""
    trip: float = 0.0005
    """The network, there and back."""
    store: float = 0.001
    """Mean service time of the store for one operation (exponential)."""
    servers: int = 8
    """Servers of the store, or of the log."""
    local: float = 0.00005
    """A read from memory or from a cache on the same machine."""
    hit: float = 0.95
    """Share of reads that the cache can answer."""
    append: float = 0.001
    """Mean time of the log for one append (exponential), replication included."""
    flush: float = 0.005
    """One commit of a partition, whatever it holds."""

    def __post_init__(self) -> None:
        for name in ("compute", "trip", "store", "servers", "local", "append", "flush"):
            check.positive(name, getattr(self, name))
        check.share("hit", self.hit)


@dataclass(frozen=True)
class Request:
    """What one request does to its state: ``reads``, then ``writes``, one after another."""

    reads: int = 4
    writes: int = 2

    def __post_init__(self) -> None:
        if self.reads < 0 or self.writes < 0 or self.reads + self.writes == 0:
            raise ValueError(f"reads={self.reads!r}, writes={self.writes!r}: zero or more, and at least one of the two")


def operations(architecture: str, request: Request, costs: Costs) -> float:
    """Operations of one request that reach the store, the log or the partition's disk, on average."""
    if architecture == "remote":
        return request.reads + request.writes
    if architecture == "cached":
        return request.reads * (1 - costs.hit) + request.writes
    if architecture == "log":
        return request.writes
    if architecture == "partition":
        return 1.0 if request.writes else 0.0
    raise ValueError(f"architecture={architecture!r}: must be one of {', '.join(ARCHITECTURES)}")


def latency(architecture: str, rate: float, request: Request, costs: Costs) -> float:
    """Mean response time by closed form: M/M/c for a store or a log, :func:`group_commit` for a partition.

    Arrivals at the store are taken as Poisson, which they are if requests are many and independent. Infinite where the
    store cannot keep up. Raises ValueError for an unknown architecture or a rate that is not positive.
    """
    check.positive("rate", rate)
    load = operations(architecture, request, costs) * rate
    if architecture == "partition":
        reads = request.reads * costs.local
        return costs.compute + reads + (group_commit(rate, costs.flush) if request.writes else 0.0)
    service = costs.append if architecture == "log" else costs.store
    if load * service >= costs.servers:
        return math.inf
    wait = sim.erlang_c_wait(costs.servers, load, service) if load else 0.0
    operation = costs.trip + wait + service
    if architecture == "remote":
        return costs.compute + (request.reads + request.writes) * operation
    if architecture == "cached":
        missed = request.reads * (1 - costs.hit)
        return costs.compute + (request.reads - missed) * costs.local + missed * operation
    return costs.compute + request.reads * costs.local + request.writes * operation


def capacity(architecture: str, request: Request, costs: Costs) -> float:
    """Requests a second at which the store or the log is fully busy; infinite for a partition's group commit."""
    service = {"log": costs.append}.get(architecture, costs.store)
    each = operations(architecture, request, costs)
    return math.inf if architecture == "partition" or not each else costs.servers / (service * each)


def simulate(architecture: str, rate: float, request: Request, costs: Costs, *, requests: int = 20_000, seed: int = 1) -> float:
    """Mean response time by simulation: the operations of all requests queue at the real, shared store.

    Each operation of a request begins when the one before has ended: done in rounds, each a pass of the queue with the
    operations of all rounds, until the times no longer move. Raises ValueError as :func:`latency`.
    """
    check.positive("rate", rate)
    arrivals = sim.poisson(rate, count=requests, seed=seed)
    if architecture == "partition":
        ready = arrivals + costs.compute + request.reads * costs.local
        done = commits(np.sort(ready), costs.flush) if request.writes else np.sort(ready)
        return float(np.mean(done - np.sort(ready)) + costs.compute + request.reads * costs.local)
    rng = np.random.default_rng(seed + 1)
    service = costs.append if architecture == "log" else costs.store
    if architecture == "remote":
        counts, local = np.full(requests, request.reads + request.writes), np.zeros(requests)
    elif architecture == "cached":
        missed = rng.binomial(request.reads, 1 - costs.hit, requests)
        counts, local = missed, (request.reads - missed) * costs.local
    else:
        operations(architecture, request, costs)
        counts, local = np.full(requests, request.writes), np.full(requests, request.reads * costs.local)
    behind = np.full(requests, request.writes if architecture == "cached" else 0)
    total = counts + behind
    if not total.sum():
        return float(costs.compute + local.mean())
    return _closed_chain(arrivals + costs.compute + local, counts, behind, service, costs, rng) - float(arrivals.mean())


def _closed_chain(
    ready: Array, counts: NDArray[np.int64], behind: NDArray[np.int64], service: float, costs: Costs, rng: np.random.Generator
) -> float:
    """Mean moment at which requests are done, their operations being served in order of arrival by ``costs.servers``."""
    import heapq

    draws = iter(rng.exponential(service, int(counts.sum() + behind.sum())))
    events = [(moment, number, 0) for number, moment in enumerate(ready)]
    heapq.heapify(events)
    servers = [0.0] * costs.servers
    half = costs.trip / 2
    done = np.array(ready)
    while events:
        moment, number, step = heapq.heappop(events)
        if step >= counts[number] + behind[number]:
            continue
        free = heapq.heappop(servers)
        finish = max(free, moment) + next(draws)
        heapq.heappush(servers, finish)
        if step < counts[number]:
            done[number] = finish + half
            heapq.heappush(events, (finish + costs.trip, number, step + 1))
        else:
            heapq.heappush(events, (finish, number, step + 1))
    return float((done + half * (counts > 0)).mean())


def group_commit(rate: float, flush: float) -> float:
    """Mean time from a write to the end of its commit, if all that waits is committed together.

    Poisson arrivals, a constant ``flush``, one commit at a time. A commit that begins with the first write after an idle
    time holds that write alone, which takes ``flush``. Writes that arrive during a commit, rate * flush on average, wait for
    the rest of it, half on average, and their own. A commit is preceded by an idle time with probability
    exp(-rate * flush). So the mean is flush * (1.5 * rate * flush + p) / (rate * flush + p) with p = exp(-rate * flush).
    """
    check.all_positive(rate=rate, flush=flush)
    during, idle = rate * flush, math.exp(-rate * flush)
    return flush * (1.5 * during + idle) / (during + idle)


def commits(arrivals: ArrayLike, flush: float) -> Array:
    """When each write of ``arrivals`` (sorted, seconds) is committed, by :func:`group_commit`'s rules.

    Raises ValueError if they are not sorted.
    """
    moments = np.asarray(arrivals, float)
    if moments.size and np.any(np.diff(moments) < 0):
        raise ValueError("arrivals: must be sorted")
    done, position, free = np.empty_like(moments), 0, -math.inf
    while position < moments.size:
        begin = max(free, moments[position])
        free = begin + flush
        last = int(np.searchsorted(moments, begin, side="right"))
        done[position:last] = free
        position = last
    return done


def replayed_events(steps: int, *, every: int | None = None) -> int:
    """Steps read from the log by a workflow of ``steps`` steps that goes to sleep after each and is replayed each time.

    Without snapshots 0 + 1 + … + (steps - 1) = steps * (steps - 1) / 2. With one after ``every`` steps a replay begins
    there. Raises ValueError unless both are positive whole numbers.
    """
    check.whole("steps", steps, 1)
    if every is None:
        return steps * (steps - 1) // 2
    check.whole("every", every, 1)
    full, rest = divmod(steps, every)
    return full * (every * (every - 1) // 2) + rest * (rest - 1) // 2


def best_interval(snapshot: float, replay: float, survival: float) -> float:
    """Steps between two snapshots that cost least in all, if a process lives for ``survival`` steps on average.

    ``snapshot``: seconds to write one; ``replay``: seconds to replay one step. Per step, snapshots cost snapshot / n and
    replays replay * n / 2 / survival: least at the square root of 2 * snapshot * survival / replay. It is J. W. Young's
    first-order optimum for checkpoints (Communications of the ACM 17(9), 1974), with steps for time.
    """
    check.all_positive(snapshot=snapshot, replay=replay, survival=survival)
    return math.sqrt(2 * snapshot * survival / replay)


def lockstep_attempts(writers: int) -> int:
    """Attempts until each of ``writers`` has made one compare-and-set, all trying at once, round after round.

    In each round one wins: n + (n - 1) + … + 1. Raises ValueError unless there is a writer.
    """
    check.whole("writers", writers, 1)
    return writers * (writers + 1) // 2


@dataclass(frozen=True)
class Engine:
    """One system of the decision table, as of 27 November 2026. ``None`` where a figure could not be confirmed."""

    name: str
    state: str
    guarantee: str
    limits: str
    price: str


ENGINES: tuple[Engine, ...] = (
    Engine("Step Functions Standard", "state machine, history in the service", "a step exactly once, unless you retry it",
           "1 year an execution", "25 USD per million transitions"),
    Engine("Lambda durable functions", "checkpoints and replay, in the service", "at least once a step; token against late checkpoints",
           "366 days; 15 min an invocation; history 1–90 days", "8 USD per million operations, Lambda, data"),
    Engine("Azure Durable Functions", "event history and replay; entities", "activities at least once",
           "Netherite ends 31 March 2028; use the Durable Task Scheduler", "by actions or dedicated: amount not confirmed"),
    Engine("Temporal", "event history and replay, in a cluster", "workflow once, activities at least once",
           "51,200 events or 50 MB a history", "50 USD per million actions (Cloud); MIT to run yourself"),
    Engine("Restate", "journal and replay; state by key", "handler to its end, side effects at least once",
           "not confirmed", "server under BSL 1.1; cloud price not confirmed"),
    Engine("DBOS", "step results in your Postgres or SQLite", "steps at least once, recorded once",
           "your database", "library MIT; your database"),
    Engine("Durable Objects", "one object a key, SQLite inside", "one writer a key; no replay",
           "10 GB an object; 30 s CPU, up to 5 min", "0.15 USD per million requests, 12.50 per million GB-s"),
    Engine("Flink", "keyed state, checkpoints to object storage", "state exactly once, sinks by transaction or name",
           "a cluster that always runs", "Apache 2.0; managed on AWS by KPU-hour: amount not confirmed"),
)  # fmt: skip


def engines_table() -> Table:
    """The decision table: state model, guarantee, limits, price."""
    rows = [[engine.name, engine.state, engine.guarantee, engine.limits, engine.price] for engine in ENGINES]
    return table(["System", "State", "Guarantee", "Limits", "Price"], rows)


@dataclass(frozen=True)
class Month:
    """A month of orders: ``orders``, ``steps`` each, ``seconds`` of running time and ``gb`` of memory an order.

    Raises ValueError unless all are positive.
    """

    orders: float = 1_000_000
    steps: int = 4
    seconds: float = 0.5
    gb: float = 0.125

    def __post_init__(self) -> None:
        check.all_positive(**vars(self))


def bill(month: Month) -> dict[str, float]:
    """USD a month for remembering, by system; the functions that do the work are not in it, except in Durable Objects.

    Counted units, of the course: Step Functions Standard a transition a step, and two for start and end; Express one request
    and its duration; Lambda durable functions an operation for the start and each step; Temporal an action for the start and
    each activity; Durable Objects one request an order and its duration. Free allowances, data, storage and plans are left
    out.
    """
    orders, millions = month.orders, month.orders / 1e6
    gb_seconds = orders * month.seconds * month.gb
    return {
        "Step Functions Standard": (month.steps + 2) * millions * price("durable.step-functions-transitions"),
        "Step Functions Express": millions * price("durable.step-functions-express-requests")
        + gb_seconds * price("durable.step-functions-express-duration"),
        "Lambda durable functions": (month.steps + 1) * millions * price("durable.lambda-operations"),
        "Temporal Cloud": (month.steps + 1) * millions * price("durable.temporal-actions"),
        "Durable Objects": millions * price("durable.objects-requests")
        + gb_seconds / 1e6 * price("durable.objects-duration"),
    }


def decide(month: Month) -> Table:
    """:func:`bill` as a table, the cheapest first."""
    rows = sorted(bill(month).items(), key=lambda row: row[1])
    each = [[name, f"{usd:,.2f}", quantity(1e6 * usd / month.orders)] for name, usd in rows]
    return table(["For remembering", "USD a month", "USD a million orders"], each, align="lrr")


def compare(rates: Sequence[float], request: Request, costs: Costs) -> Mapping[str, Array]:
    """:func:`latency` of all four architectures at all ``rates``."""
    return {name: np.array([latency(name, rate, request, costs) for rate in rates]) for name in ARCHITECTURES}
