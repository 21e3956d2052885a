"""The consumer of the live version, as a process: ``python -m beyondlab.capstone.worker '{"url": …}'``.

It takes readings from NATS, asks the model server, keeps its notes in a NATS key-value bucket or, with durable execution,
in DBOS, and sends alerts to the stream ALERTS. It can be told to kill itself, for real, after the alert of one reading.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from typing import Any
from urllib.parse import urlsplit

from beyondlab.capstone.plan import ATTEMPTS, BATCH


class Refused(Exception):
    """The model server took no part of the request."""


class Model:
    """A client of the Open Inference Protocol over one kept connection."""

    def __init__(self, address: str) -> None:
        self.parts, self.streams = urlsplit(address), None

    async def risks(self, rows: list[list[float]]) -> list[float]:
        """The risk of each row of three features. Raises :class:`Refused` for status 400."""
        if self.streams is None:
            self.streams = await asyncio.open_connection(self.parts.hostname, self.parts.port)
        reader, writer = self.streams
        width = len(rows[0]) if len({len(row) for row in rows}) == 1 else 0
        document = {"inputs": [{"name": "features", "shape": [len(rows), width], "datatype": "FP32",
                                "data": [value for row in rows for value in row]}]}  # fmt: skip
        body = json.dumps(document).encode()
        head = f"POST /v2/models/enrich/infer HTTP/1.1\r\nHost: lab\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        header = (await reader.readuntil(b"\r\n\r\n")).lower()
        answer = await reader.readexactly(int(header.split(b"content-length:")[1].split(b"\r\n")[0]))
        if not header.startswith(b"http/1.1 200"):
            raise Refused(answer.decode())
        return json.loads(answer)["outputs"][0]["data"]


class Consumer:
    """What happens to a reading: enrich, look at the note, send, note."""

    def __init__(self, client: Any, notes: Any, model: Model, state: str, dies_at: int) -> None:
        self.client, self.notes, self.model, self.state, self.dies_at = client, notes, model, state, dies_at
        self.stream = client.jetstream(timeout=5)

    async def handle(self, reading: dict[str, Any]) -> None:
        """Raises :class:`Refused` for a reading that no model takes."""
        (risk,) = await self.model.risks([reading["features"]])
        if risk > 0.5:
            await self.alert(reading["number"])

    async def alert(self, number: int) -> None:
        from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError

        if self.state == "entity":
            from beyondlab.capstone import escalation

            return await escalation.alert(number)
        key, claim = str(number), None
        if self.state == "key-value":
            try:
                claim = await self.notes.create(key, b"claimed")
            except KeyWrongLastSequenceError:
                entry = await self.notes.get(key)
                if entry.value == b"sent":
                    return
                claim = entry.revision
        else:
            with contextlib.suppress(KeyNotFoundError):
                await self.notes.get(key)
                return
        await self.send(number)
        if self.state == "key-value":
            await self.notes.update(key, b"sent", last=claim)
        else:
            await self.notes.put(key, b"sent")

    async def send(self, number: int) -> None:
        """Send the alert, with an id where the state knows one; then die, if this is the place."""
        headers = {"Nats-Msg-Id": str(number)} if self.state != "database" else None
        await self.stream.publish("ALERTS", str(number).encode(), headers=headers)
        if number == self.dies_at:
            await self.client.flush(timeout=5)
            os.kill(os.getpid(), signal.SIGKILL)


async def stored(consumer: Consumer, way: str) -> None:
    """Batch after batch, until told to stop. A queue's readings are acknowledged one by one, a log's together."""
    subscription = await consumer.stream.pull_subscribe_bind(durable="enrich", stream="READINGS")
    print("ready", flush=True)
    while True:
        try:
            hand = await subscription.fetch(BATCH, timeout=0.3)
        except TimeoutError:
            continue
        done = []
        for message in hand:
            try:
                await consumer.handle(json.loads(message.data))
            except Refused:
                if message.metadata.num_delivered < ATTEMPTS:
                    await message.nak()
                    continue
                await consumer.stream.publish("DEAD", message.data)
            if way == "log":
                done.append(message)
            else:
                await message.ack()
        for message in done:
            await message.ack()
        await consumer.client.flush(timeout=5)


async def direct(consumer: Consumer) -> None:
    """Answer calls, one after another."""
    calls: asyncio.Queue[Any] = asyncio.Queue()
    await consumer.client.subscribe("enrich", cb=calls.put)
    await consumer.client.flush(timeout=5)
    print("ready", flush=True)
    while True:
        call = await calls.get()
        try:
            await consumer.handle(json.loads(call.data))
        except Refused:
            await call.respond(b"refused")
            continue
        await call.respond(b"done")


async def main(url: str, model: str, way: str, state: str, database: str, dies_at: int = 0) -> None:
    """Consume until killed."""
    import nats

    client = await nats.connect(url, allow_reconnect=False, connect_timeout=20)
    notes = await client.jetstream(timeout=5).key_value("notes")
    consumer = Consumer(client, notes, Model(model), state, dies_at)
    if state == "entity":
        from beyondlab.capstone import escalation

        escalation.launch(database, consumer.send)
    await (direct(consumer) if way == "direct" else stored(consumer, way))


if __name__ == "__main__":
    asyncio.run(main(**json.loads(sys.argv[1])))
