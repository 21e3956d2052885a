"""The queue-proxy: the sidecar in front of one copy of a function. Limits concurrency, probes, counts, drains.

A program: ``python -m beyondlab.knative.queue_proxy --target PORT --concurrency N``. It prints its two ports, one for
requests and one for the control plane. What it does follows Knative Serving's ``pkg/queue``: a breaker with a queue,
a request time-out, and reports of the concurrency averaged over time, what came through the activator apart.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import deque

from beyondlab.kit import check
from beyondlab.knative import wire
from beyondlab.knative.wire import Message, answer

QUEUE_FACTOR = 10
"""Requests that may wait, for each that may run."""
PROXIED = "k-proxy-request"
"""Header that says that the activator counts this request already."""
TRY_ELSEWHERE = "x-try-elsewhere"
"""Header of an answer that did not come from the function: another copy may be asked."""


class Overload(Exception):
    """The breaker's queue is full."""


class Breaker:
    """At most ``concurrency`` in work and ``queue`` more waiting, first come, first served; 0 is no limit.

    Raises ValueError for negative limits.
    """

    def __init__(self, concurrency: int, queue: int) -> None:
        check.whole("concurrency", concurrency, 0)
        check.whole("queue", queue, 0)
        self.concurrency, self.queue = concurrency, queue
        self.active = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def __aenter__(self) -> Breaker:
        if not self.concurrency or self.active < self.concurrency:
            self.active += 1
            return self
        if len(self._waiting) >= self.queue:
            raise Overload(f"{self.active} in work and {len(self._waiting)} waiting")
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._next()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._next()

    def _next(self) -> None:
        """Give the place to the one who has waited longest, or free it."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.active -= 1


class Stats:
    """Requests, and how many were in flight on average since the last report. Knative: ``pkg/network/stats.go``."""

    def __init__(self, now: float) -> None:
        self._since = self._last = now
        self._in = self._proxied_in = 0
        self._area = self._proxied_area = 0.0
        self._requests = 0

    def _advance(self, now: float) -> None:
        self._area += self._in * (now - self._last)
        self._proxied_area += self._proxied_in * (now - self._last)
        self._last = now

    def begin(self, now: float, *, proxied: bool = False) -> None:
        self._advance(now)
        self._in += 1
        self._proxied_in += proxied
        self._requests += 1

    def end(self, now: float, *, proxied: bool = False) -> None:
        self._advance(now)
        self._in -= 1
        self._proxied_in -= proxied

    @property
    def in_flight(self) -> int:
        return self._in

    def report(self, now: float) -> dict[str, float]:
        """Since the last report: average concurrency, that of proxied requests, number of requests, seconds."""
        self._advance(now)
        span = now - self._since
        result = {
            "concurrency": self._area / span if span > 0 else float(self._in),
            "proxied": self._proxied_area / span if span > 0 else float(self._proxied_in),
            "requests": self._requests,
            "seconds": span,
            "in_flight": self._in,
        }
        self._since, self._area, self._proxied_area, self._requests = now, 0.0, 0.0, 0
        return result


class QueueProxy:
    """The program's state and its two handlers."""

    def __init__(self, target: int, concurrency: int, timeout: float) -> None:
        self.target, self.timeout = target, timeout
        self.breaker = Breaker(concurrency, QUEUE_FACTOR * max(1, concurrency))
        self.stats = Stats(time.monotonic())
        self.rejected = 0
        self.draining = False

    async def serve(self, request: Message) -> Message:
        proxied = request.headers.get(PROXIED) == "activator"
        begin = time.monotonic()
        self.stats.begin(begin, proxied=proxied)
        try:
            return wire.trace(await self._forward(request), "queue-proxy", begin, time.monotonic())
        finally:
            self.stats.end(time.monotonic(), proxied=proxied)

    async def _forward(self, request: Message) -> Message:
        try:
            async with self.breaker:
                begin = time.monotonic()
                reply = await wire.call(self.target, request, timeout=self.timeout)
                return wire.trace(reply, "function", begin, time.monotonic())
        except Overload as full:
            self.rejected += 1
            return answer(503, {"error": f"overload: {full}"}, **{TRY_ELSEWHERE: "overload"})
        except TimeoutError:
            return answer(504, {"error": f"no answer within {self.timeout:g} s"})
        except OSError as error:
            return answer(502, {"error": f"the function broke off: {error}"}, **{TRY_ELSEWHERE: "broken"})

    async def control(self, request: Message) -> Message:
        match request.method, request.path:
            case "GET", "/metrics":
                return answer(200, self.stats.report(time.monotonic()) | {"rejected": self.rejected})
            case "GET", "/ready":
                return await self._ready()
            case "POST", "/drain":
                return await self._drain(**request.json())
        return answer(404, {"error": f"no such path: {request.method} {request.path}"})

    async def _ready(self) -> Message:
        """Probe the function: it must answer HTTP."""
        if self.draining:
            return answer(503, {"ready": False, "why": "draining"})
        try:
            await wire.call(self.target, Message(path="/", headers={"user-agent": "kube-probe/lab"}), timeout=5)
            return answer(200, {"ready": True})
        except (OSError, TimeoutError) as error:
            return answer(503, {"ready": False, "why": str(error)})

    async def _drain(self, quiet: float, limit: float) -> Message:
        """Answer once nothing was in flight for ``quiet`` seconds, or after ``limit``."""
        self.draining = True
        end = time.monotonic() + limit
        still = time.monotonic()
        while time.monotonic() < end and time.monotonic() - still < quiet:
            await asyncio.sleep(0.01)
            if self.stats.in_flight:
                still = time.monotonic()
        return answer(200, {"drained": not self.stats.in_flight})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", type=int, required=True, help="port of the function")
    parser.add_argument("--concurrency", type=int, default=0, help="requests in the function at once, 0: no limit")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for one request")
    options = parser.parse_args()
    proxy = QueueProxy(options.target, options.concurrency, options.timeout)
    asyncio.run(wire.run(("requests", proxy.serve), ("control", proxy.control)))


if __name__ == "__main__":
    main()
