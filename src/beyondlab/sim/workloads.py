"""Workloads like the one published of Azure Functions: who calls what, how often, how regularly, for how long.

Source: M. Shahrad et al., "Serverless in the Wild: Characterizing and Optimizing the Serverless Workload at a Large
Cloud Provider", USENIX ATC 2020, two weeks of July 2019. The names of the triggers are those of the published trace
(Azure/AzurePublicDataset, AzureFunctionsDataset2019.md). What the paper does not say is chosen here, and said to be.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from beyondlab.kit import check
from beyondlab.sim import _check, azure
from beyondlab.sim._check import Seed
from beyondlab.sim.arrivals import CHUNK, renewal_chunks

DAY = 86_400.0
LEAST_APPS = 300
LONGEST = 1_000 * DAY
"""The longest horizon, in seconds."""

FUNCTIONS_PER_APP: tuple[tuple[int, int, float], ...] = (
    (1, 1, 0.54), (2, 2, 0.16), (3, 3, 0.10), (4, 5, 0.08), (6, 10, 0.07), (11, 100, 0.0496), (101, 2_000, 0.0004),
)  # fmt: skip
"""(least, most, share of the applications). Published in Figure 1: 54 % have one function, 95 % at most ten, 0.04 % over
100; the shares between are read from that figure by M. Shilkov (mikhail.io, May 2020)."""

TRIGGERS: dict[str, tuple[float, float]] = {
    "http": (0.55, 0.36),
    "queue": (0.152, 0.335),
    "event": (0.022, 0.247),
    "orchestration": (0.07, 0.02),
    "timer": (0.156, 0.02),
    "others": (0.05, 0.01),
}
"""Trigger -> (share of the functions, share of the invocations), published in Figure 2; orchestration and others as
rounded by M. Shilkov (storage is among the others). The second shares sum to 0.992 by rounding."""

MEMORY_C, MEMORY_K, MEMORY_SCALE = 11.652, 0.221, 107.083
"""Published: Burr (type XII) fit of the average memory of an application, in MB."""

BURSTY_APPS = 0.40
"""Published: applications whose inter-arrival times have a coefficient of variation above 1."""
BURSTY_FUNCTIONS = 0.38
"""Chosen: of the functions without a timer, those that are bursty, so that the share of the applications comes out."""
REGULAR_CV, BURSTY_CV = (0.3, 0.85), (1.5, 10.0)
"""Chosen: ranges of the coefficient of variation of a function, uniform and log-uniform."""
TIMER_CV = 0.0
_GOLDEN = (math.sqrt(5) - 1) / 2
_GRID = 2_880


@dataclass(frozen=True, eq=False)
class Workload:
    """Functions and how they are called. Arrays of shape (functions,); all functions of an application are together."""

    app: NDArray[np.int64]
    """Number of the application, from 0."""
    trigger: NDArray[np.str_]
    """A name of :data:`TRIGGERS`."""
    rate: NDArray[np.float64]
    """Mean invocations per second."""
    cv: NDArray[np.float64]
    """Coefficient of variation of the inter-arrival times, before the daily cycle; 0 for timers."""
    execution_seconds: NDArray[np.float64]
    """Mean execution time."""
    memory_mb: NDArray[np.float64]
    """Average memory of the function's application, in MB."""
    daily_swing: float
    """How far the rate rises above its mean at noon, and falls below it at midnight, as a share of the mean."""
    streams: tuple[np.random.SeedSequence, ...]
    """The random stream of each function: what it does depends on no other function."""

    def __len__(self) -> int:
        return self.rate.size

    @property
    def apps(self) -> int:
        """Number of applications."""
        return int(self.app[-1]) + 1 if self.app.size else 0

    @property
    def app_rate(self) -> NDArray[np.float64]:
        """Mean invocations per second of each application, shape (apps,)."""
        return np.bincount(self.app, self.rate, minlength=self.apps)

    def arrivals(self, function: int, horizon: float = DAY) -> NDArray[np.float64]:
        """Arrival times of one function in [0, horizon) seconds, sorted; 0 is a midnight. Errors as the chunks."""
        parts = list(self.arrival_chunks(function, horizon))
        return np.concatenate(parts) if parts else np.empty(0)

    def arrival_chunks(self, function: int, horizon: float = DAY, size: int = CHUNK) -> Iterator[NDArray[np.float64]]:
        """The same, at most ``size`` and one at a time: memory does not grow with their number.

        A timer fires at a fixed period from a random phase, day and night. Others form a stationary renewal process
        with gamma-distributed gaps in a time that runs faster by day: rate(t) = mean * (1 - swing * cos(2 pi t / day)).

        Raises ValueError if ``function`` is no number of a function, ``horizon`` is not positive and at most
        :data:`LONGEST`, or ``size`` is less than 1.
        """
        place = check.whole("function", function, 0)
        if place >= len(self):
            raise ValueError(f"function={function!r}: must be less than the number of functions, {len(self)}")
        size = check.whole("size", size, 1)
        horizon = check.positive("horizon", horizon)
        if horizon > LONGEST:
            raise ValueError(f"horizon={horizon!r}: must be at most {LONGEST:,.0f} seconds")
        rng = np.random.default_rng(self.streams[place])
        if self.cv[place] == 0:
            return _timer(1 / self.rate[place], rng.random(), horizon, size)
        return self._renewal(place, horizon, size, rng)

    def _renewal(
        self, place: int, horizon: float, size: int, rng: np.random.Generator
    ) -> Iterator[NDArray[np.float64]]:
        clock = np.linspace(0, horizon, max(2, math.ceil(horizon / DAY * _GRID)))
        runs = clock - self.daily_swing * DAY / (2 * math.pi) * np.sin(2 * math.pi * clock / DAY)
        # What is left of a gap met at a random moment: a uniform share of a gap biased by its length.
        shape = 1 / self.cv[place] ** 2
        first = rng.random() * rng.standard_gamma(shape + 1) / shape / self.rate[place]
        if first < runs[-1]:
            yield np.interp([first], runs, clock)
        if runs[-1] > first:
            for times in renewal_chunks(self.rate[place], self.cv[place], horizon=runs[-1] - first, seed=rng, size=size):
                yield np.interp(times + first, runs, clock)

    def service(self, function: int, count: int) -> NDArray[np.float64]:
        """Execution times of the first ``count`` invocations of one function, in seconds, exponential (chosen).

        Raises ValueError if ``function`` is no number of a function or ``count`` is negative.
        """
        place = check.whole("function", function, 0)
        if place >= len(self):
            raise ValueError(f"function={function!r}: must be less than the number of functions, {len(self)}")
        count = check.whole("count", count, 0)
        stream = self.streams[place]
        rng = np.random.default_rng(np.random.SeedSequence(stream.entropy, spawn_key=(*stream.spawn_key, 1)))
        return rng.standard_exponential(count) * self.execution_seconds[place]


