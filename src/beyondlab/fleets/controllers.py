"""The level-triggered loop, and the controllers that are made of it.

An event says only *where* to look. What to do is found by comparing what is wanted with what is there, read afresh; so
an event that is lost, doubled or late changes the time, not the outcome. ``lose`` drops events on purpose.

Everything that needs time or a connection is in threads of a :class:`Controller`; the comparisons are plain functions.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from beyondlab.fleets import scheduling
from beyondlab.fleets.client import ApiError, Client, Object, Unreachable
from beyondlab.kit import check

Key = tuple[str, str]
"""Namespace and name."""


class WorkQueue:
    """Keys to look at: each at most once, failed ones again later, with growing pauses."""

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}
        self._fails: dict[Key, int] = {}
        self._ready = threading.Condition()
        self._closed = False

    def add(self, key: Key, delay: float = 0.0) -> None:
        with self._ready:
            due = time.monotonic() + delay
            self._due[key] = min(due, self._due.get(key, due))
            self._ready.notify()

    def take(self) -> Key | None:
        """The next key that is due; waits for one. None when closed."""
        with self._ready:
            while not self._closed:
                now = time.monotonic()
                key = min(self._due, key=self._due.get, default=None)
                if key is not None and self._due[key] <= now:
                    del self._due[key]
                    return key
                self._ready.wait(self._due[key] - now if key is not None else None)
            return None

    def done(self, key: Key, error: bool) -> None:
        """Say how it went; after an error the key comes back in 20 ms, 40 ms, … at most 1 s."""
        if error:
            self._fails[key] = fails = self._fails.get(key, 0) + 1
            self.add(key, min(1.0, 0.01 * 2**fails))
        else:
            self._fails.pop(key, None)

    def close(self) -> None:
        with self._ready:
            self._closed = True
            self._ready.notify_all()


class Controller:
    """A loop over ``reconcile(key)``, woken by watches. A context manager.

    ``watches``: plural -> function from an object to the keys to look at. ``relist``: seconds after which everything is
    looked at again, whatever the events said. ``lose``: share of the watch events that is dropped, from ``seed``.
    """

    def __init__(
        self, client: Client, reconcile: Callable[[Key], None], watches: Mapping[str, Callable[[Object], Iterable[Key]]], *,
        name: str = "controller", relist: float = 5.0, lose: float = 0.0, seed: int = 0, fields: str = "",
    ) -> None:  # fmt: skip
        check.share("lose", lose)
        self.client, self.reconcile, self.watches = client, reconcile, dict(watches)
        self.name, self.relist, self.lose, self.fields = name, relist, lose, fields
        self.seen = self.lost = self.rounds = 0
        self.errors: list[str] = []
        self._random, self._queue, self._stop = random.Random(seed), WorkQueue(), threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Controller:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Controller:
        work = [threading.Thread(target=self._work, name=f"{self.name}-work", daemon=True)]
        looks = [threading.Thread(target=self._look, args=(plural,), name=f"{self.name}-{plural}", daemon=True) for plural in self.watches]
        self._threads = work + looks
        for thread in self._threads:
            thread.start()
        return self

    def close(self) -> None:
        """Ask it to stop, without waiting."""
        self._stop.set()
        self._queue.close()

    def stop(self) -> None:
        self.close()
        for thread in self._threads:
            thread.join(timeout=3.0)

    def _work(self) -> None:
        while (key := self._queue.take()) is not None:
            try:
                self.reconcile(key)
                self.rounds += 1
                self._queue.done(key, False)
            except (ApiError, Unreachable) as error:
                self.errors.append(str(error))
                self._queue.done(key, True)

    def _look(self, plural: str) -> None:
        """List, then watch; list again when the watch ends, breaks, or is told that it is too old."""
        keys_of = self.watches[plural]
        while not self._stop.is_set():
            try:
                found, since = self.client.list_at(plural, fields=self.fields)
                for value in found:
                    self._add(keys_of(value))
                until = time.monotonic() + self.relist
                for kind, value in self.client.watch(plural, since=since, fields=self.fields, seconds=max(1, round(self.relist))):
                    if kind != "BOOKMARK":
                        self.seen += 1
                        if self._random.random() < self.lose:
                            self.lost += 1
                        else:
                            self._add(keys_of(value))
                    if self._stop.is_set() or time.monotonic() > until:
                        break
            except (ApiError, Unreachable):
                self._stop.wait(0.1)

    def _add(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._queue.add(key)


def key_of(value: Object) -> list[Key]:
    """The object's own key."""
    return [(value["metadata"].get("namespace", ""), value["metadata"]["name"])]


