"""One writer a key: what entities (Durable Objects, Orleans' grains, Durable Entities) add to functions and a store.

:func:`concurrently` lets many writers run a function of yours against NATS's key-value store. :class:`Counters` hosts
entities: one task and one mailbox a key, its state in the store. An entity reads the store once, when it is activated;
after that it only writes, with the revision it knows, so that a second activation elsewhere cannot go unnoticed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from beyondlab.kit import check, nats

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js.kv import KeyValue

BUCKET = "state"
CONNECTIONS = 8
"""Connections that the writers share."""
SUBJECT = "entity.counter"


async def bucket(client: Client) -> KeyValue:
    """The key-value store of this chapter, made if it is not there."""
    from nats.js.errors import BucketNotFoundError

    stream = client.jetstream()
    try:
        return await stream.key_value(BUCKET)
    except BucketNotFoundError:
        return await stream.create_key_value(bucket=BUCKET)


async def value(store: KeyValue, key: str) -> int:
    """The number at ``key``; 0 if there is none."""
    from nats.js.errors import KeyNotFoundError

    try:
        return int((await store.get(key)).value)
    except KeyNotFoundError:
        return 0


def concurrently(
    server: nats.Server, function: Callable[..., Awaitable[Any]], *, key: str, writers: int = 64, each: int = 4
) -> dict[str, int]:
    """``writers`` at once, on :data:`CONNECTIONS` connections, call ``function(store, key)`` ``each`` times on a counter at 0.

    ``wanted``: the increments made; ``counted``: what the counter says in the end; ``lost``: the difference;
    ``attempts``: what the function returned, added up, where it returns how often it tried. Raises ValueError unless there
    is a writer and an increment.
    """
    check.whole("writers", writers, 1)
    check.whole("each", each, 1)

    async def writer(store: KeyValue) -> int:
        return sum([await function(store, key) or 0 for _ in range(each)])

    async def main() -> dict[str, int]:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(server.connect()) for _ in range(CONNECTIONS)]
            stores = [await bucket(client) for client in clients]
            await stores[0].put(key, b"0")
            attempts = sum(await asyncio.gather(*[writer(stores[number % CONNECTIONS]) for number in range(writers)]))
            return {**_tally(writers * each, await value(stores[0], key)), "attempts": attempts}

    return nats.run(main(), timeout=120)


def _tally(wanted: int, counted: int) -> dict[str, int]:
    return {"wanted": wanted, "counted": counted, "lost": wanted - counted}


class Counters:
    """A host of counter entities: ``async with Counters(client)``. Ask one with ``client.request(SUBJECT + ".KEY", b"1")``.

    Requests of one key are done one after another, of different keys at the same time. The answer is sent when the new
    value is in the store. ``fenced`` counts writes that were refused because somebody else had written.
    """

    def __init__(self, client: Client) -> None:
        self.client, self.fenced = client, 0
        self._mailboxes: dict[str, asyncio.Queue] = {}
        self._tasks: list[asyncio.Task] = []

    async def __aenter__(self) -> Counters:
        self._store = await bucket(self.client)
        self._subscription = await self.client.subscribe(f"{SUBJECT}.*", cb=self._deliver)
        await self.client.flush()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._subscription.unsubscribe()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _deliver(self, message: Any) -> None:
        key = message.subject.rpartition(".")[2]
        if key not in self._mailboxes:
            self._mailboxes[key] = asyncio.Queue()
            self._tasks.append(asyncio.create_task(self._live(key, self._mailboxes[key])))
        self._mailboxes[key].put_nowait(message)

    async def _live(self, key: str, mailbox: asyncio.Queue) -> None:
        from nats.js.errors import KeyWrongLastSequenceError

        revision, count = await self._activate(key)
        while True:
            message = await mailbox.get()
            while True:
                wanted = count + int(message.data or b"1")
                try:
                    revision = await self._store.update(key, b"%d" % wanted, last=revision)
                    break
                except KeyWrongLastSequenceError:
                    self.fenced += 1
                    revision, count = await self._activate(key)
            count = wanted
            await message.respond(b"%d" % count)

    async def _activate(self, key: str) -> tuple[int, int]:
        from nats.js.errors import KeyNotFoundError

        try:
            entry = await self._store.get(key)
        except KeyNotFoundError:
            return 0, 0
        return entry.revision, int(entry.value)


def with_entities(server: nats.Server, *, key: str, writers: int = 64, each: int = 4) -> dict[str, int]:
    """As :func:`concurrently`, but each writer asks the entity; ``fenced`` as in :class:`Counters`."""

    async def writer(client: Client) -> None:
        for _ in range(each):
            await client.request(f"{SUBJECT}.{key}", b"1", timeout=60)

    async def main() -> dict[str, int]:
        async with server.connect() as home, Counters(home) as entities, AsyncExitStack() as stack:
            store = await bucket(home)
            await store.put(key, b"0")
            clients = [await stack.enter_async_context(server.connect()) for _ in range(CONNECTIONS)]
            await asyncio.gather(*[writer(clients[number % CONNECTIONS]) for number in range(writers)])
            return {**_tally(writers * each, await value(store, key)), "fenced": entities.fenced}

    return nats.run(main(), timeout=120)
