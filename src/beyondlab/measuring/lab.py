"""The lab of "Measuring and simulating": a real HTTP server with a known service time, and two load generators.

The generators run in a thread with an event loop of its own, so that they work inside a notebook, and send to this
machine only. All times are seconds from the start of a run.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tornado.httpclient import AsyncHTTPClient
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from beyondlab.kit import check, load, processes
from beyondlab.kit.recordings import Lab
from beyondlab.measuring.server import LISTENS
from beyondlab.sim.queues import inputs

LONGEST = 30.0
"""Seconds after which a request is given up, and the most that a run may be planned for."""

Array = NDArray[np.float64]


def missing() -> str | None:
    """Why the lab cannot run here; None if it can."""
    if sys.platform == "win32":
        return "the lab starts processes in the way of Unix"
    if importlib.util.find_spec("tornado") is None:
        return "tornado is not installed"
    return None


lab = Lab("measuring", missing=missing, components=["tornado"])
"""The recordings of this chapter: decorate an experiment with ``@lab.experiment``."""


@dataclass(frozen=True)
class Run:
    """The requests of one run. Arrays of shape (requests,), in seconds from the start of the run."""

    intended: Array
    """When the plan wanted to send."""
    sent: Array
    """When the request was sent."""
    done: Array
    """When its answer was there."""
    waited: Array
    """Seconds that it waited for its turn, as the server says."""
    served: Array
    """Seconds that it was in service, as the server says."""

    @property
    def response(self) -> Array:
        """What a user feels: from the moment they wanted it to the answer."""
        return self.done - self.intended

    @property
    def from_sending(self) -> Array:
        """What a careless tool reports: from the moment it got round to sending."""
        return self.done - self.sent

    @property
    def observed_seconds(self) -> float:
        """From the first request sent to the last answer: from an empty system to an empty one."""
        return float(self.done.max() - self.sent.min())


class Server:
    """The server of :mod:`beyondlab.measuring.server` as a process. A context manager.

    ``workers`` requests are in service at once. Raises ValueError if that is less than 1.
    """

    def __init__(self, *, workers: int = 1) -> None:
        check.whole("workers", workers, 1)
        self._process = processes.Process(
            [sys.executable, "-m", "beyondlab.measuring.server", str(workers)],
            name="the server",
            ready=lambda process: LISTENS.search(process.output()) is not None,
            timeout=15.0,
        )

    def __enter__(self) -> Server:
        self._process.start()
        self._port = int(LISTENS.search(self._process.output())[1])
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()

    def url(self, path: str, seconds: float) -> str:
        return f"http://127.0.0.1:{self._port}/{path}?seconds={seconds:.6f}"

    def open_loop(self, arrivals: ArrayLike, service: ArrayLike, *, stall: tuple[float, float] | None = None) -> Run:
        """Send a request at each of ``arrivals``, whether or not earlier ones are answered, as many users do.

        ``service`` are the seconds of service of each. ``stall`` is (when, how long) the server stands still.
        Raises ValueError if the two differ in length, are not sorted or not finite, or the run is longer than 30 s.
        """
        plan, seconds = _plan(arrivals, service)

        async def send(one: Callable[[int], Awaitable[None]], wait_for: Callable[[float], Awaitable[None]]) -> None:
            await load.at_each(plan, one, wait_for)

        return self._run(plan, seconds, stall, send)

    def closed_loop(self, arrivals: ArrayLike, service: ArrayLike, *, stall: tuple[float, float] | None = None) -> Run:
        """One client with the same plan that waits for each answer before it sends the next request.

        Arguments and errors as in :meth:`open_loop`.
        """
        plan, seconds = _plan(arrivals, service)

        async def send(one: Callable[[int], Awaitable[None]], wait_for: Callable[[float], Awaitable[None]]) -> None:
            for index in range(plan.size):
                await wait_for(plan[index])
                await one(index)

        return self._run(plan, seconds, stall, send)

    def _run(self, plan: Array, seconds: Array, stall: tuple[float, float] | None, send: Any) -> Run:
        columns = np.full((4, plan.size), np.nan)

        async def drive() -> None:
            client = SimpleAsyncHTTPClient(force_instance=True, max_clients=max(8, plan.size + 1))
            start = time.perf_counter()

            async def wait_for(moment: float) -> None:
                await asyncio.sleep(max(0.0, start + moment - time.perf_counter()))

            async def one(index: int) -> None:
                begin = time.perf_counter() - start
                answer = await _fetch(client, self.url("work", seconds[index]))
                columns[:, index] = begin, time.perf_counter() - start, answer["waited"], answer["served"]

            async def stand_still() -> None:
                when, how_long = stall
                await wait_for(when)
                await _fetch(client, self.url("stall", how_long))

            try:
                await asyncio.gather(send(one, wait_for), *([stand_still()] if stall else []))
            finally:
                client.close()

        load.in_a_thread(drive)
        return Run(plan, *columns)


async def _fetch(client: AsyncHTTPClient, url: str) -> dict[str, float]:
    response = await client.fetch(url, connect_timeout=LONGEST, request_timeout=LONGEST)
    return json.loads(response.body)


def _plan(arrivals: ArrayLike, service: ArrayLike) -> tuple[Array, Array]:
    plan, seconds = inputs(arrivals, service)
    if not plan.size:
        raise ValueError("arrivals=[]: must be at least one moment")
    if plan[-1] > LONGEST:
        raise ValueError(f"arrivals[-1]={plan[-1]}: must be at most {LONGEST:g} s")
    if seconds.max() > 60:
        raise ValueError(f"service: must be at most 60 s, the longest is {seconds.max():g} s")
    return plan, seconds


def in_system(run: Run, step: float = 0.001) -> float:
    """Mean number of requests in the system, counted every ``step`` seconds while the run was observed."""
    check.positive("step", step, "seconds")
    moments = run.sent.min() + np.arange(0.0, run.observed_seconds, step)
    arrived = np.searchsorted(np.sort(run.sent), moments, side="right")
    left = np.searchsorted(np.sort(run.done), moments, side="right")
    return float(np.mean(arrived - left))
