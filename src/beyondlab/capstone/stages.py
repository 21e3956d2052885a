"""The alert path, stage by stage: each stage is a model of one chapter, called here with the fleet's arrivals.

Times in seconds. A day is represented by three moments (Chebyshev's nodes of the cosine: they integrate polynomials of
it up to degree 5 exactly), ``SPAN`` seconds each, and by one burst in each country on top of the mean rate. All
generators are seeded; the same seed gives all designs the same readings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from beyondlab import sim
from beyondlab.capstone import nodes, numbers
from beyondlab.capstone.numbers import BATCH, IN_CALL, MOST, PARTITIONS, TARGET, WALLS, WINDOW
from beyondlab.capstone.product import Choice, Product
from beyondlab.events import model as events
from beyondlab.fleets import division
from beyondlab.knative import model as knative

Array = NDArray[np.float64]

SPAN, LEAD, TAIL = 10.0, 5.0, 20.0
"""Seconds of a moment; before it, to be in a steady state; after a burst, until it is worked off."""
MOMENTS = ("night", "mean", "day", "burst")


@dataclass(frozen=True, eq=False)
class Enriched:
    """What became of the readings of one site in one moment.

    ``response``: seconds until enriched; infinite for a reading that was refused. ``instances``: on average;
    ``works``: invocations, or batches; ``worked``: seconds of work in them; ``cold``: of the invocations.
    """

    response: Array
    instances: float
    works: int
    worked: float
    cold: int


def level(product: Product, moment: str) -> float:
    """The rate of a moment, as a multiple of the mean."""
    return 1.0 + product.swing * {"night": -math.sqrt(0.75), "mean": 0.0, "day": math.sqrt(0.75), "burst": 0.0}[moment]


@lru_cache(64)
def arrivals(product: Product, devices: tuple[int, ...], moment: str, seed: int) -> tuple[Array, NDArray[np.bool_]]:
    """Readings of ``devices`` (one number a country that this site serves) in a moment, and which ones count.

    In an ordinary moment the last :data:`SPAN` seconds count; in a burst, the readings that were buffered.
    """
    rng = np.random.default_rng([seed, MOMENTS.index(moment), *devices])
    base = sim.poisson(sum(devices) / product.period * level(product, moment), horizon=LEAD + SPAN + WINDOW, seed=rng)
    if moment != "burst":
        return base, (base >= LEAD) & (base < LEAD + SPAN)
    rate = sum(devices) / product.period
    base = sim.poisson(rate, horizon=LEAD + product.burst_seconds + TAIL, seed=rng)
    many = burst_size(product, devices)
    extra = LEAD + product.burst_seconds * np.sort(rng.random(many))
    times = np.concatenate([base, extra])
    order = np.argsort(times, kind="stable")
    return times[order], np.concatenate([np.zeros(base.size, bool), np.ones(many, bool)])[order]


def start_of(choice: Choice) -> float:
    """Seconds until one more instance of the enrichment is ready. A node of your own has the image, a platform pulls it."""
    wall = WALLS[choice.isolation].start_ms / 1000
    if choice.compute == "functions":
        return numbers.RESTORED_MS / 1000 + numbers.INIT.value
    base = numbers.PLATFORM.value + nodes.pull(choice) if choice.compute == "serverless containers" else numbers.POD.value
    return base + wall + numbers.INIT.value + (numbers.SIDECAR_START.value if choice.mesh == "sidecar" else 0.0)


def work_factor(choice: Choice) -> float:
    """How much longer the same work takes behind the wall."""
    return 1.0 + (numbers.GVISOR_TAX.value if choice.isolation == "gvisor" else 0.0)


def batch_of(choice: Choice) -> int:
    """Readings that are enriched at once, at most: a direct call carries one."""
    return 1 if choice.events == "direct" else BATCH


def each(choice: Choice) -> float:
    """vCPU-seconds of a reading, in a full batch."""
    batch = batch_of(choice)
    return numbers.seconds(batch) / batch * work_factor(choice)


def always_on(product: Product, choice: Choice) -> int:
    """Pods that are always there, for the whole fleet: enough for the day's peak at 60 % use, two at least."""
    return max(2, math.ceil(product.rate * (1 + product.swing) * each(choice) / numbers.BUSY.value))