def workload(apps: int, seed: Seed, *, daily_swing: float = 0.3) -> Workload:
    """A workload of ``apps`` applications.

    Published and kept: functions of an application, rates of applications (:func:`beyondlab.sim.azure.function_rates`),
    triggers by functions and by invocations, execution times, memory, the share of bursty applications.

    Chosen: an application's rate is divided among its functions by uniform weights (a Dirichlet distribution); which
    trigger a function has depends on its rate just enough to give both published shares; memory, execution time and
    burstiness are independent of all that; the daily cycle is a cosine.

    Parameters
    ----------
    apps
        At least 300: of fewer, a single busy application can have a larger share of the invocations than any trigger
        may have.
    seed
        Integer or numpy Generator.
    daily_swing
        From 0, no daily cycle, to 0.9.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    apps = check.whole("apps", apps, LEAST_APPS)
    if not 0 <= check.finite("daily_swing", daily_swing) <= 0.9:
        raise ValueError(f"daily_swing={daily_swing!r}: must be between 0 and 0.9")
    rng = _check.generator(seed)
    counts = _functions_per_app(apps, rng)
    app = np.repeat(np.arange(apps), counts)
    weights = rng.standard_exponential(app.size)
    weights /= np.bincount(app, weights)[app]
    rate = azure.function_rates(apps, rng, stratified=True)[app] * weights
    trigger = _triggers(rate, rng)
    return Workload(
        app=app,
        trigger=trigger,
        rate=rate,
        cv=_burstiness(trigger == "timer", rng),
        execution_seconds=azure.execution_seconds(app.size, rng),
        memory_mb=memory_mb(apps, rng)[app],
        daily_swing=float(daily_swing),
        streams=tuple(np.random.SeedSequence(int(rng.integers(2**63))).spawn(app.size)),
    )


def memory_mb(count: int, seed: Seed) -> NDArray[np.float64]:
    """Average memory in MB of ``count`` applications, shape (count,): Burr XII with the published parameters.

    F(x) = 1 - (1 + (x / scale)**c)**-k. Raises ValueError if ``count`` is negative.
    """
    tail = 1 - _check.generator(seed).random(check.whole("count", count, 0))
    return MEMORY_SCALE * np.expm1(-np.log(tail) / MEMORY_K) ** (1 / MEMORY_C)


def _functions_per_app(apps: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Within a range of the table the logarithm is uniform (chosen)."""
    least, most, share = map(np.array, zip(*FUNCTIONS_PER_APP, strict=True))
    row = np.searchsorted(np.cumsum(share)[:-1], rng.permutation((np.arange(apps) + 0.5) / apps), side="right")
    low, high = np.log(least[row]), np.log(most[row] + 1)
    return np.minimum(np.exp(low + (high - low) * rng.random(apps)).astype(np.int64), most[row])


