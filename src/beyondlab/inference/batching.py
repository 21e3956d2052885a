"""Dynamic batching: wait a little, send several requests through the model at once.

The policy is that of Triton's dynamic batcher (NVIDIA, "Batchers", user guide): when the model is free and requests
wait, a batch goes off at once if it is full (``size``), and otherwise when its oldest request has waited ``delay``
seconds; requests keep their order; one batch at a time. With ``delay=0`` whatever waits goes at once: batches then
form only while the model is busy.

:func:`simulate` is the model, without a clock; :class:`Batcher` the real thing, for asyncio. Times in seconds.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beyondlab.kit import check


@dataclass(frozen=True)
class Batched:
    """What a batcher did. Arrays of shape (requests,), in the order of arrival; ``sizes`` has one entry a batch."""

    arrival: NDArray[np.float64]
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    sizes: NDArray[np.int64]

    @property
    def response(self) -> NDArray[np.float64]:
        """From arrival to the end of the batch."""
        return self.end - self.arrival

    @property
    def throughput(self) -> float:
        """Requests a second, from the first arrival to the last end."""
        return self.arrival.size / float(self.end.max() - self.arrival[0])

    @property
    def mean_size(self) -> float:
        """Requests a batch, on average."""
        return float(self.sizes.mean())

    def percentile(self, which: float) -> float:
        """A percentile of the response time."""
        return float(np.percentile(self.response, which))


def simulate(arrivals: ArrayLike, seconds: Callable[[int], float], *, size: int, delay: float) -> Batched:
    """Run the policy over ``arrivals`` (sorted, shape (n,)); a batch of b requests takes ``seconds(b)``.

    Raises ValueError if the arrivals are not sorted or empty, or a batch would take no positive time.
    """
    check.whole("size", size, 1)
    check.non_negative("delay", delay, "seconds")
    times = np.asarray(arrivals, float)
    if times.ndim != 1 or not times.size or not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise ValueError(f"arrivals: must be a sorted, finite array of one dimension, not empty; shape {times.shape}")
    start, end, sizes = np.empty_like(times), np.empty_like(times), []
    free, first = times[0], 0
    while first < times.size:
        full = times[first + size - 1] if first + size <= times.size else math.inf
        go = max(free, min(full, times[first] + delay))
        last = min(first + size, int(np.searchsorted(times, go, side="right")))
        took = seconds(last - first)
        if not took > 0:
            raise ValueError(f"seconds({last - first}) gave {took!r}: must be a positive time")
        start[first:last], end[first:last] = go, go + took
        sizes.append(last - first)
        free, first = go + took, last
    return Batched(times, start, end, np.array(sizes))


def curve(sizes: Sequence[int], seconds: Sequence[float]) -> Callable[[int], float]:
    """Seconds of a batch by its size, linear between what was measured and beyond its ends.

    Raises ValueError unless there are two or more sizes, ascending, with positive times.
    """
    x, y = np.asarray(sizes, float), np.asarray(seconds, float)
    if x.size < 2 or x.shape != y.shape or (np.diff(x) <= 0).any() or not (y > 0).all():
        raise ValueError(f"sizes={list(sizes)!r}, seconds={list(seconds)!r}: need two or more, ascending, positive")
    slope = (y[-1] - y[-2]) / (x[-1] - x[-2])

    def of(size: int) -> float:
        return float(y[-1] + slope * (size - x[-1])) if size > x[-1] else float(np.interp(size, x, y))

    return of


def fit(sizes: Sequence[int], seconds: Sequence[float]) -> Callable[[int], float]:
    """Seconds of a batch as a + b * size, least squares over measured batches, a and b not negative.

    Raises ValueError if there is no batch or a time is not positive.
    """
    x, y = np.asarray(sizes, float), np.asarray(seconds, float)
    if not x.size or x.shape != y.shape or not (y > 0).all():
        raise ValueError(f"sizes, seconds: need as many of both, all positive; shapes {x.shape} and {y.shape}")
    from scipy.optimize import nnls

    (a, b), _ = nnls(np.column_stack([np.ones_like(x), x]), y)
    return lambda size: float(a + b * size)


def resampled(sizes: Sequence[int], seconds: Sequence[float], *, seed: int = 0) -> Callable[[int], float]:
    """As :func:`fit`, times a factor drawn from those by which the measured batches missed the line.

    So the modelled durations scatter as the measured ones did, but independently: stalls that last longer than one
    batch are broken up. Raises ValueError as :func:`fit`.
    """
    line = fit(sizes, seconds)
    factors = np.asarray(seconds, float) / np.array([line(size) for size in sizes])
    rng = np.random.default_rng(seed)
    return lambda size: line(size) * float(rng.choice(factors))


def capacity(seconds: Callable[[int], float], size: int) -> float:
    """Requests a second when batches of ``size`` follow each other without a gap: no batcher does better."""
    check.whole("size", size, 1)
    return size / seconds(size)


@dataclass(frozen=True)
class Batch:
    """What happened to a request in a :class:`Batcher`."""

    number: int
    size: int
    """Requests in it."""
    waited: float
    """Seconds from the request's coming to the start of its batch."""
    seconds: float
    """Seconds that the batch took."""


class Batcher:
    """The same policy for real: put one input in, wait for its output. For one asyncio loop.

    ``run`` takes a list of inputs and returns as many outputs; it runs on ``executor``, one batch at a time.
    """

    def __init__(
        self, run: Callable[[list[Any]], Sequence[Any]], *, size: int, delay: float, executor: Executor | None = None
    ) -> None:
        check.whole("size", size, 1)
        check.non_negative("delay", delay, "seconds")
        self.size, self.delay = int(size), delay
        self._run, self._executor = run, executor
        self._waiting: deque[tuple[float, Any, asyncio.Future[Any]]] = deque()
        self._wake = asyncio.Event()
        self._count = 0
        self._task: asyncio.Task[None] | None = None

    async def infer(self, item: Any) -> tuple[Any, Batch]:
        """The output for ``item`` and its batch."""
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((time.perf_counter(), item, future))
        self._wake.set()
        return await future

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            while len(self._waiting) < self.size:
                left = self._waiting[0][0] + self.delay - time.perf_counter()
                if left <= 0:
                    break
                self._wake.clear()
                try:
                    await asyncio.wait_for(self._wake.wait(), left)
                except TimeoutError:
                    break
            batch = [self._waiting.popleft() for _ in range(min(self.size, len(self._waiting)))]
            begun = time.perf_counter()
            try:
                outputs = await loop.run_in_executor(self._executor, self._run, [item for _, item, _ in batch])
                if len(outputs) != len(batch):
                    raise RuntimeError(f"run gave {len(outputs)} outputs for {len(batch)} inputs")
            except Exception as error:
                for _, _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            took = time.perf_counter() - begun
            self._count += 1
            for (came, _, future), output in zip(batch, outputs):
                if not future.done():
                    future.set_result((output, Batch(self._count, len(batch), begun - came, took)))

    async def close(self) -> None:
        """End the work; requests that wait are cancelled."""
        if self._task is not None:
            self._task.cancel()
        for _, _, future in self._waiting:
            future.cancel()
