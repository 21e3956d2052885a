"""A small kubelet: one node whose pods are real processes of this machine.

It starts the command of each container bound to its node, restarts it as ``restartPolicy`` says, reports phase, readiness
and restarts, and ends what is deleted. Like the real one it goes on without its API server: what runs, runs on, and is
restarted when it fails; only news does not get through, in either direction.

What it does not do: images, volumes, probes, networks, limits. A container is an ordinary process.
"""

from __future__ import annotations

import datetime
import threading
import time
from typing import Any

from beyondlab.fleets.client import ApiError, Client, Object, Unreachable
from beyondlab.kit.processes import Process

BACK_OFF = 0.2
"""Seconds before the first restart of a container that failed; doubles, to 25 × this. Kubernetes: 10 s, to 5 minutes."""


def _stamp() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class RunningPod:
    """The processes of one pod, one a container."""

    def __init__(self, pod: Object, node: str) -> None:
        self.pod, self.node, self.started = pod, node, _stamp()
        self.processes: dict[str, Process] = {}
        self.restarts = {container["name"]: 0 for container in pod["spec"]["containers"]}
        self.again: dict[str, float] = {}
        self.stopping = False

    def supervise(self) -> None:
        """Start what is not running and may. Called again and again."""
        policy = self.pod["spec"].get("restartPolicy", "Always")
        for container in self.pod["spec"]["containers"]:
            name = container["name"]
            process = self.processes.get(name)
            if process is None:
                self._start(container)
            elif process.returncode is not None and (policy == "Always" or policy == "OnFailure" and process.returncode):
                pause = BACK_OFF * min(25, 2 ** self.restarts[name])
                if time.monotonic() >= self.again.setdefault(name, time.monotonic() + (pause if self.restarts[name] else 0.0)):
                    del self.again[name]
                    self.restarts[name] += 1
                    self._start(container)

    def _start(self, container: Object) -> None:
        meta = self.pod["metadata"]
        env = {"POD_NAME": meta["name"], "POD_NAMESPACE": meta["namespace"], "NODE_NAME": self.node}
        env |= {each["name"]: str(each.get("value", "")) for each in container.get("env") or ()}
        command = [*(container.get("command") or ()), *(container.get("args") or ())] or ["sleep", "infinity"]
        old = self.processes.pop(container["name"], None)
        if old is not None:
            old.stop()
        process = Process(command, name=f"{meta['name']}/{container['name']}", env=env, stop_timeout=0.5)
        try:
            self.processes[container["name"]] = process.start()
        except OSError:
            self.processes[container["name"]] = Process(["false"], name=process.name, stop_timeout=0.5).start()

    def status(self) -> Object:
        """``status`` as the API has it."""
        policy = self.pod["spec"].get("restartPolicy", "Always")
        states, codes = [], []
        for container in self.pod["spec"]["containers"]:
            name = container["name"]
            process = self.processes.get(name)
            code = process.returncode if process else None
            codes.append(code)
            up = process is not None and code is None
            state: dict[str, Any] = {"running": {"startedAt": self.started}} if up else {"terminated": {"exitCode": code or 0}}
            if not up and name in self.again:
                state = {"waiting": {"reason": "CrashLoopBackOff"}}
            states.append({"name": name, "ready": up, "restartCount": self.restarts[name], "image": container.get("image", ""),
                           "imageID": "", "state": state})  # fmt: skip
        if all(code is not None for code in codes) and policy != "Always" and not (policy == "OnFailure" and any(codes)):
            phase = "Failed" if any(codes) else "Succeeded"
        else:
            phase = "Running"
        is_ready = "True" if phase == "Running" and all(state["ready"] for state in states) else "False"
        return {"phase": phase, "startTime": self.started, "hostIP": "127.0.0.1", "podIP": "127.0.0.1", "containerStatuses": states,
                "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": is_ready}]}  # fmt: skip

    def pids(self) -> list[int]:
        return [process.pid for process in self.processes.values() if process.returncode is None]

    def stop(self) -> None:
        self.stopping = True
        for process in self.processes.values():
            process.stop()


