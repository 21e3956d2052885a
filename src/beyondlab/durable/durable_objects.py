"""Durable Objects on workerd, Cloudflare's own runtime: the same order and the same counter, where workerd is present.

workerd is one binary; npm brings it (``npm install --prefix .cache/node workerd``). It is looked for where the environment
variable ``BEYONDLAB_WORKERD`` says, on PATH, and in the checkout's ``.cache/node/node_modules``.

The object of an order keeps its progress in its SQLite storage, does each effect by an HTTP request to the world outside,
and goes on from there when it is called again. Outgoing requests wait until what was written is on disk (the "output
gate"), so a recorded step is on disk when the world hears of the next one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from beyondlab.durable.crashes import Crash
from beyondlab.durable.orders import World
from beyondlab.kit import processes

VARIABLE = "BEYONDLAB_WORKERD"
_FOLDER = Path(__file__).parents[3] / ".cache" / "node" / "node_modules"
_PACKAGES = "@cloudflare/workerd-*/bin/workerd"
_COMPATIBILITY = "2026-01-01"

_WORKER = """
import { DurableObject } from "cloudflare:workers";

export class Counter extends DurableObject {
  async fetch() {
    const count = (await this.ctx.storage.get("count")) ?? 0;
    await this.ctx.storage.put("count", count + 1);
    return Response.json(count + 1);
  }
}

export class Order extends DurableObject {
  async fetch(request) {
    const order = new URL(request.url).pathname.split("/").pop();
    let number = 0;
    const step = async (effect) => {
      const key = `${order}/${++number}`;
      const known = await this.ctx.storage.get(key);
      if (known !== undefined) return known;
      const url = `http://world/${effect}?key=${key}&order=${order}`;
      const answer = await this.env.WORLD.fetch(url, { method: "POST" });
      await this.ctx.storage.put(key, answer.ok);
      await this.env.WORLD.fetch(`http://world/recorded?effect=${effect}&order=${order}`, { method: "POST" });
      return answer.ok;
    };
    const undo = [];
    for (const [effect, opposite] of [["reserve", "release"], ["charge", "refund"], ["ship", null]]) {
      if (!(await step(effect))) {
        for (const effect of undo.reverse()) await step(effect);
        return Response.json("cancelled");
      }
      undo.push(opposite);
    }
    return Response.json("shipped");
  }
}

