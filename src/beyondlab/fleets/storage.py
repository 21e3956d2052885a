"""Objects on etcd: optimistic concurrency, consistent lists, and watches out of one stream.

``resourceVersion`` is etcd's revision, and nothing else. A write is a transaction "if the key still stands at this
revision". As in the real API server, etcd is watched once, and every client's watch is served from a window of the
last changes kept in memory; who comes back with a version older than the window is told to list again (410).
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from beyondlab.fleets import errors
from beyondlab.fleets.etcd import Change, Etcd, EtcdError, KeyValue
from beyondlab.fleets.resources import Resource

WINDOW = 2_000
"""Changes kept for watches that come back."""

Object = dict[str, Any]
Select = Callable[[Object], bool]


def parse(found: KeyValue) -> Object:
    """The object of a key, with the revision that wrote it."""
    value = json.loads(found.value)
    value["metadata"]["resourceVersion"] = str(found.revision)
    return value


def serialise(value: Object) -> bytes:
    """An object as it is stored: without its resourceVersion, which is the key's own revision."""
    meta = {key: each for key, each in value["metadata"].items() if key != "resourceVersion"}
    return json.dumps({**value, "metadata": meta}, separators=(",", ":")).encode()


class Store:
    """The objects of one cluster. :meth:`run` must run while it is used."""

    def __init__(self, etcd: Etcd) -> None:
        self.etcd = etcd
        self.revision = 0
        """The revision up to which every change has been handed to the watches."""
        self.oldest = 0
        self._window: deque[Change] = deque(maxlen=WINDOW)
        self._moved = asyncio.Condition()

    async def start(self) -> None:
        """Read where the store stands. Changes from here on can be watched."""
        self.revision = self.oldest = await self.etcd.revision()

    async def run(self) -> None:
        """Watch etcd for ever and wake the clients' watches. Goes on after etcd was away."""
        while True:
            try:
                async for changes in self.etcd.watch("/registry/", self.revision + 1):
                    async with self._moved:
                        if len(self._window) + len(changes) > WINDOW:
                            self.oldest = self._window[len(changes) - 1].revision if self._window else changes[-1].revision
                        self._window.extend(changes)
                        self.revision = changes[-1].revision
                        self._moved.notify_all()
            except EtcdError:
                await asyncio.sleep(0.1)

    async def create(self, resource: Resource, namespace: str, value: Object) -> Object:
        """Write a new object. Raises 409 ``AlreadyExists``."""
        name = value["metadata"]["name"]
        revision = await self.etcd.put_if(resource.key(namespace, name), serialise(value), 0)
        if revision is None:
            raise errors.already_exists(resource, name)
        value["metadata"]["resourceVersion"] = str(revision)
        return value

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """Read one object. Raises 404."""
        found = await self.etcd.get(resource.key(namespace, name))
        if found is None:
            raise errors.not_found(resource, name)
        return parse(found)

    async def list(
        self, resource: Resource, namespace: str, select: Select, *, limit: int = 0, token: str = ""
    ) -> tuple[list[Object], str, str, int]:
        """Matching objects: (items, resourceVersion, continue token, how many keys are left).

        The pages of one list are all read at the revision of the first.
        """
        prefix = resource.key(namespace)
        start, revision = None, 0
        if token:
            try:
                revision, start = json.loads(base64.b64decode(token))
            except ValueError:
                raise errors.bad_request(f"continue={token!r}: not a token of this server") from None
        found, at, count = await self.etcd.range(prefix, start=start, limit=limit, revision=revision)
        left = count - len(found)
        after = base64.b64encode(json.dumps([at, found[-1].key + "\0"]).encode()).decode() if left > 0 and found else ""
        return [each for each in map(parse, found) if select(each)], str(at), after, max(left, 0)

    async def change(
        self, resource: Resource, namespace: str, name: str, edit: Callable[[Object], Object | None], *, expect: str = ""
    ) -> tuple[Object, bool]:
        """Read, ``edit``, write if nobody wrote in between, else again. (object, whether it was deleted).

        ``edit`` gets its own copy and returns the new object, or None to delete. An unchanged object is not written.
        With ``expect`` a resourceVersion, another one in the store is a 409 ``Conflict``.
        """
        key = resource.key(namespace, name)
        while True:
            found = await self.etcd.get(key)
            if found is None:
                raise errors.not_found(resource, name)
            old = parse(found)
            if expect and expect != str(found.revision):
                raise errors.conflict(resource, name)
            new = edit(parse(found))
            if new is None:
                revision = await self.etcd.delete_if(key, found.revision)
            elif serialise(new) == found.value:
                return old, False
            else:
                revision = await self.etcd.put_if(key, serialise(new), found.revision)
            if revision is not None:
                result = old if new is None else new
                result["metadata"]["resourceVersion"] = str(revision)
                return result, new is None

    async def watch(
        self, resource: Resource, namespace: str, select: Select, since: int, *, idle: float
    ) -> AsyncIterator[tuple[str, Object] | int]:
        """Changes after revision ``since``: ("ADDED" | "MODIFIED" | "DELETED", object).

        After ``idle`` seconds without one, the revision reached so far: the material of a bookmark. An object that no
        longer matches ``select`` counts as deleted, one that begins to match as added. Raises 410 if ``since`` is too old.
        """
        if since < self.oldest:
            raise errors.expired(since, self.oldest)
        prefix = resource.key(namespace)
        while True:
            async with self._moved:
                try:
                    await asyncio.wait_for(self._moved.wait_for(lambda: self.revision > since), idle)  # noqa: B023
                except TimeoutError:
                    pass
                if since < self.oldest:
                    raise errors.expired(since, self.oldest)
                fresh = [change for change in self._window if change.revision > since]
                reached, since = since, max(since, self.revision)
            for change in fresh:
                if change.key.startswith(prefix) and (event := _event(change, select)):
                    yield event
            if reached == since:
                yield since


def _event(change: Change, select: Select) -> tuple[str, Object] | None:
    before = parse(change.before) if change.before else None
    was = before is not None and select(before)
    if change.value is not None:
        now = parse(change.value)
        if select(now):
            return ("MODIFIED" if was else "ADDED"), now
    if not was:
        return None
    before["metadata"]["resourceVersion"] = str(change.revision)
    return "DELETED", before
