"""The Knative Pod Autoscaler (KPA), as pure functions: from concurrency, or requests a second, to a number of pods.

Rules and bounds are those of Knative Serving: ``pkg/autoscaler/scaling/autoscaler.go``, ``pkg/autoscaler/config``,
``pkg/apis/autoscaling`` and ``pkg/reconciler/autoscaling/resources/target.go``. The tests hold this file to Knative's
own test tables. No clock: the caller says what time it is, in seconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal

from beyondlab.knative.aggregation import MaxTimeWindow, WeightedAverage, WindowAverage

TICK = 2.0
"""Seconds between two decisions."""
BUCKET = 1.0
"""Seconds of one bucket of metrics."""
TARGET_LEAST = 0.01
WINDOW_BOUNDS = (6.0, 3600.0)
PANIC_WINDOW_BOUNDS = (1.0, 100.0)
PANIC_THRESHOLD_BOUNDS = (110.0, 1000.0)

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


def seconds(text: str) -> float:
    """A duration as Go writes it, such as ``2m3s`` or ``500ms``. Raises ValueError for anything else."""
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    if rest == "0":
        return 0.0
    if not rest or _PART.sub("", rest):
        raise ValueError(f"{text!r}: not a duration; write it like 60s, 2m3s or 500ms")
    return sign * sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(rest))


@dataclass(frozen=True)
class Settings:
    """What an operator sets in ``config-autoscaler``, with Knative's defaults. Times in seconds, rates as factors.

    Raises ValueError, naming key, value and bounds, for what Knative refuses.
    """

    container_concurrency_target_default: float = 100.0
    container_concurrency_target_fraction: float = 0.7
    requests_per_second_target_default: float = 200.0
    target_utilization: float = 0.7
    target_burst_capacity: float = 211.0
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    stable_window: float = 60.0
    panic_window_percentage: float = 10.0
    panic_threshold_percentage: float = 200.0
    scale_down_delay: float = 0.0
    scale_to_zero_grace_period: float = 30.0
    scale_to_zero_pod_retention_period: float = 0.0
    enable_scale_to_zero: bool = True
    activator_capacity: float = 100.0
    initial_scale: int = 1
    allow_zero_initial_scale: bool = False
    activation_scale: int = 1
    min_scale: int = 0
    max_scale: int = 0
    max_scale_limit: int = 0
    aggregation: Literal["linear", "weighted-exponential"] = "linear"

    def __post_init__(self) -> None:
        for check in (self._check_targets, self._check_rates, self._check_windows, self._check_scales):
            check()

    def _refuse(self, name: str, allowed: str) -> None:
        written = name.replace("_fraction", "_percentage").replace("_", "-")
        raise ValueError(f"{written}={getattr(self, name)!r}: {allowed}")

    def _check_targets(self) -> None:
        if not 0 < self.container_concurrency_target_fraction <= 1:
            self._refuse("container_concurrency_target_fraction", "must be above 0 and at most 1 (100 %)")
        if self.container_concurrency_target_fraction * self.container_concurrency_target_default < TARGET_LEAST:
            self._refuse("container_concurrency_target_default", f"times its fraction must be at least {TARGET_LEAST}")
        if not self.requests_per_second_target_default >= TARGET_LEAST:
            self._refuse("requests_per_second_target_default", f"must be at least {TARGET_LEAST}")
        if not (self.target_burst_capacity >= 0 or self.target_burst_capacity == -1):
            self._refuse("target_burst_capacity", "must be 0 or more, or -1 for unlimited")
        if not self.activator_capacity >= 1:
            self._refuse("activator_capacity", "must be at least 1")

    def _check_rates(self) -> None:
        for name in ("max_scale_up_rate", "max_scale_down_rate"):
            if not getattr(self, name) > 1:
                self._refuse(name, "must be greater than 1")

    def _check_windows(self) -> None:
        low, high = WINDOW_BOUNDS
        if not low <= self.stable_window <= high:
            self._refuse("stable_window", f"must be between {low:g} and {high:g} seconds")
        for name in ("stable_window", "scale_down_delay"):
            if getattr(self, name) != round(getattr(self, name)):
                self._refuse(name, "must be whole seconds")
        if not 0 <= self.scale_down_delay <= high:
            self._refuse("scale_down_delay", f"must be between 0 and {high:g} seconds")
        if not self.scale_to_zero_grace_period > 0:
            self._refuse("scale_to_zero_grace_period", "must be positive")
        if not 0 <= self.scale_to_zero_pod_retention_period <= high:
            self._refuse("scale_to_zero_pod_retention_period", f"must be between 0 and {high:g} seconds")
        for name, (least, most) in {
            "panic_window_percentage": PANIC_WINDOW_BOUNDS,
            "panic_threshold_percentage": PANIC_THRESHOLD_BOUNDS,
        }.items():
            if not least <= getattr(self, name) <= most:
                self._refuse(name, f"must be between {least:g} and {most:g}")

    def _check_scales(self) -> None:
        if self.initial_scale < 0 or (self.initial_scale == 0 and not self.allow_zero_initial_scale):
            self._refuse("initial_scale", "must be at least 1, or 0 where allow-zero-initial-scale is true")
        for name in ("min_scale", "max_scale", "max_scale_limit"):
            if getattr(self, name) < 0:
                self._refuse(name, "must be 0 or more")
        if self.max_scale and self.max_scale < self.min_scale:
            self._refuse("max_scale", f"must not be less than min-scale={self.min_scale}")
        if self.max_scale_limit and not 1 <= self.max_scale <= self.max_scale_limit:
            self._refuse("max_scale", f"must be between 1 and max-scale-limit={self.max_scale_limit}")
        if self.activation_scale < 1:
            self._refuse("activation_scale", "must be at least 1")
        if self.aggregation not in ("linear", "weighted-exponential"):
            self._refuse("aggregation", "must be 'linear' or 'weighted-exponential'")

    @property
    def panic_window(self) -> float:
        """Seconds; at least one bucket."""
        return max(BUCKET, self.stable_window * self.panic_window_percentage / 100)

    @classmethod
    def from_config(cls, data: Mapping[str, str]) -> Settings:
        """From the texts of a ConfigMap, such as ``{"stable-window": "40s"}``. Unknown keys are left alone.

        A target percentage above 1 is taken as per cent. Raises ValueError for what cannot be read or is refused.
        """
        return cls(**_read(data, _CONFIG))

    def annotated(self, annotations: Mapping[str, str]) -> Settings:
        """These settings with the ``autoscaling.knative.dev/...`` annotations of a revision on top.

        Raises ValueError for what Knative's webhook refuses.
        """
        prefix = "autoscaling.knative.dev/"
        own = {key.removeprefix(prefix): value for key, value in annotations.items() if key.startswith(prefix)}
        return replace(self, **_read(own, _ANNOTATIONS))


def _fraction(text: str) -> float:
    value = float(text)
    return value / 100 if value > 1 else value


def _percent(text: str) -> float:
    value = float(text)
    if not 1 <= value <= 100:
        raise ValueError("must be between 1 and 100")
    return value / 100


def _whole(text: str) -> int:
    if not re.fullmatch(r"[+-]?\d+", text):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


_CONFIG = {
    "container-concurrency-target-percentage": ("container_concurrency_target_fraction", _fraction),
    "container-concurrency-target-default": ("container_concurrency_target_default", float),
    "requests-per-second-target-default": ("requests_per_second_target_default", float),
    "target-burst-capacity": ("target_burst_capacity", float),
    "max-scale-up-rate": ("max_scale_up_rate", float),
    "max-scale-down-rate": ("max_scale_down_rate", float),
    "stable-window": ("stable_window", seconds),
    "panic-window-percentage": ("panic_window_percentage", float),
    "panic-threshold-percentage": ("panic_threshold_percentage", float),
    "scale-down-delay": ("scale_down_delay", seconds),
    "scale-to-zero-grace-period": ("scale_to_zero_grace_period", seconds),
    "scale-to-zero-pod-retention-period": ("scale_to_zero_pod_retention_period", seconds),
    "enable-scale-to-zero": ("enable_scale_to_zero", _boolean),
    "allow-zero-initial-scale": ("allow_zero_initial_scale", _boolean),
    "activator-capacity": ("activator_capacity", float),
    "initial-scale": ("initial_scale", _whole),
    "max-scale": ("max_scale", _whole),
    "max-scale-limit": ("max_scale_limit", _whole),
}
_ANNOTATIONS = {
    "window": ("stable_window", seconds),
    "panic-window-percentage": ("panic_window_percentage", float),
    "panic-threshold-percentage": ("panic_threshold_percentage", float),
    "target-utilization-percentage": ("container_concurrency_target_fraction", _percent),
    "target-burst-capacity": ("target_burst_capacity", float),
    "scale-down-delay": ("scale_down_delay", seconds),
    "scale-to-zero-pod-retention-period": ("scale_to_zero_pod_retention_period", seconds),
    "min-scale": ("min_scale", _whole),
    "max-scale": ("max_scale", _whole),
    "initial-scale": ("initial_scale", _whole),
    "activation-scale": ("activation_scale", _whole),
    "metric-aggregation-algorithm": ("aggregation", str),
}


def _read(data: Mapping[str, str], known: Mapping[str, tuple[str, object]]) -> dict[str, object]:
    values = {}
    for key, text in data.items():
        if key in known:
            name, reader = known[key]
            try:
                values[name] = reader(text)
            except ValueError as error:
                raise ValueError(f"{key}={text!r}: {error}") from None
    return values


def resolve_target(
    settings: Settings,
    *,
    metric: Literal["concurrency", "rps"] = "concurrency",
    container_concurrency: int = 0,
    target: float | None = None,
    utilization: float | None = None,
) -> tuple[float, float]:
    """(what the autoscaler aims at, what a pod can take), both for one pod.

    ``target`` and ``utilization`` (a share) are the annotations, ``container_concurrency`` the hard limit of the
    revision, 0 for none. A concurrency target above the hard limit is ignored.
    """
    if metric == "rps":
        total, share = settings.requests_per_second_target_default, settings.target_utilization
    else:
        total = float(container_concurrency or settings.container_concurrency_target_default)
        share = settings.container_concurrency_target_fraction
    if target is not None:
        limited = metric == "concurrency" and container_concurrency
        total = min(target, container_concurrency) if limited else target
    share = share if utilization is None else utilization
    return max(TARGET_LEAST, total * share), total


@dataclass(frozen=True)
class Spec:
    """What one revision's autoscaler works with. ``target_value`` and ``total_value``: see :func:`resolve_target`."""

    target_value: float
    total_value: float
    target_burst_capacity: float = 211.0
    panic_threshold: float = 2.0
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    stable_window: float = 60.0
    scale_down_delay: float = 0.0
    activation_scale: int = 1
    reachable: bool = True

    @classmethod
    def of(cls, settings: Settings, *, reachable: bool = True, **target: object) -> Spec:
        """From ``settings``; further arguments go to :func:`resolve_target`."""
        aimed, total = resolve_target(settings, **target)
        names = {field.name for field in fields(cls)} & {field.name for field in fields(settings)}
        return cls(
            target_value=aimed,
            total_value=total,
            panic_threshold=settings.panic_threshold_percentage / 100,
            reachable=reachable,
            **{name: getattr(settings, name) for name in names},
        )


