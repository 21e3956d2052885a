"""What goes wrong, how often, and what share of the alerts it keeps from arriving on time.

A fault that comes ``rate`` times a month for ``seconds`` and takes ``share`` of the alerts meanwhile is there for
1 − exp(−rate · seconds / month) of the time (M/G/∞: Poisson begins, any length). Faults are independent of each other,
so the share of alerts that none of them touches is a product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beyondlab.capstone import nodes, numbers, stages
from beyondlab.capstone.product import HOURS, SECONDS, Choice, Product
from beyondlab.events.queueing import EventQueue
from beyondlab.fleets import model as fleets

OUTAGES = fleets.Plan().outages * HOURS / fleets.YEAR
"""Outages of a cluster, or of a zone of a platform, a month: the fleets chapter's two a year."""
OUTAGE = 3600.0
"""Seconds that one lasts."""
CRASHES, POISONED, COLD = 30.0, 4.0, 8.0
"""A month: consumers that die, messages that kill or refuse, times that every instance is replaced at once."""
ZONES = 3
"""Zones of a platform's region."""


@dataclass(frozen=True)
class Fault:
    """``rate`` a month, each ``seconds`` long, ``share`` of the alerts late or lost meanwhile. ``lost``: not only late."""

    name: str
    rate: float
    seconds: float
    share: float
    lost: bool
    why: str

    @property
    def unavailability(self) -> float:
        """Share of all alerts that it hits."""
        return self.share * -math.expm1(-self.rate * self.seconds / SECONDS)


def faults(product: Product, choice: Choice, seed: int = 1) -> list[Fault]:
    """The faults of a design, from the chapters' models."""
    return [*_outages(product, choice), _crash(product, choice), _poison(product, choice), _cold(product, choice, seed)]


def _outages(product: Product, choice: Choice) -> list[Fault]:
    lost = choice.events == "direct"
    a, b = product.shares
    if choice.orchestration == "one cluster":
        return [Fault("cluster away", OUTAGES, OUTAGE, 1.0, lost, "nothing takes over")]
    ready = stages.start_of(choice)
    if choice.orchestration == "managed":
        timings = fleets.Timings(evict=0.0, start=ready, nodes=0.0)
        gone = fleets.lost_minutes(ZONES, 0.5, timings, outage=OUTAGE) * 60
        return [Fault("zone away", 2 * OUTAGES, gone, 0.5, lost, f"the platform goes on in {ZONES - 1} zones")]
    timings = fleets.Timings(start=ready)
    taken = timings.detect + timings.evict + timings.start + timings.nodes + nodes.pull(choice)
    return [
        Fault("cluster A away", OUTAGES, taken, a, lost, "B takes over when its new nodes are there"),
        Fault("cluster B away", OUTAGES, OUTAGE, b, lost, "B's data must stay in B: nobody may take over"),
    ]


def instances(product: Product, choice: Choice, seed: int = 1) -> float:
    """Instances of the enrichment at the mean rate, in all sites; one at least."""
    places = range(len(stages.sites(product, choice)))
    return max(1.0, sum(stages.enrich(product, choice, site, "mean", seed).instances for site in places))


def _death(product: Product, choice: Choice) -> tuple[float, float, str]:
    """(seconds, share, why) of one consumer's death."""
    many, batch = instances(product, choice), stages.batch_of(choice)
    if choice.events == "log":
        group = min(many, stages.PARTITIONS * (1 if choice.orchestration == "one cluster" else 2))
        return numbers.SESSION.value, 1 / group, "its partitions wait until the group notices"
    if choice.events == "queue":
        return batch / product.rate, 1.0, "the batch in hand is hidden until its time-out, too long for these"
    if choice.compute == "functions":
        return 1 / product.rate, 1.0, "one invocation fails; the next gets another environment"
    if choice.mesh != "none":
        return 1 / product.rate, 1.0, "the mesh tries again elsewhere; only what may not be repeated fails"
    return stages.start_of(choice), 1 / many, "calls to it fail until it is replaced"