class Kubelet:
    """One node. A context manager; leaving it ends its pods.

    ``capacity``: ``cpu``, ``memory``, ``pods`` as the API writes them. ``labels`` of the node, besides its host name.
    """

    def __init__(self, client: Client, name: str, *, capacity: dict[str, str] | None = None, labels: dict[str, str] | None = None) -> None:
        self.client, self.name = client, name
        self.capacity = {"cpu": "4", "memory": "8Gi", "pods": "110"} | (capacity or {})
        self.labels = {"kubernetes.io/hostname": name} | (labels or {})
        self.pods: dict[str, RunningPod] = {}
        self._lock, self._stop, self._dirty = threading.RLock(), threading.Event(), threading.Event()
        self._told: dict[str, Object] = {}
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Kubelet:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Kubelet:
        """Register the node and begin. Raises ``client.Unreachable`` if there is no API server."""
        self._register()
        self._threads = [threading.Thread(target=run, name=f"{self.name}-{run.__name__}", daemon=True) for run in (self._watch, self._loop)]
        for thread in self._threads:
            thread.start()
        return self

    def close(self) -> None:
        """Ask it to stop, without waiting."""
        self._stop.set()
        self._dirty.set()

    def stop(self) -> None:
        self.close()
        for thread in self._threads:
            thread.join(timeout=3.0)
        with self._lock:
            for pod in self.pods.values():
                pod.stop()
            self.pods.clear()

    def running(self) -> list[int]:
        """Process ids of what runs here now, whatever any API server believes."""
        with self._lock:
            return [pid for pod in self.pods.values() for pid in pod.pids()]

    def _register(self) -> None:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name, "labels": self.labels}}
        self.client.apply("nodes", node, manager="kubelet", force=True)
        status = {"capacity": self.capacity, "allocatable": self.capacity, "phase": "Ready",
                  "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]}  # fmt: skip
        self.client.patch("nodes", self.name, {"status": status}, sub="status")

    def _watch(self) -> None:
        """Keep ``pods`` equal to what the API says is bound here. Without the API, nothing changes."""
        fields = f"spec.nodeName={self.name}"
        while not self._stop.is_set():
            try:
                found, since = self.client.list_at("pods", fields=fields)
                wanted = {pod["metadata"]["uid"]: pod for pod in found}
                with self._lock:
                    gone = [uid for uid in self.pods if uid not in wanted]
                for pod in wanted.values():
                    self._see("MODIFIED", pod)
                for uid in gone:
                    self._end(uid)
                for kind, pod in self.client.watch("pods", since=since, fields=fields, seconds=30):
                    if self._stop.is_set():
                        return
                    if kind != "BOOKMARK":
                        self._see(kind, pod)
            except (ApiError, Unreachable):
                self._stop.wait(0.1)

    def _see(self, kind: str, pod: Object) -> None:
        uid, phase = pod["metadata"]["uid"], (pod.get("status") or {}).get("phase")
        with self._lock:
            known = self.pods.get(uid)
            if kind != "DELETED" and known is None and phase not in ("Succeeded", "Failed") and "deletionTimestamp" not in pod["metadata"]:
                self.pods[uid] = RunningPod(pod, self.name)
                self._dirty.set()
        if kind == "DELETED":
            self._end(uid)
        elif "deletionTimestamp" in pod["metadata"]:
            self._end(uid)
            try:
                self.client.delete("pods", pod["metadata"]["name"], pod["metadata"]["namespace"], grace=0)
            except ApiError:
                pass

    def _end(self, uid: str) -> None:
        with self._lock:
            pod = self.pods.pop(uid, None)
            self._told.pop(uid, None)
            if pod is not None:
                pod.stop()

    def _loop(self) -> None:
        """Supervise the processes and report, ten times a second and when something new arrives."""
        while not self._stop.is_set():
            self._dirty.wait(0.1)
            self._dirty.clear()
            with self._lock:
                for pod in self.pods.values():
                    if not self._stop.is_set():
                        pod.supervise()
                news = [(uid, pod.pod["metadata"], pod.status()) for uid, pod in self.pods.items()]
            for uid, meta, status in news:
                if self._told.get(uid) != status:
                    try:
                        self.client.patch("pods", meta["name"], {"status": status}, meta["namespace"], "status")
                        self._told[uid] = status
                    except (ApiError, Unreachable):
                        break
