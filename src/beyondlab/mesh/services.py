"""The application of the lab: every instance of every service, in one process: ``python -m beyondlab.mesh.services``.

The argument is JSON: a list of ``{"name", "service", "calls"}``. Each instance listens on a loopback port of its own that
the system chooses; the first line of output is a JSON object of name to port, and ``"control"`` for the port where the lab
changes behaviour. An instance answers ``GET`` with JSON: ``path``, the instances that the request went through, its
own last in the way down, first in the list. Where it ``calls`` a service, it sends the request on to the port that the
lab told it, with the headers that make a trace: what a mesh cannot do for an application.

A behaviour (``POST /behave`` with ``{"instance": …, "delay": seconds, "fail": share, "status": code, "workers": n}``):
``fail`` is the share of its requests that get ``status`` at once, spread evenly (every second one at 0.5); ``workers`` of
1 or more makes requests wait their turn, first come, first served, as in a real server that is too small.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass, field
from typing import Any

from beyondlab.kit.http import Client

PASSED_ON = (b"traceparent", b"tracestate", b"x-request-id")
"""Request headers that an instance passes on to the service it calls."""


@dataclass
class Instance:
    """One instance: what it is, how it behaves, what it has seen."""

    name: str
    service: str
    calls: str | None = None
    delay: float = 0.0
    fail: float = 0.0
    status: int = 503
    workers: int = 0
    seen: int = 0
    failed: int = 0
    client: Client | None = None
    turn: asyncio.Semaphore | None = field(default=None, repr=False)

    def behave(self, **changes: Any) -> None:
        """Change ``delay``, ``fail``, ``status`` or ``workers``; counts start again."""
        for name in changes:
            if name not in ("delay", "fail", "status", "workers"):
                raise ValueError(f"{name}: an instance has delay, fail, status and workers")
        for name, value in changes.items():
            setattr(self, name, value)
        self.turn = asyncio.Semaphore(self.workers) if self.workers else None
        self.seen = self.failed = 0

    def fails_now(self) -> bool:
        """Whether the request that was just counted is one of the share that fails: evenly spread."""
        return int(self.seen * self.fail + 1e-9) > int((self.seen - 1) * self.fail + 1e-9)

    async def answer(self, path: str, headers: dict[bytes, bytes]) -> tuple[int, dict[str, Any]]:
        """Status and document for one request."""
        self.seen += 1
        if self.fails_now():
            self.failed += 1
            return self.status, {"path": [self.name]}
        if self.turn is not None:
            async with self.turn:
                await asyncio.sleep(self.delay)
        elif self.delay:
            await asyncio.sleep(self.delay)
        if self.client is None:
            return 200, {"path": [self.name], "caller": headers.get(b"x-forwarded-client-cert", b"").decode()}
        passed = {name.decode(): headers[name].decode() for name in PASSED_ON if name in headers}
        try:
            status, _, body = await self.client.fetch(path, passed, timeout=5.0)
            below = json.loads(body) if status == 200 else {"path": [], "said": body.decode(errors="replace")[:80]}
        except OSError as error:
            status, below = 502, {"path": [], "said": str(error)[:80]}
        return status, {**below, "path": [self.name, *below["path"]]}


class Http(asyncio.Protocol):
    """HTTP/1.1 without a body to read beyond Content-Length, keep-alive, one request at a time on a connection."""

    def __init__(self, handle: Any) -> None:
        self.handle, self.buffer, self.task = handle, b"", None  # a server does not hear that its client gave up

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.task is None:
            self.next()

    def next(self) -> None:
        """Begin with the next request if the buffer holds a whole one."""
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        first, *lines = self.buffer[:end].split(b"\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(b":")
            headers[name.strip().lower()] = value.strip()
        whole = end + 4 + int(headers.get(b"content-length", b"0"))
        if len(self.buffer) < whole:
            return
        body, self.buffer = self.buffer[end + 4 : whole], self.buffer[whole:]
        method, path, _ = first.split(b" ", 2)
        self.task = asyncio.ensure_future(self.serve(method.decode(), path.decode(), headers, body))

    async def serve(self, method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> None:
        status, document = await self.handle(method, path, headers, body)
        text = json.dumps(document).encode()
        self.transport.write(
            b"HTTP/1.1 %d -\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (status, len(text), text)
        )
        self.task = None
        self.next()


async def serve(instances: list[Instance]) -> None:
    """Serve until the process is stopped."""
    loop = asyncio.get_running_loop()
    by_name = {instance.name: instance for instance in instances}
    ports = {}

    async def control(method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> tuple[int, dict[str, Any]]:
        try:
            if path == "/counts":
                return 200, {i.name: {"seen": i.seen, "failed": i.failed} for i in instances}
            wanted = json.loads(body)
            if path == "/behave":
                by_name[wanted.pop("instance")].behave(**wanted)
            elif path == "/call":
                for instance in instances:
                    if instance.calls in wanted:
                        instance.client = Client(wanted[instance.calls])
            else:
                return 404, {"error": path}
        except (KeyError, ValueError) as error:
            return 400, {"error": str(error)}
        return 200, {}

    def of(instance: Instance) -> Any:
        async def handle(method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> tuple[int, dict[str, Any]]:
            return await instance.answer(path, headers)

        return handle

    for name, handle in [*((i.name, of(i)) for i in instances), ("control", control)]:
        server = await loop.create_server(lambda handle=handle: Http(handle), "127.0.0.1", 0, backlog=512)
        ports[name] = server.sockets[0].getsockname()[1]
    print(json.dumps(ports), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve([Instance(**spec) for spec in json.loads(sys.argv[1])]))
