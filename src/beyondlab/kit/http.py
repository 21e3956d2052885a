"""A client for HTTP/1.1 on this machine that keeps its connections. It needs the standard library only: it starts fast."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections import deque
from collections.abc import Mapping
from typing import Any


class NoAnswer(ConnectionError):
    """The connection was refused or closed before an answer was complete."""


class _Connection(asyncio.Protocol):
    """One HTTP/1.1 connection: a request at a time, an answer with a Content-Length (or none)."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.buffer = b""
        self.answer: asyncio.Future | None = None
        self.head: tuple[int, int, int, bytes] | None = None
        self.closed = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(NoAnswer(str(error or "closed before the answer")))

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        if self.head is None:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.buffer[:end].lower()
            place = head.find(b"\r\ncontent-length:")
            length = int(head[place + 17 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
            if b"\r\nconnection: close" in head:
                self.closed = True
            self.head = int(head[9:12]), end + 4, end + 4 + length, self.buffer[:end]
        status, begin, end, head = self.head
        if len(self.buffer) >= end and self.answer is not None and not self.answer.done():
            body, self.buffer, self.head = self.buffer[begin:end], self.buffer[end:], None
            self.answer.set_result((status, head, body))


class Client:
    """Keeps connections to one address and sends a request over a free one, or over a new one if none is free.

    ``tls`` is a client context, ``server_name`` what it asks for. To be used within one event loop.
    """

    def __init__(self, port: int, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None,
                 server_name: str | None = None) -> None:  # fmt: skip
        if not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"host={host!r}: load is sent to this machine's loopback addresses only")
        self.host, self.port, self.tls, self.server_name = host, port, tls, server_name
        self._free: deque[_Connection] = deque()
        self._all: list[_Connection] = []

    async def fetch(self, path: str = "/", headers: Mapping[str, str] | None = None, *, timeout: float = 10.0,
                    method: str = "GET") -> tuple[int, bytes, bytes]:  # fmt: skip
        """Status, head and body. Raises :class:`NoAnswer`, TimeoutError or ssl.SSLError."""
        connection = None
        while self._free and connection is None:
            candidate = self._free.pop()
            connection = None if candidate.closed or candidate.transport.is_closing() else candidate
        loop = asyncio.get_running_loop()
        if connection is None:
            try:
                _, connection = await loop.create_connection(
                    _Connection, self.host, self.port, ssl=self.tls, server_hostname=self.server_name if self.tls else None
                )
            except ssl.SSLError:
                raise
            except OSError as error:
                raise NoAnswer(str(error)) from error
            self._all.append(connection)
        connection.answer = loop.create_future()
        extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        connection.transport.write(f"{method} {path} HTTP/1.1\r\nhost: lab\r\n{extra}\r\n".encode())
        try:
            async with asyncio.timeout(timeout):
                answer = await connection.answer
        except BaseException:
            connection.transport.abort()
            raise
        if not connection.closed:
            self._free.append(connection)
        return answer

    def close(self) -> None:
        """Close every connection."""
        for connection in self._all:
            connection.transport.abort()
        self._free.clear()
