"""The model server of the course: the Open Inference Protocol on Tornado, a dynamic batcher in front of each version.

``python -m beyondlab.inference.server CONFIG`` with a JSON file: ``name``, ``versions`` (name to path of an ONNX file),
``size`` and ``delay`` of the batcher. Beside the protocol it has two paths of its own: ``POST /traffic`` takes a split
in percent, ``POST /batching`` another size and delay, and ``GET /curve`` measures the seconds of a batch by size.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from beyondlab.inference import protocol
from beyondlab.inference.batching import Batcher
from beyondlab.kit import processes

_READY = re.compile(r"listening on port (\d+)")
_KINDS = {"tensor(float)": "FP32", "tensor(int64)": "INT64", "tensor(double)": "FP64", "tensor(int32)": "INT32"}


class Version:
    """One loaded ONNX file with its batcher."""

    def __init__(self, path: str, executor: ThreadPoolExecutor, size: int, delay: float) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options)
        self.executor = executor
        self.names = [output.name for output in self.session.get_outputs()]
        self.input = self.session.get_inputs()[0]
        self.configure(size, delay)

    def configure(self, size: int, delay: float) -> None:
        self.batcher = Batcher(self.run, size=size, delay=delay, executor=self.executor)

    def run(self, items: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """Requests of any number of rows each, as one batch."""
        outputs = self.session.run(self.names, {self.input.name: np.concatenate(items)})
        edges = np.cumsum([0, *(len(item) for item in items)])
        return [
            {name: output[begin:end] for name, output in zip(self.names, outputs)}
            for begin, end in zip(edges, edges[1:])
        ]

    def tensors(self) -> tuple[tuple[protocol.Tensor, ...], tuple[protocol.Tensor, ...]]:
        def of(values: Any) -> tuple[protocol.Tensor, ...]:
            return tuple(
                protocol.Tensor(v.name, _KINDS[v.type], tuple(n if isinstance(n, int) else -1 for n in v.shape))
                for v in values
            )

        return of(self.session.get_inputs()), of(self.session.get_outputs())

    def seconds(self, size: int, repetitions: int = 5) -> float:
        """Median seconds of a batch of ``size`` rows of zeros and ones."""
        shape = [n if isinstance(n, int) else 1 for n in self.input.shape]
        kind = protocol.DATATYPES[_KINDS[self.input.type]]
        row = (np.arange(int(np.prod(shape))).reshape(shape) % 7).astype(kind)
        taken = []
        for _ in range(repetitions):
            begin = time.perf_counter()
            self.run([row] * size)
            taken.append(time.perf_counter() - begin)
        return float(np.median(taken))


def application(model: protocol.Model) -> Any:
    """The Tornado application for one model whose versions are :class:`Version`."""
    from tornado import web

    models = {model.name: model}

    class Handler(web.RequestHandler):
        async def get(self) -> None:
            await self.answer("GET")

        async def post(self) -> None:
            await self.answer("POST")

        async def answer(self, method: str) -> None:
            try:
                if self.request.path == "/curve":
                    await self.curve()
                elif self.request.path in ("/traffic", "/batching"):
                    self.administer(json.loads(self.request.body))
                else:
                    await self.protocol(method)
            except protocol.ProtocolError as error:
                self.send(error.status, json.dumps({"error": str(error)}).encode())
            except (ValueError, TypeError) as error:
                self.send(400, json.dumps({"error": str(error)}).encode())

        async def protocol(self, method: str) -> None:
            what, parts = protocol.route(method, self.request.path)
            if what != "infer":
                status, document = protocol.describe(what, parts, models, lambda: True)
                self.send(status, json.dumps(document).encode())
                return
            found = protocol.find(models, parts[0])
            version = found.choose(parts[1])
            request = protocol.decode_request(self.request.body, dict(self.request.headers), found.inputs)
            (item,) = request.inputs.values()
            outputs, batch = await found.versions[version].batcher.infer(item)
            parameters = {"batch": batch.number, "size": batch.size, "seconds": batch.seconds, "waited": batch.waited}
            self.send(200, *protocol.encode_response(found.name, version, outputs, request, parameters))

        def administer(self, document: Any) -> None:
            if self.request.path == "/traffic":
                model.split(document)
            else:
                for version in model.versions.values():
                    version.configure(document["size"], document["delay"])
            self.send(200, b"{}")

        async def curve(self) -> None:
            sizes = [int(text) for text in self.get_query_argument("sizes").split(",")]
            version = model.versions[model.choose()]
            loop = asyncio.get_running_loop()
            seconds = [await loop.run_in_executor(version.executor, version.seconds, size) for size in sizes]
            self.send(200, json.dumps(seconds).encode())

        def send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
            self.set_status(status)
            for name, value in (headers or {"Content-Type": "application/json"}).items():
                self.set_header(name, value)
            self.finish(body)

    return web.Application([(r"/.*", Handler)])


async def _serve(config: dict[str, Any]) -> None:
    from tornado.httpserver import HTTPServer
    from tornado.netutil import bind_sockets

    executor = ThreadPoolExecutor(1)
    versions = {
        name: Version(path, executor, config.get("size", 1), config.get("delay", 0.0))
        for name, path in config["versions"].items()
    }
    inputs, outputs = next(iter(versions.values())).tensors()
    model = protocol.Model(config["name"], "onnxruntime_onnx", inputs, outputs, versions)
    sockets = bind_sockets(0, "127.0.0.1")
    HTTPServer(application(model)).add_sockets(sockets)
    print("listening on port", sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


@contextmanager
def model_server(
    name: str, versions: Mapping[str, Path | str], *, size: int = 1, delay: float = 0.0, timeout: float = 60.0
) -> Iterator[str]:
    """A model server as a process of its own; its address."""

    def port(process: processes.Process) -> str | None:
        found = _READY.search(process.output())
        return found and found[1]

    with processes.scratch("server-") as folder:
        paths = {version: str(path) for version, path in versions.items()}
        config = {"name": name, "versions": paths, "size": size, "delay": delay}
        (folder / "config.json").write_text(json.dumps(config))
        argv = [sys.executable, "-m", "beyondlab.inference.server", str(folder / "config.json")]
        with processes.Process(argv, name="model server", ready=port, timeout=timeout, stop_timeout=0.5) as process:
            yield f"http://127.0.0.1:{port(process)}"


if __name__ == "__main__":
    threading.current_thread().name = "server"
    asyncio.run(_serve(json.loads(Path(sys.argv[1]).read_text())))
