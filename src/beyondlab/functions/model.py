"""What a function on AWS Lambda costs, and how often its callers wait for a cold start.

Pure functions over the closed form of :mod:`beyondlab.sim.closed_form` and the dated prices of
:mod:`beyondlab.kit.prices`. Arrivals are Poisson, service times exponential: what bursts change is for the simulator
to say. Money in USD a month of 30 days, memory in GB of 1,024 MB as Lambda bills it, time in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from beyondlab.kit import check
from beyondlab.kit.prices import price
from beyondlab.kit.tables import Table, percent, table
from beyondlab.sim.closed_form import erlang_b, keep_alive_exact

MONTH = 30 * 86_400.0
"""Seconds in the month of the bills."""


@dataclass(frozen=True)
class Workload:
    """One function as its owner knows it.

    ``rate``: requests a second, on average. ``duration``: seconds a request takes once the environment is warm.
    ``init``: seconds of the init phase. ``memory``: GB. ``keep_alive``: seconds an idle environment stays, which AWS
    does not publish.
    """

    rate: float
    duration: float
    init: float
    memory: float = 1.0
    keep_alive: float = 600.0

    def __post_init__(self) -> None:
        check.all_positive(**vars(self))
        if not 0.125 <= self.memory <= 10:
            raise ValueError(f"memory={self.memory!r}: Lambda allows 0.125 to 10 GB")
        if self.duration > 900:
            raise ValueError(f"duration={self.duration!r}: Lambda allows at most 900 seconds")

    @property
    def requests(self) -> float:
        """Requests a month."""
        return self.rate * MONTH

    @property
    def load(self) -> float:
        """Requests in flight on average: Little's law."""
        return self.rate * self.duration


@dataclass(frozen=True)
class Option:
    """One way to run a workload: share of requests that wait, for how long, and USD a month."""

    name: str
    cold_share: float
    cold_wait: float
    usd: float


def init_surcharge(cold_share: float, init: float, duration: float) -> float:
    """What billing the init phase adds to the bill for duration, as a share of it.

    Lambda bills the init phase of all functions since 2025-08-01.

    >>> round(init_surcharge(0.01, 0.8, 0.1), 4)
    0.08
    """
    check.share("cold_share", cold_share)
    check.positive("init", init, "seconds")
    check.positive("duration", duration, "seconds")
    return cold_share * init / duration


def _duration_usd(workload: Workload, share: float, cold_share: float, rate_usd: float) -> float:
    """The bill for the duration of ``share`` of the requests, and for the init of ``cold_share`` of all of them."""
    seconds = workload.requests * (share * workload.duration + cold_share * workload.init)
    return seconds * workload.memory * rate_usd


def _requests_usd(requests: float) -> float:
    return requests / 1e6 * price("lambda.requests")


def on_demand(workload: Workload) -> Option:
    """No precaution at all."""
    cold = keep_alive_exact(workload.rate, workload.duration, workload.keep_alive).cold_share
    usd = _requests_usd(workload.requests) + _duration_usd(workload, 1.0, cold, price("lambda.duration-x86"))
    return Option("On demand", cold, workload.init, usd)


def pinged(workload: Workload, *, every: float = 300.0, ping_duration: float = 0.005) -> Option:
    """A scheduled event every ``every`` seconds, to which the handler answers within ``ping_duration`` seconds.

    It keeps one environment warm, and only if ``every`` is not longer than the keep-alive time. The rare ping that
    finds the environment busy, and starts another, is left out.
    """
    if not 0 < every <= workload.keep_alive:
        raise ValueError(
            f"every={every!r}: must be positive and at most keep_alive={workload.keep_alive!r}, or it warms nothing"
        )
    check.positive("ping_duration", ping_duration, "seconds")
    cold = keep_alive_exact(workload.rate, workload.duration, workload.keep_alive, provisioned=1).cold_share
    pings = MONTH / every
    usd = (
        _requests_usd(workload.requests + pings)
        + _duration_usd(workload, 1.0, cold, price("lambda.duration-x86"))
        + pings * ping_duration * workload.memory * price("lambda.duration-x86")
    )
    return Option(f"Ping every {every:g} s", cold, workload.init, usd)


def provisioned(workload: Workload, count: int) -> Option:
    """``count`` environments of provisioned concurrency; what finds them all busy runs on demand.

    Provisioned environments are taken first, so the share that finds them busy is Erlang's loss formula. The cold share
    is that of a pool with a floor of ``count``; a simulation that takes provisioned ones first is within 5 % of it.
    """
    check.whole("count", count, 1)
    cold = keep_alive_exact(workload.rate, workload.duration, workload.keep_alive, provisioned=count).cold_share
    spilled = erlang_b(count, workload.load)
    usd = (
        _requests_usd(workload.requests)
        + count * workload.memory * MONTH * price("lambda.provisioned-x86")
        + _duration_usd(workload, 1 - spilled, 0.0, price("lambda.provisioned-duration-x86"))
        + _duration_usd(workload, spilled, cold, price("lambda.duration-x86"))
    )
    return Option(f"Provisioned concurrency {count}", cold, workload.init, usd)


def snapstart(workload: Workload, *, restore: float = 0.3) -> Option:
    """SnapStart for Python or .NET: as many cold starts as on demand, each ``restore`` seconds long.

    Cache and restores are billed; the seconds of the restore itself are left out.
    """
    check.positive("restore", restore, "seconds")
    cold = keep_alive_exact(workload.rate, workload.duration, workload.keep_alive).cold_share
    usd = (
        _requests_usd(workload.requests)
        + _duration_usd(workload, 1.0, 0.0, price("lambda.duration-x86"))
        + workload.memory * MONTH * price("lambda.snapstart-cache")
        + cold * workload.requests * workload.memory * price("lambda.snapstart-restore")
    )
    return Option("SnapStart", cold, restore, usd)


def smallest_provision(workload: Workload, cold_share: float) -> int:
    """The least provisioned concurrency that leaves at most ``cold_share`` of the requests cold."""
    if not 0 < cold_share < 1:
        raise ValueError(f"cold_share={cold_share!r}: must lie between 0 and 1")
    count = 1
    while provisioned(workload, count).cold_share > cold_share:
        count += 1
    return count


def options(workload: Workload, *, target: float = 1e-3, restore: float = 0.3) -> list[Option]:
    """On demand, pinged, provisioned for at most ``target`` cold requests, and SnapStart."""
    return [
        on_demand(workload),
        pinged(workload, every=min(300.0, workload.keep_alive)),
        provisioned(workload, smallest_provision(workload, target)),
        snapstart(workload, restore=restore),
    ]


def decide(workload: Workload, *, target: float = 1e-3, restore: float = 0.3) -> Table:
    """The options as a table: cold share, slow answers a day, wait, and USD a month."""
    rows = [
        [
            option.name,
            percent(option.cold_share),
            f"{option.cold_share * workload.rate * 86_400:,.1f}",
            f"{option.cold_wait:.2g} s",
            f"{option.usd:,.2f}",
        ]
        for option in options(workload, target=target, restore=restore)
    ]
    return table(["Option", "Cold", "Slow answers a day", "Each waits", "USD a month"], rows)


def break_even_utilisation() -> float:
    """The share of the time a provisioned environment must be busy to be cheaper than on demand (x86)."""
    return price("lambda.provisioned-x86") / (
        price("lambda.duration-x86") - price("lambda.provisioned-duration-x86")
    )