def most(product: Product, choice: Choice, site: int) -> int:
    """Pods of the enrichment that a site can have. Always there: as many as are there. On a platform: its limit.

    With Knative: as many as a burst on top of the mean rate needs at Knative's target; the nodes for them are paid for.
    A log feeds no more than it has partitions.
    """
    devices, pods = sites(product, choice)[site]
    if choice.compute == "knative":
        in_burst = burst_size(product, devices) / product.burst_seconds
        peak = sum(devices) / product.period * (1 + product.swing)
        pods = math.ceil(max(sum(devices) / product.period + in_burst, peak) * each(choice) / TARGET)
    elif choice.compute == "serverless containers":
        pods = MOST
    return min(pods, PARTITIONS) if choice.events == "log" else pods


def burst_size(product: Product, devices: tuple[int, ...]) -> int:
    """Readings that come back at once to a site: those of the larger country that it serves."""
    return round(product.returning * max(devices) * product.buffered)


@lru_cache(512)
def sites(product: Product, choice: Choice) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Where the enrichment runs: devices served (by country), and always-on pods, divided by Karmada's rule."""
    total = always_on(product, choice)
    if choice.orchestration == "one cluster":
        return ((product.devices, total),)
    weights = dict(zip("AB", product.devices))
    shares = division.webster(max(total, 4), weights)
    return tuple(((devices,), max(2, shares[name])) for name, devices in weights.items())


def enrich(product: Product, choice: Choice, site: int, moment: str, seed: int, *, cold: bool = False) -> Enriched:
    """One site's enrichment in one moment. With ``cold`` nothing is there at the beginning: a model cold everywhere."""
    devices, pods = sites(product, choice)[site][0], most(product, choice, site)
    start = 0.0 if choice.compute == "containers" else start_of(choice)
    return _enrich(product, choice.compute, choice.events, devices, pods, start, work_factor(choice), moment, seed, cold)


@lru_cache(512)
def _enrich(product: Product, compute: str, way: str, devices: tuple[int, ...], pods: int, start: float, factor: float,
            moment: str, seed: int, cold: bool) -> Enriched:  # fmt: skip
    times, counts = arrivals(product, devices, moment, seed)
    rng = np.random.default_rng([seed, 7, MOMENTS.index(moment)])
    sizes, waited = (np.ones(times.size, int), np.zeros(times.size)) if way == "direct" else _batches(product, devices, moment, seed)
    begins = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    ready = (times + waited)[begins]
    work = factor * _SECONDS[sizes] * _scatter(sizes.size, rng)
    colds, span = 0, float(times[-1])
    if compute == "functions":
        run = sim.simulate(ready, work, 600.0, cold_service=work + start, outcomes=True, horizon=float(ready[-1]) + 1e-9)
        cold_one = run.outcome == sim.COLD
        if not cold:  # what is running for a long time is warm: only a growth of the peak is cold
            cold_one &= ready >= (LEAD if moment == "burst" else math.inf)
        taken, instances, colds = work + start * cold_one, float(work.sum()) / span, int(cold_one.sum())
        if way == "log":
            taken = sim.queue(ready, taken, PARTITIONS).response
    elif compute == "containers":
        taken, instances = in_pods(ready, work, pods, way), float(pods)
    else:
        initial = 0 if cold else min(pods, max(1, math.ceil(float(work.sum()) / span / TARGET)))
        settings = knative.with_settings(min_scale=0 if compute == "knative" else 1, max_scale=pods)
        run = knative.simulate(ready, work, settings=settings, concurrency=1, start=start, initial=initial)
        taken, instances, colds = run.waits + work, run.pod_seconds / run.seconds, run.cold
    response = waited + np.repeat(taken, sizes)
    return Enriched(response[counts], instances, sizes.size, float(work.sum()), colds)


@lru_cache(64)
def _batches(product: Product, devices: tuple[int, ...], moment: str, seed: int) -> tuple[NDArray[np.int64], Array]:
    return events.batches(arrivals(product, devices, moment, seed)[0], BATCH, WINDOW)


_SECONDS = np.array([0.0, *(numbers.seconds(size) for size in range(1, BATCH + 1))])


def in_pods(ready: Array, work: Array, pods: int, way: str) -> Array:
    """Pods that are always there. A direct call finds a bounded queue, an event an unbounded one."""
    if way != "direct":
        return sim.queue(ready, work, pods).response
    run = events.bounded_queue(ready, work, pods, pods * (1 + IN_CALL))
    return np.where(run.accepted, run.response, math.inf)


def _scatter(count: int, rng: np.random.Generator) -> Array:
    """Factors of the service time: log-normal with a mean of 1."""
    sigma = 0.25
    return sim.lognormal(-(sigma**2) / 2, sigma, count, rng)