@dataclass(frozen=True)
class Decision:
    """What one tick gives: pods wanted, and the capacity left for a burst (negative: keep the activator in the path).

    ``valid`` is False when there was nothing to decide on; then the scale stays as it is.
    """

    desired: int
    excess_burst_capacity: int
    valid: bool = True


INVALID = Decision(0, 0, valid=False)


class Autoscaler:
    """The decisions of one revision. ``ready`` is the number of ready pods when it starts: above one it starts in panic."""

    def __init__(self, spec: Spec, *, ready: int = 0, now: float = 0.0) -> None:
        self.spec = spec
        self.panic_since: float | None = now if ready > 1 else None
        """When the panic was last confirmed; None outside of panic."""
        self.most_in_panic = ready
        self._delay = MaxTimeWindow(spec.scale_down_delay, TICK) if spec.scale_down_delay > 0 else None

    def scale(self, now: float, ready: int | None, stable: float | None, panic: float | None) -> Decision:
        """One tick. ``stable`` and ``panic``: the metric of the whole revision, averaged over the two windows.

        None for ``ready`` or the metrics means that they could not be read.
        """
        if ready is None or stable is None or panic is None:
            return INVALID
        spec, pods = self.spec, max(1, ready)
        most = math.ceil(spec.max_scale_up_rate * pods)
        least = math.floor(pods / spec.max_scale_down_rate) if spec.reachable else 0
        wanted, wanted_now = math.ceil(stable / spec.target_value), math.ceil(panic / spec.target_value)
        steady, urgent = (min(max(n, least), most) for n in (wanted, wanted_now))
        if wanted > 0:
            steady = max(steady, spec.activation_scale) if spec.activation_scale > 1 else steady
        if wanted_now > 0:
            urgent = max(urgent, spec.activation_scale) if spec.activation_scale > 1 else urgent
        self._mind_panic(now, wanted_now / pods >= spec.panic_threshold)
        desired = steady
        if self.panic_since is not None:
            self.most_in_panic = max(self.most_in_panic, steady, urgent)
            desired = self.most_in_panic
        if self._delay is not None and spec.reachable:
            self._delay.record(now, desired)
            desired = int(self._delay.current())
        return Decision(desired, excess_burst_capacity(spec, ready, panic))

    def _mind_panic(self, now: float, over: bool) -> None:
        if over:
            self.panic_since = now
        elif self.panic_since is not None and now > self.panic_since + self.spec.stable_window:
            self.panic_since, self.most_in_panic = None, 0


