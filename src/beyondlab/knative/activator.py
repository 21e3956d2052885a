"""The activator: holds requests while no copy of the function runs, and gives each copy only what it can take.

A program: ``python -m beyondlab.knative.activator --autoscaler PORT``. Rules: Knative Serving's ``pkg/activator``; the
tests hold the choice of a pod to ``pkg/activator/net/lb_policy_test.go``.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from beyondlab.knative import wire
from beyondlab.knative.queue_proxy import PROXIED, TRY_ELSEWHERE, Stats
from beyondlab.knative.wire import Message, answer

REVISION = "x-revision"


@dataclass(eq=False)
class Tracker:
    """One pod as the activator sees it: where it is, how many requests it may have (0: any number), and has."""

    port: int
    limit: int = 0
    weight: int = 0

    def reserve(self) -> bool:
        """Take a place, if there is one."""
        if self.limit and self.weight >= self.limit:
            return False
        self.weight += 1
        return True

    def release(self) -> None:
        self.weight -= 1


Policy = Callable[[Sequence[Tracker]], "Tracker | None"]


def random_choice_2(trackers: Sequence[Tracker], rng: random.Random) -> Tracker | None:
    """The less loaded of two at random; its place is taken."""
    if not trackers:
        return None
    first = rng.randrange(len(trackers))
    pick = trackers[first]
    if len(trackers) > 1:
        other = trackers[(first + 1 + rng.randrange(len(trackers) - 1)) % len(trackers)]
        pick = other if other.weight < pick.weight else pick
    return pick if pick.reserve() else None


def first_available(trackers: Sequence[Tracker]) -> Tracker | None:
    """The first that has a place: few pods are kept busy, and the others can go."""
    return next((tracker for tracker in trackers if tracker.reserve()), None)


class RoundRobin:
    """The next that has a place, going round."""

    def __init__(self) -> None:
        self._next = 0

    def __call__(self, trackers: Sequence[Tracker]) -> Tracker | None:
        if self._next >= len(trackers):
            self._next = 0
        for step in range(len(trackers)):
            place = (self._next + step) % len(trackers)
            if trackers[place].reserve():
                self._next = (place + 1) % len(trackers)
                return trackers[place]
        return None


def policy_for(concurrency: int, rng: random.Random) -> Policy:
    """Knative's choice by the revision's concurrency limit: none, up to 3, more."""
    if concurrency == 0:
        return lambda trackers: random_choice_2(trackers, rng)
    return first_available if concurrency <= 3 else RoundRobin()


class Throttler:
    """The requests of one revision on their way to its pods. Who finds no place waits, in order of arrival."""

    def __init__(self) -> None:
        self.trackers: list[Tracker] = []
        self.policy: Policy = first_available
        self._waiting: list[asyncio.Future[Tracker]] = []
        self._concurrency: int | None = None

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def update(self, ports: Sequence[int], concurrency: int) -> None:
        """The pods that are ready now; who waited may go."""
        if concurrency != self._concurrency:
            self.policy, self._concurrency = policy_for(concurrency, random.Random(0)), concurrency
        known = {tracker.port: tracker for tracker in self.trackers}
        self.trackers = [known.get(port) or Tracker(port, concurrency) for port in ports]
        self._dispatch()

    async def acquire(self) -> Tracker:
        """A pod with a place for one more; release it with ``release``."""
        if not self._waiting and (tracker := self.policy(self.trackers)):
            return tracker
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif turn.done() and not turn.cancelled():
                self.release(turn.result())
            raise

    def release(self, tracker: Tracker) -> None:
        tracker.release()
        self._dispatch()

    def _dispatch(self) -> None:
        while self._waiting and (tracker := self.policy(self.trackers)):
            self._waiting.pop(0).set_result(tracker)


class Activator:
    """The program's state and its two handlers."""

    def __init__(self, autoscaler: int, patience: float) -> None:
        self.autoscaler, self.patience = autoscaler, patience
        self.throttlers: dict[str, Throttler] = {}
        self.stats: dict[str, Stats] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, request: Message) -> Message:
        revision = request.headers.get(REVISION, "")
        if revision not in self.throttlers:
            return answer(404, {"error": f"no such revision: {revision!r}"})
        throttler, stats, begin = self.throttlers[revision], self.stats[revision], time.monotonic()
        stats.begin(begin)
        try:
            if not throttler.trackers:
                self._poke(revision)
            try:
                tracker = await asyncio.wait_for(throttler.acquire(), self.patience)
            except TimeoutError:
                return answer(503, {"error": f"no copy of {revision} was ready within {self.patience:g} s"})
            sent = time.monotonic()
            try:
                request.headers[PROXIED] = "activator"
                reply = await wire.call(tracker.port, request, timeout=self.patience)
            except (OSError, TimeoutError) as error:
                reply = answer(502, {"error": str(error)}, **{TRY_ELSEWHERE: "unreachable"})
            finally:
                throttler.release(tracker)
            return wire.trace(reply, "activator", begin, sent)
        finally:
            stats.end(time.monotonic())

    def _poke(self, revision: str) -> None:
        """Tell the autoscaler at once that somebody waits; without an answer it will scrape us anyway."""

        async def tell() -> None:
            try:
                await wire.ask(self.autoscaler, "POST", "/poke", {"revision": revision})
            except (OSError, TimeoutError):
                pass

        task = asyncio.get_running_loop().create_task(tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def control(self, request: Message) -> Message:
        match request.method, request.path:
            case "POST", "/endpoints":
                for revision, entry in request.json().items():
                    self.stats.setdefault(revision, Stats(time.monotonic()))
                    self.throttlers.setdefault(revision, Throttler()).update(entry["ports"], entry["concurrency"])
                return answer(200, {})
            case "GET", "/metrics":
                now = time.monotonic()
                return answer(200, {
                    revision: stats.report(now) | {"waiting": self.throttlers[revision].waiting}
                    for revision, stats in self.stats.items()
                })  # fmt: skip
        return answer(404, {"error": f"no such path: {request.method} {request.path}"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--autoscaler", type=int, required=True, help="port of the autoscaler")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds that a request may wait")
    options = parser.parse_args()
    activator = Activator(options.autoscaler, options.patience)
    asyncio.run(wire.run(("requests", activator.serve), ("control", activator.control)))


if __name__ == "__main__":
    main()
