"""The ingress: splits traffic by revision, and sends a request again that no function has answered.

A program: ``python -m beyondlab.knative.ingress``. A revision's requests go to its pods, or through the activator while
there is none or too little room for a burst (Knative: ServerlessService in mode Serve or Proxy).

That it sends a request again is this lab's addition. Knative Serving repeats connecting, not requests: there the caller
repeats, or Knative Eventing does. Sent again means at least once: a function may see one event twice, under the same id.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from beyondlab.knative import wire
from beyondlab.knative.activator import REVISION
from beyondlab.knative.queue_proxy import TRY_ELSEWHERE
from beyondlab.knative.wire import Message, answer

PATIENCE = 60.0
"""Seconds for which a request is sent again."""
PAUSES = (0.02, 0.5)
"""First and longest pause between two attempts, in seconds; each is half as long again as the one before."""


class Split:
    """Picks a revision for each request, by percent, with a seeded generator.

    Raises ValueError unless the percentages are whole numbers from 0 to 100 and sum to 100, as Knative demands.
    """

    def __init__(self, percent: Mapping[str, int], seed: int = 0) -> None:
        shares = dict(percent)
        if any(isinstance(p, bool) or not isinstance(p, int) or not 0 <= p <= 100 for p in shares.values()):
            raise ValueError(f"percent={shares!r}: each must be a whole number from 0 to 100")
        if sum(shares.values()) != 100:
            raise ValueError(f"percent={shares!r}: must sum to 100, these sum to {sum(shares.values())}")
        self.percent, self._rng = shares, random.Random(seed)

    def pick(self) -> str:
        point = self._rng.randrange(100)
        for revision, share in self.percent.items():
            point -= share
            if point < 0:
                return revision
        raise AssertionError("the shares sum to 100")


@dataclass
class Backend:
    """Where a revision's requests go: ``ports`` of its pods, or the activator where ``direct`` is False."""

    direct: bool = False
    ports: Sequence[int] = field(default_factory=tuple)


class Ingress:
    """The program's state and its two handlers."""

    def __init__(self, activator: int) -> None:
        self.activator = activator
        self.split: Split | None = None
        self.backends: dict[str, Backend] = {}
        self.counts = {"requests": 0, "sent again": 0, "lost": 0}
        self._turn = 0

    async def serve(self, request: Message) -> Message:
        begin = time.monotonic()
        if self.split is None:
            return answer(503, {"error": "no route yet"})
        revision = self.split.pick()
        self.counts["requests"] += 1
        request.headers[REVISION] = revision
        attempt, pause = 1, PAUSES[0]
        reply = await self._send(revision, request, retry=False)
        while TRY_ELSEWHERE in reply.headers and time.monotonic() + pause < begin + PATIENCE:
            self.counts["sent again"] += 1
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, PAUSES[1])
            attempt += 1
            reply = await self._send(revision, request, retry=True)
        if reply.status >= 500:
            self.counts["lost"] += 1
        reply.headers |= {REVISION: revision, "x-attempts": str(attempt)}
        return wire.trace(reply, "ingress", begin, time.monotonic())

    async def _send(self, revision: str, request: Message, *, retry: bool) -> Message:
        backend = self.backends.get(revision, Backend())
        if backend.direct and backend.ports and not retry:
            self._turn += 1
            port = backend.ports[self._turn % len(backend.ports)]
        else:
            port = self.activator
        try:
            return await wire.call(port, Message(request.method, request.path, headers=dict(request.headers), body=request.body),
                                   timeout=120)  # fmt: skip
        except (OSError, TimeoutError) as error:
            return answer(502, {"error": str(error)}, **{TRY_ELSEWHERE: "unreachable"})

    async def control(self, request: Message) -> Message:
        match request.method, request.path:
            case "POST", "/traffic":
                try:
                    self.split = Split(**request.json())
                except ValueError as error:
                    return answer(400, {"error": str(error)})
                return answer(200, {})
            case "POST", "/backends":
                self.backends |= {name: Backend(**entry) for name, entry in request.json().items()}
                return answer(200, {})
            case "GET", "/metrics":
                return answer(200, self.counts)
        return answer(404, {"error": f"no such path: {request.method} {request.path}"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--activator", type=int, required=True, help="port of the activator")
    options = parser.parse_args()
    ingress = Ingress(options.activator)
    asyncio.run(wire.run(("requests", ingress.serve), ("control", ingress.control)))


if __name__ == "__main__":
    main()