def excess_burst_capacity(spec: Spec, ready: int, panic: float) -> int:
    """Capacity of the ready pods, less the burst that must be taken at once, less what is in flight now.

    Negative: requests go through the activator, which can queue them. 0 for a target burst capacity of 0, -1 for -1.
    """
    if spec.target_burst_capacity == 0:
        return 0
    if spec.target_burst_capacity < 0:
        return -1
    return math.floor(ready * spec.total_value - spec.target_burst_capacity - panic)


def activators(spec: Spec, replicas: int, capacity: float = 100.0) -> int:
    """How many activators a revision of ``replicas`` is given: two at least."""
    if spec.target_burst_capacity < 0:
        return max(2, math.ceil(replicas * spec.total_value / capacity))
    return max(2, math.ceil((replicas * spec.total_value + spec.target_burst_capacity) / capacity))


class Metrics:
    """The two windows of one revision: what is in flight, averaged over the stable and over the panic window."""

    def __init__(self, settings: Settings) -> None:
        kind = WeightedAverage if settings.aggregation == "weighted-exponential" else WindowAverage
        self.stable, self.panic = kind(settings.stable_window, BUCKET), kind(settings.panic_window, BUCKET)

    def record(self, now: float, value: float) -> None:
        self.stable.record(now, value)
        self.panic.record(now, value)

    def averages(self, now: float) -> tuple[float, float]:
        return self.stable.average(now), self.panic.average(now)
