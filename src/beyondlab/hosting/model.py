"""Spot interruptions, and what rounding costs. Pure functions, seeded.

AWS publishes no rate of interruption for Fargate Spot. What it publishes is two minutes of notice, and that the task gets
its ``stopTimeout`` between SIGTERM and SIGKILL: 30 s by default, 120 s at most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from beyondlab.hosting import sizes
from beyondlab.hosting.placement import POLICIES, least_hosts, pack
from beyondlab.kit import check, prices
from beyondlab.sim import workloads

NOTICE = 120.0
"""Seconds of notice before a Spot task ends."""


@dataclass(frozen=True)
class Spot:
    """``interruptions``: of all tasks. ``short``: share of the time with fewer than all tasks up. ``down``: mean share of
    the tasks that are down. ``lost``: share of the jobs in work at an interruption that did not end in time."""

    interruptions: int
    short: float
    down: float
    lost: float


def spot(
    tasks: int, *, days: float, every: float, back: float, job: float, stop_timeout: float = 30.0, seed: int = 1
) -> Spot:
    """Simulate ``tasks`` on Spot capacity for ``days``.

    Each is interrupted after an exponential time of mean ``every`` hours; capacity for its successor is found after one of
    mean ``back`` seconds, counted from the end of the old one. Jobs take an exponential time of mean ``job`` seconds.
    Raises ValueError for a number that is not positive, or a ``stop_timeout`` beyond the notice.
    """
    check.all_positive(tasks=tasks, days=days, every=every, back=back, job=job)
    if not 0 <= stop_timeout <= NOTICE:
        raise ValueError(f"stop_timeout={stop_timeout!r}: must be 0 to {NOTICE:g} seconds")
    rng = np.random.default_rng(seed)
    horizon = days * 86_400
    begins, ends = [], []
    for _ in range(tasks):
        count = int(horizon / (every * 3600 + back) * 1.5) + 50
        cycle = np.column_stack([rng.exponential(every * 3600, count), rng.exponential(back, count)]).ravel().cumsum()
        down, up = cycle[0::2], cycle[1::2]
        begins.append(down[down < horizon])
        ends.append(np.minimum(up[: begins[-1].size], horizon))
    begin, end = np.concatenate(begins), np.concatenate(ends)
    left = rng.exponential(job, begin.size)
    return Spot(
        interruptions=begin.size,
        short=_union(begin, end) / horizon,
        down=float((end - begin).sum()) / horizon / tasks,
        lost=float((left > stop_timeout).mean()) if begin.size else 0.0,
    )


def _union(begin: NDArray[np.float64], end: NDArray[np.float64]) -> float:
    """Length of the union of intervals."""
    if not begin.size:
        return 0.0
    order = begin.argsort()
    begin, end = begin[order], np.maximum.accumulate(end[order])
    new = np.append(True, begin[1:] > end[:-1])
    return float(np.append(end[:-1][new[1:]], end[-1]).sum() - begin[new].sum())


def spot_down(every: float, back: float) -> float:
    """Mean share of the tasks that are down, in closed form: ``back`` seconds of ``every`` hours and ``back`` seconds."""
    return back / (every * 3600 + back)


def spot_short(tasks: int, every: float, back: float) -> float:
    """Share of the time with fewer than all tasks up, in closed form: tasks go down independently of each other."""
    return 1 - (1 - spot_down(every, back)) ** tasks


def job_lost(job: float, stop_timeout: float) -> float:
    """Probability that a job in work needs more than the time-out: it has no memory if its time is exponential."""
    return math.exp(-stop_timeout / job)


def needs(count: int, seed: int = 1) -> list[tuple[float, float]]:
    """What ``count`` applications need, vCPU and MiB. Memory is spread as published for Azure Functions, and doubled;
    CPU log-normally around 0.4 (both chosen). At least 0.05 vCPU and 64 MiB, at most 4 and 8,192."""
    rng = np.random.default_rng(seed)
    memory = np.clip(2 * workloads.memory_mb(count, rng), 64, 8192)
    cpu = np.clip(0.4 * rng.lognormal(0.0, 0.9, count), 0.05, 4.0)
    return [(round(float(c), 3), math.ceil(m)) for c, m in zip(cpu, memory)]


def shapes(count: int, seed: int = 1) -> list[tuple[float, int]]:
    """Sizes of ``count`` Fargate tasks (vCPU, MiB): each of the sizes up to 4 vCPU that are sold is as likely."""
    sold = [(cpu / 1024, memory) for cpu, row in sizes.FARGATE.items() if cpu <= 4096 for memory in row]
    return [sold[k] for k in np.random.default_rng(seed).integers(0, len(sold), count)]


def rounding_waste(wanted: Sequence[tuple[float, float]], platform: str) -> float:
    """How much more is paid for sizes than for needs, as a share, both at the prices of Fargate."""
    vcpu, memory = prices.price("fargate.vcpu-x86"), prices.price("fargate.memory-x86")

    def usd(c: float, m: float) -> float:
        return c * vcpu + m / sizes.GIB * memory

    bought = [sizes.nearest(platform, *need) for need in wanted]
    return math.fsum(usd(s.vcpu, s.memory) for s in bought) / math.fsum(usd(*need) for need in wanted) - 1


def packing(wanted: Sequence[tuple[float, int]], *, vcpu: float = 8.0, memory: int = 32768) -> dict[str, int]:
    """Hosts that each policy uses, in the order given and with the largest first; and the least that could do."""
    larger = sorted(wanted, key=lambda need: max(need[0] / vcpu, need[1] / memory), reverse=True)
    found = {}
    for policy in POLICIES:
        found[policy] = len(pack(wanted, policy, vcpu=vcpu, memory=memory))
        found[f"{policy}, largest first"] = len(pack(larger, policy, vcpu=vcpu, memory=memory))
    return found | {"lower bound": least_hosts(wanted, vcpu=vcpu, memory=memory)}
