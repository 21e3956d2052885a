"""The autoscaler as a program: scrapes the queue-proxies and the activator, and lets :mod:`.kpa` decide.

``python -m beyondlab.knative.autoscaler --speed 20``. Its clock can run fast: at speed 20 the 60 s of the stable window
pass in 3 s, and the tick of 2 s in 0.1 s, while Knative's settings stay what they are. Processes start no faster.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from beyondlab.knative import kpa, wire
from beyondlab.knative.wire import Message, answer


@dataclass
class Revision:
    """What the autoscaler knows of one revision."""

    settings: kpa.Settings
    scaler: kpa.Autoscaler
    metrics: kpa.Metrics
    ports: list[int] = field(default_factory=list)
    """Control ports of the queue-proxies of its ready pods."""
    decision: kpa.Decision = kpa.INVALID
    seen: bool = False
    filled: int | None = None
    """The last bucket that has a value."""
    history: list[dict[str, float]] = field(default_factory=list)


class AutoscalerProgram:
    """The program's state, its handler and its loop. ``speed``: seconds of its clock for one second."""

    def __init__(self, speed: float) -> None:
        self.speed, self._began = speed, time.monotonic()
        self.activator: int | None = None
        self.revisions: dict[str, Revision] = {}

    def now(self) -> float:
        """The fast clock, in seconds since the start."""
        return (time.monotonic() - self._began) * self.speed

    async def control(self, request: Message) -> Message:
        match request.method, request.path:
            case "POST", "/activator":
                self.activator = request.json()["control"]
                return answer(200, {})
            case "POST", "/revisions":
                for name, entry in request.json().items():
                    self._update(name, entry)
                return answer(200, {})
            case "POST", "/poke":
                self._poked(request.json()["revision"])
                return answer(200, {})
            case "GET", "/decisions":
                return answer(200, {name: asdict(known.decision) for name, known in self.revisions.items()})
            case "GET", "/history":
                return answer(200, {name: known.history for name, known in self.revisions.items()})
        return answer(404, {"error": f"no such path: {request.method} {request.path}"})

    def _update(self, name: str, entry: dict[str, Any]) -> None:
        if name not in self.revisions:
            settings = kpa.Settings(**entry["settings"])
            spec = kpa.Spec.of(settings, **entry["target"])
            self.revisions[name] = Revision(settings, kpa.Autoscaler(spec, now=self.now()), kpa.Metrics(settings))
        known = self.revisions[name]
        known.ports = entry["ports"]
        known.scaler.spec = replace(known.scaler.spec, reachable=entry.get("reachable", True))

    def _poked(self, name: str) -> None:
        """Somebody waits while nothing runs: decide now, not at the next tick."""
        known = self.revisions.get(name)
        if known is not None and not known.ports and known.decision.desired == 0:
            known.metrics.record(self.now(), 1.0)
            known.seen = True
            self._decide(known)

    async def tick(self) -> None:
        """One round of scraping and deciding."""
        at_door = await self._scrape(self.activator, {}) if self.activator else {}
        for name, known in list(self.revisions.items()):
            pods = await asyncio.gather(*(self._scrape(port, None) for port in known.ports))
            inside = [pod for pod in pods if pod is not None]
            held = at_door.get(name, {})
            value = held.get("concurrency", 0.0) + sum(pod["concurrency"] - pod["proxied"] for pod in inside)
            if known.ports or held.get("requests") or held.get("in_flight"):
                known.seen = True
                self._bucket(known, value)
            if known.seen:
                self._decide(known)

    def _bucket(self, known: Revision, value: float) -> None:
        """One value a bucket: at this speed a tick spans buckets, and the same value holds for each."""
        place = int(self.now() // kpa.BUCKET)
        reach = place - math.ceil(kpa.TICK / kpa.BUCKET) + 1
        for bucket in range(reach if known.filled is None else max(known.filled + 1, reach), place + 1):
            known.metrics.record(bucket * kpa.BUCKET, value)
        known.filled = place

    def _decide(self, known: Revision) -> None:
        now = self.now()
        stable, panic = known.metrics.averages(now)
        ready = len(known.ports)
        known.decision = known.scaler.scale(now, ready, stable, panic)
        known.history.append({
            "time": now / self.speed + self._began, "ready": ready, "stable": stable, "panic": panic,
            "desired": known.decision.desired, "panicking": known.scaler.panic_since is not None,
            "ebc": known.decision.excess_burst_capacity,
        })  # fmt: skip
        del known.history[:-5_000]

    @staticmethod
    async def _scrape(port: int, default: Any) -> Any:
        try:
            return await wire.ask(port, "GET", "/metrics", timeout=2.0)
        except (OSError, TimeoutError):
            return default

    async def loop(self) -> None:
        while True:
            begin = time.monotonic()
            await self.tick()
            await asyncio.sleep(max(0.005, kpa.TICK / self.speed - (time.monotonic() - begin)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--speed", type=float, default=1.0, help="seconds of the autoscaler's clock for one second")
    options = parser.parse_args()
    program = AutoscalerProgram(options.speed)
    asyncio.run(wire.run(("control", program.control), background=program.loop))


if __name__ == "__main__":
    main()