def _triggers(rate: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.str_]:
    """Two classes of functions, the busiest and the others, each with its own shares of triggers.

    The busiest are those that make most invocations; their shares are solved from the published ones, by functions and
    by invocations. Along the rates, triggers follow a low-discrepancy sequence, so that single busy functions matter
    little.
    """
    functions, invocations = (np.array(column) / sum(column) for column in zip(*TRIGGERS.values(), strict=True))
    order = np.argsort(rate)[::-1]
    done = np.cumsum(rate[order]) / rate.sum()
    busiest, popular, rare = _classes(done, functions, invocations)
    place = np.empty(rate.size, np.int64)
    point = (rng.random() + _GOLDEN * np.arange(rate.size)) % 1
    place[order[:busiest]] = np.searchsorted(np.cumsum(popular)[:-1], point[:busiest], side="right")
    place[order[busiest:]] = np.searchsorted(np.cumsum(rare)[:-1], point[busiest:], side="right")
    return np.array(list(TRIGGERS))[place]


def _classes(
    done: NDArray[np.float64], functions: NDArray[np.float64], invocations: NDArray[np.float64]
) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
    """The number of the busiest functions, and the shares of the triggers among them and among the others.

    The largest number for which all shares are between 0 and 1.
    """
    for busiest in range(done.size // 8, 0, -1):
        few, most = busiest / done.size, done[busiest - 1]
        popular = (invocations * (1 - few) - functions * (1 - most)) / (most - few)
        rare = (functions * most - invocations * few) / (most - few)
        if popular.min() >= 0 and rare.min() >= 0:
            return busiest, popular, rare
    raise ValueError("no division of the functions gives both published shares of the triggers; take more applications")


def _burstiness(timer: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float64]:
    bursty = rng.random(timer.size) < BURSTY_FUNCTIONS
    regular = rng.uniform(*REGULAR_CV, timer.size)
    high = np.exp(rng.uniform(*np.log(BURSTY_CV), timer.size))
    return np.where(timer, TIMER_CV, np.where(bursty, high, regular))


def _timer(period: float, phase: float, horizon: float, size: int) -> Iterator[NDArray[np.float64]]:
    count = math.ceil(horizon / period - phase)
    for start in range(0, max(0, count), size):
        yield (np.arange(start, min(start + size, count)) + phase) * period
