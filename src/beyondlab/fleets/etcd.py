"""A client of etcd that needs nothing but HTTP: etcd's own JSON gateway (``/v3/kv/range``, ``/v3/kv/txn``, ``/v3/watch``).

Keys and values travel as base64, revisions as decimal text (64-bit numbers do not survive in JSON). The protocol is
documented in etcd's "gRPC gateway" page; the names here are etcd's.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


class EtcdError(OSError):
    """etcd answered with an error, or not at all."""


class Compacted(EtcdError):
    """The watch asked for revisions that etcd has thrown away."""


@dataclass(frozen=True)
class KeyValue:
    """One key at one moment. ``revision`` is the store's revision that wrote it (etcd: ``mod_revision``)."""

    key: str
    value: bytes
    revision: int
    created: int
    version: int


@dataclass(frozen=True)
class Change:
    """One event of a watch. ``value`` is None for a deletion; ``before`` is what stood there, None for a new key."""

    key: str
    value: KeyValue | None
    before: KeyValue | None
    revision: int


def encode(data: str | bytes) -> str:
    """Base64, as the gateway wants keys and values."""
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def prefix_end(prefix: str) -> str:
    """The first key after all that begin with ``prefix``: its last byte plus one."""
    if not prefix:
        raise ValueError(f"prefix={prefix!r}: must not be empty")
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def _key_value(found: dict[str, Any]) -> KeyValue:
    return KeyValue(
        key=base64.b64decode(found["key"]).decode(),
        value=base64.b64decode(found.get("value", "")),
        revision=int(found.get("mod_revision", 0)),
        created=int(found.get("create_revision", 0)),
        version=int(found.get("version", 0)),
    )


class Connection:
    """One HTTP/1.1 connection, as much of it as etcd's gateway needs: POST, and an answer by length or in chunks."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def post(self, host: str, path: str, body: bytes) -> dict[str, str]:
        """Send a request; the headers of its answer, in lower case."""
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        await self._writer.drain()
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}

    async def chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self._reader.readline() or b"0", 16):
            yield await self._reader.readexactly(size)
            await self._reader.readexactly(2)
        await self._reader.readline()

    async def body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            return b"".join([chunk async for chunk in self.chunks()])
        return await self._reader.readexactly(int(headers.get("content-length", 0)))

    def close(self) -> None:
        self._writer.close()


class Etcd:
    """A pool of connections to one etcd. ``url`` such as ``http://127.0.0.1:2379``."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        if place.scheme != "http" or not place.hostname or not place.port:
            raise ValueError(f"url={url!r}: must look like http://127.0.0.1:2379")
        self.host, self.port = place.hostname, place.port
        self._idle: list[Connection] = []

    async def _open(self) -> Connection:
        async with asyncio.timeout(2.0):
            return Connection(*await asyncio.open_connection(self.host, self.port, limit=2**24))

    async def call(self, method: str, body: dict[str, Any], *, timeout: float = 5.0) -> dict[str, Any]:
        """One request of the gateway, such as ``call("kv/range", {...})``. Raises :class:`EtcdError`."""
        try:
            async with asyncio.timeout(timeout):
                connection = self._idle.pop() if self._idle else await self._open()
                try:
                    headers = await connection.post(self.host, f"/v3/{method}", json.dumps(body).encode())
                    document = json.loads(await connection.body(headers))
                except BaseException:
                    connection.close()
                    self._idle.clear()
                    raise
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            raise EtcdError(f"etcd does not answer {method}: {error or type(error).__name__}") from error
        self._idle.append(connection)
        if "error" in document:
            raise EtcdError(f"etcd refused {method}: {document['error']}")
        return document

    async def revision(self) -> int:
        """The store's revision now."""
        return int((await self.call("kv/range", {"key": encode("\0"), "count_only": True}))["header"]["revision"])

    async def get(self, key: str) -> KeyValue | None:
        """The newest value of one key."""
        answer = await self.call("kv/range", {"key": encode(key)})
        return _key_value(answer["kvs"][0]) if answer.get("kvs") else None

    async def range(
        self, prefix: str, *, start: str | None = None, limit: int = 0, revision: int = 0
    ) -> tuple[list[KeyValue], int, int]:
        """Keys that begin with ``prefix``, in order: (found, revision of the answer, how many there are in all).

        ``start`` begins there instead; ``limit`` 0 means all; ``revision`` reads the past, 0 the present.
        """
        body = {"key": encode(start or prefix), "range_end": encode(prefix_end(prefix))}
        body |= {"limit": str(limit)} if limit else {}
        body |= {"revision": str(revision)} if revision else {}
        answer = await self.call("kv/range", body)
        found = [_key_value(each) for each in answer.get("kvs", ())]
        return found, revision or int(answer["header"]["revision"]), int(answer.get("count", 0))

    async def put_if(self, key: str, value: bytes, revision: int) -> int | None:
        """Write ``value`` if the key still stands at ``revision`` (0: if it does not exist). The new revision, or None.

        This one transaction is all that optimistic concurrency needs.
        """
        return await self._if(key, revision, {"request_put": {"key": encode(key), "value": encode(value)}})

    async def delete_if(self, key: str, revision: int) -> int | None:
        """Delete the key if it still stands at ``revision``. The new revision, or None."""
        return await self._if(key, revision, {"request_delete_range": {"key": encode(key)}})

    async def _if(self, key: str, revision: int, then: dict[str, Any]) -> int | None:
        compare = {"key": encode(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}
        answer = await self.call("kv/txn", {"compare": [compare], "success": [then]})
        return int(answer["header"]["revision"]) if answer.get("succeeded") else None

    async def watch(self, prefix: str, start: int) -> AsyncIterator[list[Change]]:
        """All changes of keys under ``prefix`` from revision ``start`` on, in order, a list for each message.

        Raises :class:`Compacted` if ``start`` is thrown away already, :class:`EtcdError` when the connection ends.
        """
        body = {"create_request": {
            "key": encode(prefix), "range_end": encode(prefix_end(prefix)),
            "start_revision": str(start), "prev_kv": True,
        }}  # fmt: skip
        connection = None
        try:
            connection = await self._open()
            await connection.post(self.host, "/v3/watch", json.dumps(body).encode())
            buffer = b""
            async for chunk in connection.chunks():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    if changes := _changes(json.loads(line).get("result", {}), start):
                        yield changes
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            if isinstance(error, EtcdError):
                raise
            raise EtcdError(f"the watch on etcd broke: {error or type(error).__name__}") from error
        finally:
            if connection is not None:
                connection.close()
        raise EtcdError("etcd closed the watch")


def _changes(result: dict[str, Any], start: int) -> list[Change]:
    if result.get("canceled"):
        kind = Compacted if int(result.get("compact_revision", 0)) else EtcdError
        raise kind(f"etcd ended the watch from revision {start}: {result.get('cancel_reason', '')}")
    found = []
    for event in result.get("events", ()):
        now = _key_value(event["kv"])
        before = _key_value(event["prev_kv"]) if "prev_kv" in event else None
        found.append(Change(now.key, None if event.get("type") == "DELETE" else now, before, now.revision))
    return found
