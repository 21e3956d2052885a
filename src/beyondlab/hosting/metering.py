"""What is billed of a running time: rounding up to a step, with a least time. Seconds throughout; no clock in here.

Fargate: from the start of the image's download to the end of the task, by the second, a minute at least. ACI: by the
second. Cloud Run: up to the next 100 ms. Lambda: up to the next ms. EC2: by the second, a minute at least.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from beyondlab.hosting.sizes import GIB
from beyondlab.kit import check


@dataclass(frozen=True)
class Rule:
    """Billed time is a multiple of ``step`` seconds and at least ``least``."""

    step: float
    least: float = 0.0

    def __post_init__(self) -> None:
        check.positive("step", self.step, "seconds")
        check.non_negative("least", self.least, "seconds")

    def billed(self, seconds: float) -> float:
        """Seconds on the bill for a run of ``seconds``. Raises ValueError for a negative or endless one."""
        check.non_negative("seconds", seconds)
        return max(self.least, math.ceil(round(seconds / self.step, 6)) * self.step)

    def mean_billed(self, mean: float) -> float:
        """The expectation of :meth:`billed` if running times are exponential with this ``mean``, in closed form.

        Rounding up: step / (1 - exp(-step / mean)). A least time of n steps adds the sum of P(billed <= k steps) for
        k < n, each 1 - exp(-k step / mean), once a step.
        """
        check.positive("mean", mean, "seconds")
        rounded = self.step / -math.expm1(-self.step / mean)
        steps = round(self.least / self.step)
        return rounded + math.fsum(-math.expm1(-k * self.step / mean) for k in range(1, steps)) * self.step


RULES: dict[str, Rule] = {
    "fargate": Rule(1.0, 60.0),
    "aci": Rule(1.0),
    "cloud run": Rule(0.1),
    "lambda": Rule(0.001),
    "vm": Rule(1.0, 60.0),
}


@dataclass
class Meter:
    """Counts what tasks use, by the rule of a platform, on a clock that is given: seconds, never going back."""

    rule: Rule
    clock: Callable[[], float]
    running: dict[str, tuple[float, float, int]] = field(default_factory=dict)
    ended: list[tuple[str, float, float, float, int]] = field(default_factory=list)
    """(task, seconds, billed seconds, vCPU, MiB) of each run."""

    def start(self, task: str, vcpu: float, memory: int) -> None:
        """Raises ValueError if the task runs already."""
        if task in self.running:
            raise ValueError(f"task={task!r}: is running already")
        self.running[task] = (self.clock(), vcpu, memory)

    def stop(self, task: str) -> float:
        """Billed seconds of the run. Raises ValueError if the task does not run."""
        if task not in self.running:
            raise ValueError(f"task={task!r}: is not running")
        begin, vcpu, memory = self.running.pop(task)
        seconds = self.clock() - begin
        self.ended.append((task, seconds, self.rule.billed(seconds), vcpu, memory))
        return self.ended[-1][2]

    def usd(self, vcpu_hour: float, gb_hour: float) -> float:
        """The bill for all ended runs at these prices."""
        return math.fsum(billed / 3600 * (cpu * vcpu_hour + ram / GIB * gb_hour) for _, _, billed, cpu, ram in self.ended)
