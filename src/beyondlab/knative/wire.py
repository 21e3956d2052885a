"""The little HTTP/1.1 that the lab's programs speak: whole requests and answers, one a connection. Standard library only.

Bodies are read whole, so that a request can be sent again. Only for loopback.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

LARGEST = 16 * 2**20
"""Bytes of a body at most."""


@dataclass
class Message:
    """A request (``method``, ``path``) or an answer (``status``). Header names are in lower case."""

    method: str = "GET"
    path: str = "/"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body or b"null")


Handler = Callable[[Message], Awaitable[Message]]


def answer(status: int, document: Any = None, **headers: str) -> Message:
    """A JSON answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = b"" if document is None else json.dumps(document).encode()
    return Message(status=status, headers={"content-type": "application/json", **named}, body=body)


async def _read(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes] | None:
    """First line, headers, body; None when the other side closed before a message."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise ConnectionResetError("the connection ended within a message") from error
        return None
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    try:
        if "chunked" in headers.pop("transfer-encoding", "").lower():
            body = b""
            while size := int((await reader.readline()).split(b";")[0] or b"0", 16):
                body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        elif "content-length" in headers:
            size = int(headers["content-length"])
            if size > LARGEST:
                raise ConnectionResetError(f"a body of {size} bytes: at most {LARGEST} are taken")
            body = await reader.readexactly(size)
        else:
            body = b"" if not first.startswith("HTTP/") else await reader.read(LARGEST)
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("the connection ended within a body") from error
    return first, headers, body


def _head(first: str, headers: dict[str, str], body: bytes) -> bytes:
    kept = {name: value for name, value in headers.items() if name not in ("connection", "content-length")}
    lines = [first, *(f"{name}: {value}" for name, value in kept.items()), f"content-length: {len(body)}", "connection: close"]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


async def serve(handler: Handler, port: int = 0) -> tuple[asyncio.Server, int]:
    """A server on a loopback port, and the port."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if (message := await _read(reader)) is not None:
                first, headers, body = message
                method, path, *_ = first.split(" ")
                try:
                    reply = await handler(Message(method, path, headers=headers, body=body))
                except Exception as error:
                    reply = answer(500, {"error": f"{type(error).__name__}: {error}"})
                writer.write(_head(f"HTTP/1.1 {reply.status} {'OK' if reply.status < 400 else 'Error'}", reply.headers, reply.body))
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", port, backlog=512)
    return server, server.sockets[0].getsockname()[1]


async def call(port: int, request: Message, *, timeout: float = 30.0) -> Message:
    """The answer of the server on a loopback port. OSError if there is none, TimeoutError if it takes too long."""

    async def talk() -> Message:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            headers = {"host": f"127.0.0.1:{port}", **request.headers}
            writer.write(_head(f"{request.method} {request.path} HTTP/1.1", headers, request.body))
            await writer.drain()
            got = await _read(reader)
            if got is None:
                raise ConnectionResetError("the connection ended before an answer")
            first, headers, body = got
            return Message(status=int(first.split(" ")[1]), headers=headers, body=body)
        finally:
            writer.close()

    return await asyncio.wait_for(talk(), timeout)


async def ask(port: int, method: str, path: str, document: Any = None, *, timeout: float = 10.0) -> Any:
    """Send and receive JSON. Raises ConnectionError for an answer of 400 or more."""
    body = b"" if document is None else json.dumps(document).encode()
    reply = await call(port, Message(method, path, headers={"content-type": "application/json"}, body=body), timeout=timeout)
    if reply.status >= 400:
        raise ConnectionError(f"{method} {path}: {reply.status} {reply.body[:200]!r}")
    return reply.json()


async def run(*handlers: tuple[str, Handler], background: Callable[[], Awaitable[None]] | None = None) -> None:
    """Serve each named handler on a port of its own, print the names and ports, and go on until stopped."""
    ports = {}
    servers = []
    for name, handler in handlers:
        server, ports[name] = await serve(handler)
        servers.append(server)
    print(json.dumps(ports), flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers), *([background()] if background else []))


def trace(reply: Message, hop: str, begin: float, end: float) -> Message:
    """Note in the answer when a hop took the request and gave it on (``time.monotonic()``)."""
    own = f"{hop} {begin:.6f} {end:.6f}"
    reply.headers["x-trace"] = f"{own}, {reply.headers['x-trace']}" if "x-trace" in reply.headers else own
    return reply
