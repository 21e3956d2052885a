"""Load balancing: each request is given to one of several servers, each with a queue of its own.

Policies:

* ``"random"``: any server;
* ``"round robin"``: one after the other;
* ``"two choices"``: of two different servers drawn at random the one with fewer requests; the first drawn, if equal
  (M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 12(10), 2001);
* ``"least connections"``: the server with the fewest requests, waiting or in service; any of them, if several.

All times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beyondlab.kit import check
from beyondlab.sim import _check, _queue_kernels, engines
from beyondlab.sim._check import Seed
from beyondlab.sim.engines import Engine
from beyondlab.sim.queues import inputs

Policy = Literal["random", "round robin", "two choices", "least connections"]
POLICIES: dict[str, int] = {
    "random": _queue_kernels.RANDOM,
    "round robin": _queue_kernels.ROUND_ROBIN,
    "two choices": _queue_kernels.TWO_CHOICES,
    "least connections": _queue_kernels.LEAST_CONNECTIONS,
}
"""Name of a policy -> its number in the kernel."""

Array = NDArray[np.float64]
MOST_SERVERS = 1_000_000


@dataclass(frozen=True, eq=False)
class BalanceResult:
    """What happened to each request. Arrays of shape (requests,), in the order of the arrivals.

    ``arrival`` is the array given, if it was a contiguous float64 array: do not change that.
    """

    arrival: Array
    start: Array
    """When its service began."""
    service: Array
    """Seconds of its service, at the speed of its server."""
    server: NDArray[np.int64]
    """Which server got it, from 0."""
    servers: int

    @property
    def wait(self) -> Array:
        """Seconds from arrival to the beginning of service."""
        return self.start - self.arrival

    @property
    def response(self) -> Array:
        """Seconds from arrival to the end of service."""
        return self.wait + self.service

    @property
    def requests(self) -> NDArray[np.int64]:
        """Requests of each server, shape (servers,)."""
        return np.bincount(self.server, minlength=self.servers)


def balance(
    arrivals: ArrayLike,
    service: ArrayLike,
    servers: int,
    policy: Policy,
    seed: Seed,
    *,
    speeds: ArrayLike | None = None,
    engine: Engine = "auto",
) -> BalanceResult:
    """Give each request to a server as it comes; each server serves its own first come, first served.

    Parameters
    ----------
    arrivals, service, engine
        As for :func:`beyondlab.sim.queues.queue`; service times at speed 1.
    servers
        From 1 to 1,000,000.
    policy
        One of :data:`POLICIES`.
    seed
        Integer or numpy Generator. Two numbers are drawn for each request, whatever the policy.
    speeds
        Speed of each server, shape (servers,), finite and greater than 0; 1 by default. A service time is divided by
        it.

    Raises
    ------
    ValueError
        If the input is not as said.
    """
    times, seconds = inputs(arrivals, service)
    servers = check.whole("servers", servers, 1)
    if servers > MOST_SERVERS:
        raise ValueError(f"servers={servers!r}: must be at most {MOST_SERVERS:,}")
    if not isinstance(policy, str) or policy not in POLICIES:
        raise ValueError(f"policy={policy!r}: must be one of {', '.join(map(repr, POLICIES))}")
    speed = np.ones(servers) if speeds is None else np.ascontiguousarray(_check.vector("speeds", speeds))
    if speed.size != servers:
        raise ValueError(f"speeds: must have one entry for each of the {servers} servers, got {speed.size}")
    for place, value in enumerate(speed.tolist()):
        check.positive(f"speeds[{place}]", value)
    draw = _check.generator(seed).random((times.size, 2))
    server, start = np.empty(times.size, np.int64), np.empty(times.size)
    engines.chosen(_queue_kernels.balanced, engine)(times, seconds, speed, POLICIES[policy], draw, server, start)
    return BalanceResult(times, start, seconds / speed[server], server, servers)
