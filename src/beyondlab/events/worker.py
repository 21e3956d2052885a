"""Producers and consumers as processes: ``python -m beyondlab.events.worker '{"role": "consume", ...}'``.

They are made to be killed. What a consumer does is a row in a table of its own SQLite file, which outlives it. It acts
in the order of its ``mode``:

* ``first``: acknowledge, then work: at most once;
* ``last``: work, then acknowledge: at least once;
* ``once``: work and note the event's id in one transaction, then acknowledge: at least once, idempotent.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.modules.setdefault("aiohttp", None)  # type: ignore[arg-type]  # only for WebSockets; two thirds of the start

import nats
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from beyondlab.events import outbox

LOST = (NatsError, JetStreamError, OSError, TimeoutError)
"""What a client gets while the broker is down."""


@asynccontextmanager
async def connected(url: str):
    """A client that waits for the broker and comes back to it."""
    client = await nats.connect(
        url, max_reconnect_attempts=-1, reconnect_time_wait=0.05, connect_timeout=1, error_cb=_quiet, allow_reconnect=True
    )
    try:
        yield client
    finally:
        await client.close()


async def _quiet(_: Exception) -> None:
    """The broker's death is part of the plan."""


def crash() -> None:
    """SIGKILL to this very process: nothing that comes after it happens, no clean-up runs."""
    os.kill(os.getpid(), signal.SIGKILL)


def message(number: int, *, structured: bool = False, poison: bool = False) -> tuple[dict[str, str], bytes]:
    """An order's event as the CloudEvents SDK writes it: headers and payload."""
    from cloudevents import conversion
    from cloudevents.http import CloudEvent

    event = CloudEvent(
        {"type": "org.example.order.placed", "source": "/shop", "id": str(number), "time": datetime.now(UTC).isoformat()},
        {"order": number, "poison": poison},
    )
    return (conversion.to_structured if structured else conversion.to_binary)(event)


def read(headers: dict[str, str] | None, payload: bytes) -> tuple[str, float, dict[str, Any]]:
    """Id, age in seconds and data of a message's event, in either mode, by the SDK."""
    from cloudevents.http import from_http

    event = from_http(headers or {}, payload)
    age = (datetime.now(UTC) - datetime.fromisoformat(event["time"])).total_seconds()
    return event["id"], age, event.data


async def produce(url: str, subject: str, count: int, progress: str, mode: str, window: int = 10, gap: float = 0.05) -> None:
    """Send events 1 to ``count``, ``window`` at a time, then pause ``gap`` seconds.

    With mode ``first``, progress is noted before sending and nothing waits for an acknowledgement: at most once.
    Otherwise it is noted when the broker has acknowledged, and the window is sent again until then.
    """
    path = Path(progress)
    done = int(path.read_text()) if path.exists() else 0
    async with connected(url) as client:
        stream = client.jetstream(timeout=1)
        while done < count:
            numbers = range(done + 1, min(done + window, count) + 1)
            if mode == "first":
                _note(path, numbers[-1])
            for number in numbers:
                headers, payload = message(number, structured=number % 2 == 0)
                if mode == "first":
                    await client.publish(subject, payload, headers=headers)
            if mode != "first":
                await _until_done(lambda: _publish(stream, subject, numbers))
                _note(path, numbers[-1])
            done = numbers[-1]
            await asyncio.sleep(gap)
        await _until_done(client.flush)


async def _publish(stream: Any, subject: str, numbers: range) -> None:
    sent = []
    for number in numbers:
        headers, payload = message(number, structured=number % 2 == 0)
        sent.append(stream.publish(subject, payload, headers=headers))
    await asyncio.gather(*sent)


def _note(path: Path, number: int) -> None:
    new = path.with_suffix(".new")
    new.write_text(str(number))
    os.replace(new, path)


async def _until_done(action: Callable[[], Awaitable[Any]]) -> Any:
    while True:
        try:
            return await action()
        except LOST:
            await asyncio.sleep(0.02)


async def consume(
    url: str, stream: str, durable: str, database: str, mode: str, batch: int = 10, work: float = 0.003
) -> None:
    """Take batches of events and do ``work`` seconds for each, until SIGTERM; then end after the batch in hand."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    with outbox.database(database) as db:
        async with connected(url) as client:
            subscription = await _until_done(
                lambda: client.jetstream(timeout=1).pull_subscribe_bind(durable=durable, stream=stream)
            )
            while not stopping.is_set():
                try:
                    messages = await subscription.fetch(batch, timeout=0.2)
                except LOST:
                    await asyncio.sleep(0.01)
                    continue
                if mode == "first":
                    await _acknowledge(client, messages)
                for one in messages:
                    await asyncio.sleep(work)
                    row = read(one.headers, one.data)[:2]
                    if mode == "once":
                        outbox.once(db, row[0], lambda row=row: outbox.effect(db, *row))
                    else:
                        outbox.effect(db, *row)
                if mode != "first":
                    await _acknowledge(client, messages)


async def _acknowledge(client: Any, messages: list[Any]) -> None:
    try:
        for one in messages:
            await one.ack()
        await client.flush(timeout=1)
    except LOST:
        pass


async def shop(url: str, subject: str, database: str, count: int, how: str, crash_at: int | None = None) -> None:
    """Take orders up to number ``count`` and tell of each; killed between the two halves of ``crash_at``."""
    with outbox.database(database) as db:
        async with connected(url) as client:
            stream = client.jetstream(timeout=2)

            async def tell(number: int) -> None:
                headers, payload = message(number)
                await stream.publish(subject, payload, headers=headers)

            for number in range(max(outbox.orders(db), default=0) + 1, count + 1):
                if how == "outbox":
                    outbox.write_order_and_event(db, number, {"order": number})
                    continue
                if how == "database first":
                    outbox.write_order(db, number)
                else:
                    await tell(number)
                if number == crash_at:
                    crash()
                if how == "database first":
                    await tell(number)
                else:
                    outbox.write_order(db, number)


async def relay(url: str, subject: str, database: str, ids: bool, crash_at: int | None = None) -> None:
    """Publish what waits in the outbox; killed after publishing ``crash_at``, before noting it."""
    with outbox.database(database) as db:
        async with connected(url) as client:
            stream = client.jetstream(timeout=2)
            for number, _ in outbox.waiting(db):
                headers, payload = message(number)
                await stream.publish(subject, payload, headers=headers | ({"Nats-Msg-Id": str(number)} if ids else {}))
                if number == crash_at:
                    crash()
                outbox.mark_sent(db, number)


ROLES: dict[str, Callable[..., Awaitable[None]]] = {"produce": produce, "consume": consume, "shop": shop, "relay": relay}


def main(argument: str) -> None:
    """Run the role that the JSON ``argument`` names, with the rest of it as its arguments."""
    settings = json.loads(argument)
    asyncio.run(ROLES[settings.pop("role")](**settings))


if __name__ == "__main__":
    main(sys.argv[1])
