"""The horizontal pod autoscaler's arithmetic: ratio, tolerance, missing and unready pods, stabilisation, rate limits.

Follows kubernetes/kubernetes ``pkg/controller/podautoscaler/replica_calculator.go`` and ``horizontal.go`` and is held
to their tests. Times in seconds; usage and requests in milli-units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

TOLERANCE = 0.1
CPU_INITIALISATION = 120.0
"""Seconds after a pod's start in which its CPU counts only if it was measured while ready (default 5 minutes; the tests use 2)."""

INITIAL_READINESS = 30.0
"""Seconds in which an unready pod counts as never having been ready (default 30; the tests use 10)."""


class NoMetrics(ValueError):
    """There is nothing to compute from."""


@dataclass(frozen=True)
class Pod:
    """A pod as the autoscaler sees it. ``age``: seconds since its start, None before; ``changed``: seconds since its
    readiness last changed."""

    name: str
    request: int | None = 1000
    ready: bool | None = True
    phase: str = "Running"
    age: float | None = 3600.0
    changed: float | None = 3600.0
    deleted: bool = False


@dataclass(frozen=True)
class Sample:
    """A measured usage; ``taken``: seconds ago; ``window``: seconds it covers."""

    value: int
    taken: float = 0.0
    window: float = 60.0


def group(
    pods: Sequence[Pod], usage: Mapping[str, Sample], *, cpu: bool = True, initialisation: float = CPU_INITIALISATION,
    readiness: float = INITIAL_READINESS,
) -> tuple[int, set[str], set[str], set[str]]:  # fmt: skip
    """(pods that count, unready or pending, without a metric, to ignore altogether)."""
    count, unready, missing, ignored = 0, set(), set(), set()
    for pod in pods:
        if pod.deleted or pod.phase == "Failed":
            ignored.add(pod.name)
        elif pod.phase == "Pending":
            unready.add(pod.name)
        elif pod.name not in usage:
            missing.add(pod.name)
        elif cpu and _too_early(pod, usage[pod.name], initialisation, readiness):
            unready.add(pod.name)
        else:
            count += 1
    return count, unready, missing, ignored


def _too_early(pod: Pod, sample: Sample, initialisation: float, readiness: float) -> bool:
    if pod.ready is None or pod.age is None:
        return True
    if pod.age < initialisation:
        return not pod.ready or pod.changed is not None and sample.taken + sample.window > pod.changed
    return not pod.ready and pod.changed is not None and pod.age - pod.changed < readiness


def utilisation_ratio(usage: Mapping[str, int], requests: Mapping[str, int], target: float) -> float:
    """Used per requested, in whole per cent as Kubernetes counts, over ``target`` per cent."""
    asked = sum(requests[name] for name in usage if name in requests)
    if asked == 0:
        raise NoMetrics("no metrics returned matched known pods")
    return int(100 * sum(usage[name] for name in usage if name in requests) / asked) / target


def mean_ratio(usage: Mapping[str, int], target: float) -> float:
    """The mean of a plain metric, in whole units, over ``target``."""
    return (sum(usage.values()) // len(usage)) / target


def desired(
    current: int, pods: Sequence[Pod], usage: Mapping[str, Sample], target: float, *, per_request: bool = True,
    tolerance: float = TOLERANCE, initialisation: float = CPU_INITIALISATION, readiness: float = INITIAL_READINESS,
) -> int:  # fmt: skip
    """How many replicas there should be. ``target``: per cent of the request, or with ``per_request`` False the mean of a plain metric.

    Pods without a metric count as using all they may on the way down, and nothing on the way up; unready pods count as
    using nothing on the way up. If that turns the direction, nothing is done. Raises :class:`NoMetrics`.
    """
    if not pods:
        raise NoMetrics("no pods returned by selector while calculating replica count")
    if not usage:
        raise NoMetrics("no metrics returned from resource metrics API")
    count, unready, missing, ignored = group(pods, usage, cpu=per_request, initialisation=initialisation, readiness=readiness)
    known = {name: sample.value for name, sample in usage.items() if name not in unready | ignored}
    requests = {pod.name: pod.request for pod in pods}
    if per_request and any(request is None for request in requests.values()):
        raise NoMetrics("missing request for cpu")
    if not known:
        raise NoMetrics("did not receive metrics for any ready pods")

    def ratio_of(values: Mapping[str, int]) -> float:
        return utilisation_ratio(values, requests, target) if per_request else mean_ratio(values, target)

    ratio = ratio_of(known)
    rebalance = bool(unready) and ratio > 1
    if not rebalance and not missing:
        return current if abs(1 - ratio) <= tolerance else math.ceil(ratio * count)
    filled = dict(known)
    for name in missing:
        if ratio < 1:
            filled[name] = requests[name] if per_request else int(target)
        elif ratio > 1:
            filled[name] = 0
    if rebalance:
        filled |= dict.fromkeys(unready, 0)
    again = ratio_of(filled)
    if abs(1 - again) <= tolerance or (ratio < 1 < again) or (ratio > 1 > again):
        return current
    wanted = math.ceil(again * len(filled))
    return current if (again < 1 and wanted > current) or (again > 1 and wanted < current) else wanted


def of_object(current: int, ready: int, value: int, target: int, *, tolerance: float = TOLERANCE) -> int:
    """From one value for all pods, such as a queue's length, against a target for the whole."""
    ratio = value / target
    if current == 0:
        return math.ceil(ratio)
    return current if abs(1 - ratio) <= tolerance else math.ceil(ratio * ready)


def of_object_per_pod(current: int, value: int, target: int, *, tolerance: float = TOLERANCE) -> int:
    """From one value for all pods against a target for each."""
    return current if abs(1 - value / (target * current)) <= tolerance else math.ceil(value / target)


@dataclass
class Stabiliser:
    """Down no further than the highest wish of the last ``down`` seconds, up no further than the lowest of the last ``up``.

    Kubernetes' defaults: 300 s down, 0 s up (``behavior.scaleDown.stabilizationWindowSeconds``).
    """

    down: float = 300.0
    up: float = 0.0

    def __post_init__(self) -> None:
        self._wishes: list[tuple[float, int]] = []

    def settle(self, now: float, current: int, wish: int) -> int:
        """The replicas to have now, at time ``now`` in seconds, if the formula says ``wish``."""
        lowest = min([wish, *(w for t, w in self._wishes if t > now - self.up)])
        highest = max([wish, *(w for t, w in self._wishes if t > now - self.down)])
        self._wishes = [(t, w) for t, w in self._wishes if t > now - max(self.up, self.down)] + [(now, wish)]
        return min(max(current, lowest), highest)
