"""A stateful function over a stream: windows by event time, checkpoints, and a death at any message.

Readings come from a JetStream stream, results of windows go to another one. State and position are one checkpoint,
written in one piece to the key-value store, against the revision that was read: a predecessor that only seemed dead
cannot write any more. After a restart the messages since the checkpoint are read again, so results may be computed
twice; each carries its own name as ``Nats-Msg-Id``, by which JetStream drops the second.

:func:`work` is a task for :class:`beyondlab.durable.hosts.Host`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from beyondlab.durable.sensors import Reading
from beyondlab.durable.windows import Fired, Session, Sliding, Tumbling, Windows
from beyondlab.kit import nats

if TYPE_CHECKING:
    from nats.js import JetStreamContext

READINGS, RESULTS, CHECKPOINTS = "READINGS", "RESULTS", "checkpoints"
CHUNK = 24
"""Readings that are on their way at the same time: few, so that the gateways disturb the order of arrival only a little."""

DELAY = 3_000
"""Milliseconds that event time may lag behind: a little more than the sensors' disorder."""


def operators() -> dict[str, Windows]:
    """The three operators of the chapter: by production line, and sessions by sensor."""
    return {
        "tumbling": Windows(Tumbling(10_000), DELAY),
        "sliding": Windows(Sliding(20_000, 5_000), DELAY),
        "session": Windows(Session(5_000), DELAY),
    }


def keyed(operator: str, sensor: int, line: int) -> str:
    """The key of an event in an operator."""
    return f"sensor-{sensor}" if operator == "session" else f"line-{line}"


def batch(readings: list[Reading] | list[dict[str, Any]]) -> dict[str, list[Fired]]:
    """All three operators over a list of readings in memory: what the processor must come to."""
    found = {}
    for name, windows in operators().items():
        fired = []
        for reading in readings:
            event = asdict(reading) if isinstance(reading, Reading) else reading
            fired += windows.add(keyed(name, event["sensor"], event["line"]), event["time"], event["value"])
        found[name] = fired + windows.close()
    return found


async def prepare(server: nats.Server) -> None:
    """Make the two streams and the bucket of checkpoints."""
    async with server.connect() as client:
        stream = client.jetstream()
        await stream.add_stream(name=READINGS, subjects=["sensors.>"])
        await stream.add_stream(name=RESULTS, subjects=["results.>"])
        await stream.create_key_value(bucket=CHECKPOINTS)


def publish(server: nats.Server, readings: list[Reading], *, gateways: int = 12) -> int:
    """Publish the readings over MQTT, QoS 1, through ``gateways`` real clients; the number that the stream holds then.

    Sensor *n* sends through gateway *n* mod ``gateways``, on the topic ``sensors/LINE/SENSOR``. Raises TimeoutError if
    they do not arrive.
    """
    from beyondlab.kit.processes import wait_until

    clients = [server.mqtt_client(f"gateway-{number}") for number in range(gateways)]
    try:
        for begin in range(0, len(readings), CHUNK):
            sent = []
            for reading in readings[begin : begin + CHUNK]:
                event = {"sensor": reading.sensor, "line": reading.line, "time": reading.time, "value": reading.value}
                topic = f"sensors/{reading.line}/{reading.sensor}"
                sent.append(clients[reading.sensor % gateways].publish(topic, json.dumps(event), qos=1))
            for message in sent:
                message.wait_for_publish(60)
    finally:
        for client in clients:
            client.disconnect()
            client.loop_stop()

    async def stored() -> int:
        async with server.connect() as client:
            return (await client.jetstream().stream_info(READINGS)).state.messages

    return wait_until(
        lambda: (count := nats.run(stored())) >= len(readings) and count, timeout=60, what="the readings to be in the stream"
    )


async def _read(stream: JetStreamContext, name: str, subject: str, start: int = 1, *, batch: int = 256) -> Any:
    """The messages of a stream from sequence number ``start``, as they are in it."""
    from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

    last = (await stream.stream_info(name)).state.last_seq
    if start > last:
        return
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=start, ack_policy=AckPolicy.NONE, filter_subject=subject
    )
    subscription = await stream.pull_subscribe(subject, stream=name, config=config)
    try:
        while (pending := (await subscription.consumer_info()).num_pending) > 0:
            for message in await subscription.fetch(min(batch, pending), timeout=60):
                yield message
    finally:
        await subscription.unsubscribe()


async def stored(server: nats.Server, name: str, subject: str) -> list[dict[str, Any]]:
    """What a stream holds on a subject, decoded, in order."""
    async with server.connect() as client:
        return [json.loads(message.data) async for message in _read(client.jetstream(), name, subject)]


def work(
    url: str, job: str, *, last: int, die_after: int = 0, every: int = 300, named: bool = True, checkpointed: bool = True
) -> dict[str, int]:
    """Process the stream of readings up to its message ``last``, from the checkpoint of ``job`` or from the beginning.

    ``die_after`` messages of this life it kills itself with SIGKILL; 0: never. ``every``: messages between two checkpoints.
    ``named``: give results a name by which duplicates are dropped. ``checkpointed`` False forgets the state, but keeps the
    position: what a consumer does that acknowledges its messages and holds its state in memory only.

    What it did in this life: ``read`` messages, ``results`` published, ``duplicates`` dropped by the stream; and, over all
    lives, events ``late`` for the tumbling windows.
    """
    return asyncio.run(_work(url, job, last, die_after, every, named, checkpointed))


async def _work(url: str, job: str, last: int, die_after: int, every: int, named: bool, checkpointed: bool) -> dict[str, int]:
    import nats as client_library
    from nats.js.errors import KeyNotFoundError

    client = await client_library.connect(url, allow_reconnect=False, connect_timeout=20)
    stream = client.jetstream()
    checkpoints = await stream.key_value(CHECKPOINTS)
    windows = operators()
    position, revision = 0, 0
    try:
        entry = await checkpoints.get(job)
        revision, saved = entry.revision, json.loads(entry.value)
        position = saved["position"]
        for name, state in saved["windows"].items():
            if checkpointed:
                windows[name].restore(state)
    except KeyNotFoundError:
        pass
    done = {"read": 0, "results": 0, "duplicates": 0, "from": position}

    async def emit(fired: list[tuple[str, Fired]]) -> None:
        sent = [
            stream.publish(
                f"results.{job}.{name}",
                json.dumps(asdict(result)).encode(),
                headers={"Nats-Msg-Id": f"{job}/{name}/{result.name}"} if named else None,
            )
            for name, result in fired
        ]
        for acknowledgement in await asyncio.gather(*sent):
            done["results"] += 1
            done["duplicates"] += bool(acknowledgement.duplicate)

    async def checkpoint() -> int:
        document = {"position": position, "windows": {name: held.state() for name, held in windows.items()}}
        return await checkpoints.update(job, json.dumps(document).encode(), last=revision)

    if position < last:
        async for message in _read(stream, READINGS, "sensors.>", position + 1):
            event = json.loads(message.data)
            fired = []
            for name, held in windows.items():
                key = keyed(name, event["sensor"], event["line"])
                fired += [(name, result) for result in held.add(key, event["time"], event["value"])]
            await emit(fired)
            position = message.metadata.sequence.stream
            done["read"] += 1
            if done["read"] == die_after:
                os.kill(os.getpid(), signal.SIGKILL)
            if position % every == 0:
                revision = await checkpoint()
            if position == last:
                break
    await emit([(name, result) for name, held in windows.items() for result in held.close()])
    revision = await checkpoint()
    done["late"] = windows["tumbling"].late
    await client.close()
    return done
