"""KEDA's scaled jobs: how many jobs to start for a queue, by four strategies; and the HPA's rule that KEDA feeds.

The strategies are those of kedacore/keda, ``pkg/scaling/executor/scale_jobs.go``; the tests hold them to
``scale_jobs_test.go``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from beyondlab.kit import check
from beyondlab.sim.queues import inputs

Strategy = Literal["default", "custom", "accurate", "eager"]
STRATEGIES: tuple[Strategy, ...] = ("default", "custom", "accurate", "eager")


def new_jobs(
    strategy: Strategy,
    *,
    max_scale: int,
    running: int,
    pending: int,
    max_replicas: int,
    scale_to: int = 1,
    deduction: int | None = 0,
    running_share: float | None = None,
) -> tuple[int, int]:
    """(limit, wished): KEDA starts the smaller of the two, never less than none.

    ``max_scale``: jobs that the queue asks for, at most ``max_replicas``. ``pending``: those of the ``running`` whose
    pod does not run yet. ``deduction`` and ``running_share`` belong to "custom"; without a share it acts as "default".
    Raises ValueError for a strategy that KEDA does not have.
    """
    check.one_of("strategy", strategy, STRATEGIES)
    if strategy == "custom" and running_share is not None:
        return min(max_scale - (deduction or 0) - int(running * running_share), max_replicas), scale_to
    if strategy == "accurate":
        return min(max_scale - pending, max_replicas - running), scale_to
    if strategy == "eager":
        return min(max_replicas - running - pending, max_scale), max_replicas
    return max_scale - running, scale_to


def decide(
    strategy: Strategy, *, scale_to: int, max_scale: int, running: int, pending: int, max_replicas: int, min_replicas: int = 0
) -> tuple[int, int]:
    """:func:`new_jobs`, but first fill up to ``min_replicas``, which the strategy does not count as running."""
    if running < min_replicas:
        return min_replicas - running, min_replicas - running
    return new_jobs(strategy, max_scale=max_scale, running=running - min_replicas, pending=pending,
                    max_replicas=max_replicas, scale_to=scale_to)  # fmt: skip


def hpa_desired(current: int, metric: float, target: float, *, tolerance: float = 0.1) -> int:
    """The Horizontal Pod Autoscaler's rule: ceil(current x metric / target), unless the ratio is within ``tolerance`` of 1.

    ``metric`` and ``target`` are for one pod. Source: Kubernetes documentation, "Horizontal Pod Autoscaling".
    Raises ValueError if ``target`` is not positive or ``current`` is negative.
    """
    check.positive("target", target)
    check.whole("current", current, 0)
    ratio = metric / target
    return current if abs(ratio - 1) <= tolerance else math.ceil(current * ratio - 1e-9)


@dataclass(frozen=True, eq=False)
class JobsResult:
    """A simulated queue that jobs work off. ``waits``: seconds from each message's arrival to its start."""

    waits: Any
    jobs: int
    idle_jobs: int
    """Jobs that found the queue empty when they ran."""
    peak: int
    job_seconds: float


def simulate_jobs(
    arrivals: Any,
    service: Any,
    strategy: Strategy,
    *,
    poll: float = 30.0,
    start: float = 2.0,
    max_replicas: int = 100,
    counts_locked: bool = True,
) -> JobsResult:
    """Messages come at ``arrivals``; every ``poll`` seconds KEDA starts jobs; a job takes one message and ends.

    ``service``: seconds of work of each message; ``start``: seconds until a job's pod runs. ``counts_locked``: whether
    the queue's length includes messages in work, as for RabbitMQ's unacknowledged ones, or not, as for Azure's storage
    queue. Raises ValueError if arrivals are not sorted, arrays differ in length, or a time is not positive.
    """
    arrivals, service = inputs(arrivals, service)
    check.positive("poll", poll, "seconds")
    check.non_negative("start", start, "seconds")
    waits = np.full(arrivals.size, np.nan)
    jobs: list[list[float]] = []
    taken = started = idle = peak = 0
    spent, now = 0.0, 0.0
    while taken < arrivals.size:
        jobs = _run_until(now, jobs, arrivals, service, waits, state := [taken, idle, spent])
        taken, idle, spent = int(state[0]), int(state[1]), state[2]
        came = int(np.searchsorted(arrivals, now, side="right"))
        busy = sum(job[1] >= 0 for job in jobs)
        length = came - taken + (busy if counts_locked else 0)
        wanted = min(length, max_replicas)
        limit, wished = decide(strategy, scale_to=wanted, max_scale=wanted, running=len(jobs),
                               pending=len(jobs) - busy, max_replicas=max_replicas)  # fmt: skip
        fresh = max(0, min(limit, wished)) if length else 0
        jobs += [[now + start, -1.0] for _ in range(fresh)]
        started += fresh
        peak = max(peak, len(jobs))
        if not jobs and came < arrivals.size:
            now = math.ceil(max(arrivals[came], now + 1e-9) / poll) * poll
        else:
            now += poll
    return JobsResult(waits, started, idle, peak, spent)


def _run_until(now: float, jobs: list[list[float]], arrivals: Any, service: Any, waits: Any, state: list[float]) -> list[list[float]]:
    """Let each job [time it runs, end or -1] take a message when its pod runs, up to ``now``; those that go on."""
    left = []
    for ready, end in sorted(jobs):
        if end < 0 and ready <= now:
            message = int(state[0])
            if message < arrivals.size and arrivals[message] <= ready:
                waits[message] = ready - arrivals[message]
                state[0] += 1
                end = ready + service[message]
                state[2] += service[message]
            else:
                state[1] += 1
                continue
        if end < 0 or end > now:
            left.append([ready, end])
    return left
