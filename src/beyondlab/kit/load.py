"""Load generators for HTTP/1.1 on this machine: connections that are kept, and requests that come at their own times.

The generators run in a thread with an event loop of its own, so that they work inside a notebook. They refuse any
address but this machine's loopback. Times are seconds; :func:`open_loop` counts from the start of its run.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beyondlab.kit import check
from beyondlab.kit.http import Client

LONGEST = 30.0
"""Seconds that a run may be planned for."""

MOST = 100_000
"""Requests that one call may send."""

Array = NDArray[np.float64]
T = TypeVar("T")


def in_a_thread(work: Callable[[], Awaitable[T]]) -> T:
    """What the coroutine function ``work`` returns, run in a thread with its own event loop; its error is raised here."""
    found: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            found.append(asyncio.run(work()))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="load", daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return found[0]


async def at_each(
    moments: Sequence[float], one: Callable[[int], Awaitable[None]], wait_for: Callable[[float], Awaitable[None]]
) -> None:
    """Begin ``one(index)`` when ``wait_for(moments[index])`` is over, whether earlier ones are done or not.

    They begin in the order of ``moments``, also where the machine is late.
    """
    begun = []
    try:
        for index, moment in enumerate(moments):
            await wait_for(moment)
            begun.append(asyncio.create_task(one(index)))
        await asyncio.gather(*begun)
    finally:
        for task in begun:
            task.cancel()


@dataclass(frozen=True, eq=False)
class Answers:
    """What came back. Arrays of shape (requests,): times in seconds from the start, status 0 where no answer came."""

    intended: Array
    """When the plan wanted to send; in a closed loop, when it was sent."""
    sent: Array
    done: Array
    status: NDArray[np.int64]
    bodies: tuple[bytes, ...]
    heads: tuple[bytes, ...]

    @property
    def response(self) -> Array:
        """Seconds from the moment a user wanted it to the answer."""
        return self.done - self.intended

    def percentile(self, q: float) -> float:
        """The ``q``-th percentile of :attr:`response`, in seconds."""
        return float(np.percentile(self.response, q))


def open_loop(port: int, arrivals: ArrayLike, path: str | Callable[[int], str] = "/", **options: Any) -> Answers:
    """Send a request at each of ``arrivals`` (seconds, ascending), whether or not earlier ones are answered.

    ``options``: ``headers``, ``timeout`` (seconds a request may take), ``tls``, ``server_name``. Raises ValueError if
    the plan is empty, not sorted, not finite, or longer than :data:`LONGEST`.
    """
    plan = np.asarray(arrivals, float)
    if plan.ndim != 1 or not 0 < plan.size <= MOST:
        raise ValueError(f"arrivals: shape {plan.shape}, must be a list of 1 to {MOST:,} moments")
    if not np.all(np.isfinite(plan)) or plan[0] < 0 or np.any(np.diff(plan) < 0) or plan[-1] > LONGEST:
        raise ValueError(f"arrivals: must be finite, ascending, from 0 to {LONGEST:g} s")
    return _run(port, plan, None, path, **options)


def closed_loop(port: int, requests: int, path: str | Callable[[int], str] = "/", *, clients: int = 1,
                **options: Any) -> Answers:  # fmt: skip
    """Send ``requests`` requests by ``clients`` clients that each wait for an answer before they send the next one."""
    if not 0 < requests <= MOST:
        raise ValueError(f"requests={requests!r}: must be from 1 to {MOST:,}")
    check.whole("clients", clients, 1)
    return _run(port, np.zeros(requests), clients, path, **options)


def _run(port: int, plan: Array, clients: int | None, path: str | Callable[[int], str], *,
         headers: Mapping[str, str] | Callable[[int], Mapping[str, str]] | None = None, timeout: float = 10.0,
         tls: ssl.SSLContext | None = None, server_name: str | None = None) -> Answers:  # fmt: skip
    check.positive("timeout", timeout, "seconds")
    size = plan.size
    sent, done, status = np.full(size, np.nan), np.full(size, np.nan), np.zeros(size, np.int64)
    bodies, heads = [b""] * size, [b""] * size

    async def drive() -> None:
        client = Client(port, tls=tls, server_name=server_name)
        start = time.perf_counter() + (0.02 if clients is None else 0.0)

        async def one(index: int) -> None:
            sent[index] = time.perf_counter() - start
            try:
                where = path if isinstance(path, str) else path(index)
                extra = headers(index) if callable(headers) else headers
                status[index], heads[index], bodies[index] = await client.fetch(where, extra, timeout=timeout)
            except OSError:  # refused, closed, TLS, or no answer in time
                pass
            done[index] = time.perf_counter() - start

        async def wait_for(moment: float) -> None:
            await asyncio.sleep(max(0.0, start + moment - time.perf_counter()))

        async def one_after_the_other(first: int) -> None:
            for index in range(first, size, clients):
                await one(index)

        try:
            if clients is None:
                await at_each(plan, one, wait_for)
            else:
                await asyncio.gather(*map(one_after_the_other, range(clients)))
        finally:
            client.close()

    in_a_thread(drive)
    return Answers(plan if clients is None else sent.copy(), sent, done, status, tuple(bodies), tuple(heads))