export default {
  async fetch(request, env) {
    const [, kind, name] = new URL(request.url).pathname.split("/");
    const namespace = kind === "order" ? env.ORDER : env.COUNTER;
    return namespace.get(namespace.idFromName(name)).fetch(request);
  }
};
"""


def program() -> str | None:
    """Path of workerd; None if there is none."""
    given = os.environ.get(VARIABLE)
    if given:
        return given if os.access(given, os.X_OK) else None
    found = [*sorted(_FOLDER.glob(_PACKAGES)), _FOLDER / ".bin" / "workerd"]
    return shutil.which("workerd") or next((str(path) for path in found if os.access(path, os.X_OK)), None)


def missing() -> str | None:
    """Why the experiments with workerd cannot run here; None if they can."""
    return None if program() else "workerd is not installed (npm install --prefix .cache/node workerd)"


def version() -> str:
    """The version that workerd tells, such as ``2026-11-17``."""
    said = subprocess.run([program(), "--version"], capture_output=True, text=True, check=True, timeout=20).stdout
    return said.split()[-1]


class Workerd:
    """workerd with the two classes of objects, storage in ``folder``, in a ``with`` block. ``world`` is the world's port."""

    def __init__(self, folder: Path, world: int) -> None:
        self.folder, self.port = folder, 0
        (folder / "store").mkdir(parents=True, exist_ok=True)
        (folder / "worker.js").write_text(_WORKER)
        (folder / "config.capnp").write_text(_configuration(folder / "store", world))
        self._process: processes.Process | None = None

    def __enter__(self) -> Workerd:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.stop()

    def start(self) -> Workerd:
        """Start, or start again on the same storage."""
        argv = [program(), "serve", "--experimental", "--control-fd=1", self.folder / "config.capnp"]
        self._process = processes.Process(argv, name="workerd", ready=self._listens, timeout=20).start()
        return self

    def _listens(self, process: processes.Process) -> bool:
        for line in process.output(50).splitlines():
            if line.startswith("{") and '"listen"' in line:
                self.port = json.loads(line)["port"]
                return True
        return False

    def kill(self) -> None:
        """SIGKILL, without waiting."""
        os.kill(self._process.pid, signal.SIGKILL)

    def gone(self) -> None:
        """Wait until a killed workerd has ended."""
        self._process.wait(5)
        self._process.stop()

    def ask(self, path: str) -> Any:
        """The answer to a request, as JSON. Raises OSError or http.client.HTTPException if workerd dies over it."""
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("POST", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


def _configuration(store: Path, world: int) -> str:
    return f"""using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = .main),
    (name = "store", disk = (path = "{store}", writable = true)),
    (name = "world", external = (address = "127.0.0.1:{world}", http = ())),
  ],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],
);
const main :Workerd.Worker = (
  modules = [(name = "worker", esModule = embed "worker.js")],
  compatibilityDate = "{_COMPATIBILITY}",
  durableObjectNamespaces = [
    (className = "Counter", uniqueKey = "counter", enableSql = true),
    (className = "Order", uniqueKey = "order", enableSql = true),
  ],
  durableObjectStorage = (localDisk = "store"),
  bindings = [
    (name = "COUNTER", durableObjectNamespace = "Counter"),
    (name = "ORDER", durableObjectNamespace = "Order"),
    (name = "WORLD", service = "world"),
  ],
);
"""


class _Outside(ThreadingHTTPServer):
    """The world as a web service. ``die_at``: the point at which ``kill`` is called instead of an answer."""

    daemon_threads = True

    def __init__(self, world: World) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.world, self.points = world, []
        self.die_at, self.kill = 0, lambda: None

    def reached(self, point: str) -> bool:
        """Whether this was the last point."""
        self.points.append(point)
        if len(self.points) == self.die_at:
            self.kill()
            return True
        return False


class _Handler(BaseHTTPRequestHandler):
    server: _Outside

    def do_POST(self) -> None:
        from urllib.parse import parse_qsl, urlsplit

        address = urlsplit(self.path)
        given, status = dict(parse_qsl(address.query)), 200
        effect = address.path.strip("/")
        if effect == "recorded":
            point = f"{given['effect']}: recorded"
            last = given["effect"] not in self.server.world.broken and self.server.reached(point)
        else:
            try:
                self.server.world.do(effect, given["key"], given["order"])
                last = self.server.reached(f"{effect}: done, not recorded")
            except RuntimeError:
                status, last = 503, False
        if last:
            return
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _outside(world: World) -> Iterator[_Outside]:
    server = _Outside(world)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def order(folder: Path, die_at: int, *, broken: Sequence[str] = ()) -> tuple[Crash, list[str]]:
    """One order in a Durable Object, killed at its ``die_at``-th point (0: never), started again and called again.

    What came of it, and the points that it passed.
    """
    import http.client

    world = World(folder / "world", broken=broken)
    with _outside(world) as outside, Workerd(folder, outside.server_port) as workerd:
        outside.die_at, outside.kill = die_at, workerd.kill
        killed = False
        try:
            result = workerd.ask("/order/one")
        except (OSError, http.client.HTTPException):
            workerd.gone()
            killed = True
            outside.die_at = 0
            result = workerd.start().ask("/order/one")
        points = list(outside.points)
    point = points[die_at - 1] if die_at else ""
    return Crash(point, killed, result, world.counts("attempts"), world.counts("keyed")), points


def survey(folder: Path, *, broken: Sequence[str] = ()) -> list[Crash]:
    """The order killed at each of its points, one workerd after another."""
    _, points = order(folder / "0", 0, broken=broken)
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda number: order(folder / str(number), number, broken=broken)[0], range(1, len(points) + 1)))


def counter(folder: Path, *, writers: int = 64, each: int = 4) -> dict[str, int]:
    """``writers`` at once ask one Counter object ``each`` times; then SIGKILL, and the count after the restart."""
    with _outside(World(folder / "world")) as outside, Workerd(folder, outside.server_port) as workerd:
        with ThreadPoolExecutor(writers) as pool:
            list(pool.map(lambda _: [workerd.ask("/counter/one") for _ in range(each)], range(writers)))
        workerd.kill()
        workerd.gone()
        counted = workerd.start().ask("/counter/one") - 1
    return {"wanted": writers * each, "counted": counted, "lost": writers * each - counted}