def owner_of(kind: str) -> Callable[[Object], list[Key]]:
    """The key of the owner of that kind, if there is one."""

    def find(value: Object) -> list[Key]:
        meta = value["metadata"]
        return [(meta.get("namespace", ""), ref["name"]) for ref in meta.get("ownerReferences") or () if ref["kind"] == kind]

    return find


def owned_by(owner: Object, value: Object) -> bool:
    return any(ref["uid"] == owner["metadata"]["uid"] for ref in value["metadata"].get("ownerReferences") or ())


def child(owner: Object, template: Object, **meta: Any) -> Object:
    """An object made from ``template`` that belongs to ``owner``."""
    ref = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
           "uid": owner["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True}  # fmt: skip
    labels = {**((template.get("metadata") or {}).get("labels") or {}), **meta.pop("labels", {})}
    return {**template, "metadata": {**(template.get("metadata") or {}), **meta, "labels": labels, "ownerReferences": [ref]}}


def active(pod: Object) -> bool:
    """Whether a pod counts as a replica: not finished, not on its way out."""
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed") and "deletionTimestamp" not in pod["metadata"]


def ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return active(pod) and any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def to_delete(pods: list[Object], count: int) -> list[Object]:
    """Which ``count`` of the pods go: not yet bound ones first, then those not ready, then the youngest."""
    order = sorted(pods, key=lambda pod: pod["metadata"].get("creationTimestamp", ""), reverse=True)
    return sorted(order, key=lambda pod: (bool(pod["spec"].get("nodeName")), ready(pod)))[:count]


def _status(client: Client, plural: str, value: Object, wanted: dict[str, Any]) -> None:
    """Write a status, if it says something new."""
    if any((value.get("status") or {}).get(key) != each for key, each in wanted.items()):
        client.patch(plural, value["metadata"]["name"], {"status": wanted}, value["metadata"]["namespace"], "status")


def _find(client: Client, plural: str, key: Key) -> Object | None:
    try:
        return client.get(plural, key[1], key[0])
    except ApiError as error:
        if error.code == 404:
            return None
        raise


def replica_sets(client: Client, **options: Any) -> Controller:
    """As many pods as a ReplicaSet asks for."""

    def reconcile(key: Key) -> None:
        wanted = _find(client, "replicasets", key)
        if wanted is None or "deletionTimestamp" in wanted["metadata"]:
            return
        mine = [pod for pod in client.list("pods", key[0]) if owned_by(wanted, pod)]
        pods = [pod for pod in mine if active(pod)]
        excess = len(pods) - wanted["spec"].get("replicas", 1)
        for _ in range(-excess):
            pods.append(client.create("pods", child(wanted, wanted["spec"]["template"], generateName=f"{key[1]}-"), key[0]))
        for pod in to_delete(pods, max(0, excess)):
            client.delete("pods", pod["metadata"]["name"], key[0])
        _status(client, "replicasets", wanted, {
            "replicas": len(pods) - max(0, excess), "readyReplicas": sum(map(ready, pods)),
            "observedGeneration": wanted["metadata"]["generation"],
        })  # fmt: skip

    return Controller(client, reconcile, {"replicasets": key_of, "pods": owner_of("ReplicaSet")}, **{"name": "replicasets", **options})


def deployments(client: Client, **options: Any) -> Controller:
    """One ReplicaSet a version of the template; older ones go to zero at once (no rolling update here)."""

    def reconcile(key: Key) -> None:
        wanted = _find(client, "deployments", key)
        if wanted is None or "deletionTimestamp" in wanted["metadata"]:
            return
        spec = wanted["spec"]
        version = hashlib.sha256(json.dumps(spec["template"], sort_keys=True).encode()).hexdigest()[:8]
        mine = [each for each in client.list("replicasets", key[0]) if owned_by(wanted, each)]
        name, labels = f"{key[1]}-{version}", {"pod-template-hash": version}
        current = next((each for each in mine if each["metadata"]["name"] == name), None)
        if current is None:
            template = child(wanted, spec["template"], labels=labels)
            template["metadata"].pop("ownerReferences")
            made = {"metadata": {"labels": template["metadata"]["labels"]}, "spec": {
                "replicas": spec["replicas"], "template": template,
                "selector": {"matchLabels": {**(spec["selector"].get("matchLabels") or {}), **labels}}}}  # fmt: skip
            current = client.create("replicasets", child(wanted, made, name=name), key[0])
        for each in (current, *(rs for rs in mine if rs["metadata"]["name"] != name)):
            replicas = spec["replicas"] if each is current else 0
            if each["spec"]["replicas"] != replicas:
                client.patch("replicasets", each["metadata"]["name"], {"spec": {"replicas": replicas}}, key[0])
        seen = current.get("status") or {}
        _status(client, "deployments", wanted, {
            "replicas": seen.get("replicas", 0), "readyReplicas": seen.get("readyReplicas", 0),
            "availableReplicas": seen.get("readyReplicas", 0), "updatedReplicas": seen.get("replicas", 0),
            "observedGeneration": wanted["metadata"]["generation"],
        })  # fmt: skip

    return Controller(client, reconcile, {"deployments": key_of, "replicasets": owner_of("Deployment")}, **{"name": "deployments", **options})


def garbage(client: Client, **options: Any) -> Controller:
    """Delete what has lost its owner. One key stands for the whole cluster."""
    plurals = ("replicasets", "pods")

    def reconcile(_: Key) -> None:
        dependents = [(plural, each) for plural in plurals for each in client.list(plural) if each["metadata"].get("ownerReferences")]
        alive = {each["metadata"]["uid"] for plural in ("deployments", "replicasets") for each in client.list(plural)}
        for plural, each in dependents:
            meta = each["metadata"]
            if not any(ref["uid"] in alive for ref in meta["ownerReferences"]) and "deletionTimestamp" not in meta:
                try:
                    client.delete(plural, meta["name"], meta["namespace"])
                except ApiError as error:
                    if error.code != 404:
                        raise

    everything = lambda _: [("", "all")]  # noqa: E731
    return Controller(client, reconcile, {"deployments": everything, "replicasets": everything}, **{"name": "garbage", **options})


def scheduler(client: Client, **options: Any) -> Controller:
    """Give every pod without a node one, by :func:`beyondlab.fleets.scheduling.choose`."""

    def reconcile(key: Key) -> None:
        pod = _find(client, "pods", key)
        if pod is None or pod["spec"].get("nodeName") or not active(pod):
            return
        nodes = [scheduling.node_from(each) for each in client.list("nodes")]
        pods = [scheduling.pod_from(each) for each in client.list("pods") if active(each)]
        node, why = scheduling.choose(scheduling.pod_from(pod), nodes, pods)
        if node is None:
            raise Unreachable(why)
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": key[1]}, "target": {"kind": "Node", "name": node}}
        client.request("POST", f"/api/v1/namespaces/{key[0]}/pods/{key[1]}/binding", binding)

    return Controller(client, reconcile, {"pods": key_of}, **{"name": "scheduler", "fields": "spec.nodeName=", **options})