def _crash(product: Product, choice: Choice) -> Fault:
    seconds, share, why = _death(product, choice)
    return Fault("consumer dies", CRASHES, seconds, share, choice.events == "direct", why)


def _poison(product: Product, choice: Choice) -> Fault:
    seconds, share, why = _death(product, choice)
    times = deliveries(choice)
    return Fault("poison message", POISONED, seconds * times, share, choice.events == "direct", f"{times} times: {why}")


def deliveries(choice: Choice) -> int:
    """How often a message that kills its consumer is delivered, by the events chapter's queue."""
    if choice.events == "direct":
        return 1
    queue = EventQueue(numbers.VISIBILITY.value, max_receives=int(numbers.ATTEMPTS.value))
    queue.send("poison")
    now, seen = 0.0, 0
    while queue.receive(now):
        seen, now = seen + 1, now + numbers.VISIBILITY.value
    return seen


def _cold(product: Product, choice: Choice, seed: int) -> Fault:
    if choice.compute == "containers":
        return Fault("all replaced, model cold", COLD, 0.0, 0.0, False, "pods are replaced one by one, when the next is ready")
    late = total = 0
    for site in range(len(stages.sites(product, choice))):
        response = stages.enrich(product, choice, site, "mean", seed, cold=True).response
        late, total = late + int((response > product.on_time).sum()), total + response.size
    seconds = stages.SPAN * late / total
    return Fault("all replaced, model cold", COLD, seconds, 1.0, False, f"a start takes {stages.start_of(choice):.2g} s")


def availability(found: Sequence[Fault], late: float = 0.0) -> float:
    """Share of alerts that arrive on time: none of the independent faults hits them, and no burst makes them ``late``."""
    return (1 - late) * math.prod(1 - fault.unavailability for fault in found)


def lived(found: Sequence[Fault], late: float = 0.0, *, months: float = 2_000.0, alerts: int = 400_000, seed: int = 1) -> float:
    """The same by simulation: every fault at random moments, alerts at random moments, and who was hit counted."""
    rng = np.random.default_rng(seed)
    horizon = months * SECONDS
    times = np.sort(rng.random(alerts)) * horizon
    fine = rng.random(alerts) >= late
    for fault in found:
        begins = np.sort(rng.random(rng.poisson(fault.rate * months))) * horizon
        if begins.size and fault.seconds > 0:
            last = np.searchsorted(begins, times, side="right") - 1
            inside = (last >= 0) & (times - begins[np.maximum(last, 0)] < fault.seconds)
            fine &= ~(inside & (rng.random(alerts) < fault.share))
    return float(fine.mean())


def repeats(product: Product, choice: Choice, window: float, seed: int = 1) -> float:
    """Alerts a month that go out twice, expected: a consumer dies between sending an alert and noting it.

    It is there for ``window`` seconds after each alert; a death is as likely at any moment. A direct call is not
    repeated. With compare-and-set or durable execution the alert carries an id, and its repetition is seen.
    """
    if choice.events == "direct" or choice.state != "database":
        return 0.0
    each = sum(product.alerts) / SECONDS / instances(product, choice, seed)
    return (CRASHES + POISONED * deliveries(choice)) * each * window


def repeats_lived(rate: float, window: float, deaths: int, *, seed: int = 1) -> int:
    """The same by simulation: alerts at random moments, ``rate`` a second; how many of ``deaths`` fall into a window."""
    rng = np.random.default_rng(seed)
    alerts = np.cumsum(rng.exponential(1 / rate, deaths))
    moments = rng.random(deaths) * alerts[-1]
    last = np.searchsorted(alerts, moments, side="right") - 1
    return int(np.count_nonzero((last >= 0) & (moments - alerts[np.maximum(last, 0)] < window)))
