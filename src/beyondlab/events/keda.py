"""From lag to replicas: KEDA's rule, and the Horizontal Pod Autoscaler that it drives, without a clock.

KEDA takes a workload from zero to its first replicas and back; in between, the HPA divides the lag by a target for each
replica. After kedacore/keda (``pkg/scalers/nats_jetstream_scaler.go``, ``kafka_scaler.go``,
``pkg/scaling/executor/scale_scaledobjects.go``) and kubernetes/kubernetes
(``pkg/controller/podautoscaler/replica_calculator.go``; limits of the HPA's default behaviour: up by 100 % or 4 pods
every 15 s, down after 300 s). All times are seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from beyondlab.kit import check


@dataclass(frozen=True)
class Rule:
    """A ScaledObject with one trigger on lag, and the HPA made for it. Defaults are KEDA's and Kubernetes's own.

    ``threshold``: events of lag for each replica. ``activation``: more lag than this wakes it from zero. ``least`` and
    ``most``: replicas. ``idle``: replicas while nothing is to do, if they are not ``least``. ``polling``, ``cooldown``:
    KEDA's. ``sync``, ``stabilisation``, ``tolerance``: the HPA's.

    Raises ValueError for a value outside its range.
    """

    threshold: float = 10.0
    activation: float = 0.0
    least: int = 0
    most: int = 100
    idle: int | None = None
    polling: float = 30.0
    cooldown: float = 300.0
    sync: float = 15.0
    stabilisation: float = 300.0
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None:
                check.non_negative(name, value)
        check.all_positive(threshold=self.threshold, polling=self.polling, sync=self.sync)
        if not self.least <= self.most or self.most < 1:
            raise ValueError(f"most={self.most!r}: must be at least 1 and at least least={self.least!r}")
        if self.idle is not None and not self.idle < max(1, self.least):
            raise ValueError(f"idle={self.idle!r}: must be under least={self.least!r}")


def jetstream_lag(consumers: dict[str, tuple[int, int]], consumer: str, last_sequence: int) -> int:
    """The lag KEDA sees: events not delivered yet and delivered but not acknowledged.

    ``consumers``: name -> (num_pending, num_ack_pending). Without such a consumer it is the stream's last sequence.
    """
    if consumer in consumers:
        return sum(consumers[consumer])
    return last_sequence


def kafka_lag(lags: Sequence[int], threshold: int, *, allow_idle: bool = False) -> int:
    """The lag of all partitions, cut so that there is never more than one replica a partition, unless idle ones may be."""
    total = sum(lags)
    if not allow_idle and total // threshold > len(lags):
        return len(lags) * threshold
    return total


def hpa_replicas(current: int, lag: float, threshold: float, *, tolerance: float = 0.1) -> int:
    """What the HPA wants for an external metric with an AverageValue: the lag over the target, rounded up.

    Within the tolerance, it leaves things as they are.
    """
    if current > 0 and abs(lag / (threshold * current) - 1) <= tolerance:
        return current
    return math.ceil(lag / threshold)


def executor_replicas(
    rule: Rule,
    current: int,
    *,
    active: bool,
    now: float = 0.0,
    last_active: float | None = None,
    pause_scale_in: bool = False,
    pause_scale_out: bool = False,
    forced: bool = False,
) -> int:
    """What KEDA's executor makes of ``current`` replicas. It moves to and from zero (or idle) and up to the least.

    ``last_active``: when a trigger was last active; None scales in at once, as after a scaling by hand.
    """
    asleep = rule.idle or 0
    if active or forced:
        if current <= asleep or current < rule.least:
            return current if pause_scale_out else max(rule.least, 1)
        return current
    if current > asleep and (rule.least == 0 or rule.idle is not None):
        cooled = last_active is None or last_active + rule.cooldown < now
        return asleep if cooled and not pause_scale_in else current
    return max(current, rule.least) if rule.idle is None else current


@dataclass
class Scaler:
    """The rule with its memory. Ask :meth:`poll` every ``rule.polling`` and :meth:`sync` every ``rule.sync`` seconds."""

    rule: Rule
    replicas: int = 0
    last_active: float | None = None
    _wanted: list[tuple[float, int]] = field(default_factory=list)

    def poll(self, now: float, lag: float) -> int:
        """KEDA looks: to and from zero."""
        active = lag > self.rule.activation
        before = self.replicas
        self.replicas = executor_replicas(self.rule, before, active=active, now=now, last_active=self.last_active)
        if active:
            self.last_active = now
        if self.replicas == 0:
            self._wanted.clear()
        return self.replicas

    def sync(self, now: float, lag: float) -> int:
        """The HPA looks: between one and the most. It sleeps while there are no replicas."""
        if self.replicas == 0:
            return 0
        rule = self.rule
        wanted = hpa_replicas(self.replicas, lag, rule.threshold, tolerance=rule.tolerance)
        wanted = min(max(wanted, rule.least, 1), rule.most)
        self._wanted = [(t, n) for t, n in self._wanted if t > now - rule.stabilisation] + [(now, wanted)]
        if wanted > self.replicas:
            wanted = min(wanted, max(2 * self.replicas, self.replicas + 4))
        elif wanted < self.replicas:
            wanted = min(self.replicas, max(n for _, n in self._wanted))
        self.replicas = wanted
        return wanted
