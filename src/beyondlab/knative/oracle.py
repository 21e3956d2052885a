"""Test tables of the real systems, written out as data: what their own tests expect of the algorithms in this package.

* Knative: ``TestAutoscalerScale`` of knative/serving, ``pkg/autoscaler/scaling/autoscaler_test.go`` (commit 01f103ef),
  Apache License 2.0, (c) The Knative Authors.
* KEDA: the tests of the scaling strategies in kedacore/keda, ``pkg/scaling/executor/scale_jobs_test.go`` (commit
  002180f1), Apache License 2.0, (c) The KEDA Authors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from beyondlab.knative import keda, kpa

UTILISATION = 0.75
"""What Knative's test assumes."""
RATE = 10.0
STABLE_WINDOW = 60.0


@dataclass(frozen=True)
class Tick:
    """One row of Knative's table: what the autoscaler sees, and the pods that Knative wants."""

    label: str
    target: float
    burst: float
    stable: float
    panic: float
    ready: int
    pods: int
    changes: dict[str, Any] = field(default_factory=dict)
    in_panic: int | None = None
    """The largest number of pods since a panic began, or None outside of panic."""

    @property
    def spare(self) -> int:
        """The excess burst capacity, by the helper of the source; both cases without a limit apart."""
        if self.burst <= 0:
            return int(self.burst)
        return math.floor(self.target / UTILISATION * self.ready - self.burst - self.panic)


KNATIVE: tuple[Tick, ...] = (
    Tick("no data at zero", 10, 100, 0, 0, 1, 0),
    Tick("no data at zero, explicit endpoints", 10, 100, 0, 0, 1, 0),
    Tick("unlimited burst capacity", 181, -1, 21, 26, 1, 1),
    Tick("no burst capacity", 10, 0, 50, 49, 1, 5),
    Tick("stable", 10, 100, 50, 50, 1, 5),
    Tick("in panic, stable is larger", 1, 100, 50, 30, 5, 50, in_panic=5),
    Tick("in panic, stable is less", 1, 100, 20, 30, 5, 30, in_panic=5),
    Tick("stable, already scaled", 10, 100, 50, 50, 5, 5),
    Tick("up at a small rate", 1, 1982, 3, 3.1, 2, 3, {"max_scale_up_rate": 1.1}),
    Tick("down at a small rate", 10, 1982, 1, 1, 100, 90, {"max_scale_down_rate": 1.1}),
    Tick("down, not reachable", 10, 1982, 1, 1, 100, 1, {"max_scale_down_rate": 1.1, "reachable": False}),
    Tick("panic doubles", 10, 84, 50, 100, 1, 10),
)


def spec(target: float, burst: float, **changes: Any) -> kpa.Spec:
    """The autoscaler of Knative's tests: 75 % utilisation, panic at twice the pods, rates of ten, a window of 60 s."""
    values = {"panic_threshold": 2, "max_scale_up_rate": RATE, "max_scale_down_rate": RATE, "stable_window": STABLE_WINDOW}
    return kpa.Spec(target, target / UTILISATION, burst, **(values | changes))


def decided(row: Tick) -> kpa.Decision:
    """What this package's autoscaler decides on ``row``."""
    scaler = kpa.Autoscaler(spec(row.target, row.burst, **row.changes))
    if row.in_panic is not None:
        scaler.panic_since, scaler.most_in_panic = 95.0, row.in_panic
    return scaler.scale(100.0, row.ready, row.stable, row.panic)


def knative_agrees(row: Tick) -> bool:
    """Same pods; the same excess burst capacity within one, which the source allows for rounding."""
    decision = decided(row)
    return decision.valid and decision.desired == row.pods and abs(decision.excess_burst_capacity - row.spare) <= 1


KEDA: tuple[tuple[str, dict[str, Any], tuple[int, int, int, int], int, int | None], ...] = (
    # strategy, its options, (max scale, running, pending, most replicas), limit, wished (None: not tested)
    ("default", {}, (3, 2, 0, 5), 1, None),
    ("default", {}, (2, 0, 0, 5), 2, None),
    ("custom", {"deduction": 1, "running_share": 0.5}, (3, 2, 0, 5), 1, None),
    ("custom", {"deduction": 1, "running_share": 0.5}, (10, 0, 0, 10), 9, None),
    ("custom", {}, (3, 2, 0, 5), 1, None),
    ("custom", {}, (2, 0, 0, 5), 2, None),
    ("custom", {"deduction": 2, "running_share": 0.0}, (3, 2, 0, 5), 1, None),
    ("custom", {"deduction": -2, "running_share": 0.0}, (3, 2, 0, 4), 4, None),
    ("custom", {"deduction": None, "running_share": 0.5}, (3, 2, 0, 5), 2, None),
    ("custom", {"deduction": None, "running_share": 0.5}, (10, 0, 0, 10), 10, None),
    ("accurate", {}, (3, 2, 0, 5), 3, None),
    ("accurate", {}, (5, 2, 0, 5), 3, None),
    ("accurate", {}, (3, 4, 2, 10), 1, None),
    ("accurate", {}, (5, 4, 2, 5), 1, None),
    ("accurate", {}, (3, 3, 3, 5), 0, None),
    ("accurate", {}, (15, 15, 15, 20), 0, None),
    ("accurate", {}, (10, 10, 10, 15), 0, None),
    ("accurate", {}, (20, 15, 10, 20), 5, None),
    ("eager", {}, (4, 3, 0, 10), 4, 10),
    ("eager", {}, (4, 0, 3, 10), 4, 10),
    ("eager", {}, (4, 7, 0, 10), 3, 10),
    ("eager", {}, (4, 1, 6, 10), 3, 10),
    ("eager", {}, (15, 0, 0, 10), 10, 10),
)


def keda_agrees(row: tuple[str, dict[str, Any], tuple[int, int, int, int], int, int | None]) -> bool:
    """Whether this package's strategy gives what KEDA's test expects."""
    strategy, options, (most, running, pending, replicas), limit, wished = row
    got = keda.new_jobs(strategy, max_scale=most, running=running, pending=pending, max_replicas=replicas, **options)
    return got[0] == limit and wished in (None, got[1])
