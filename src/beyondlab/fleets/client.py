"""A small synchronous client of a Kubernetes API, on the standard library alone.

Addresses are built from the kind's plural, for example ``deployments``; custom resources are named with group and
version, ``sites.lab.example/v1``. One connection a thread is kept open; a client may be shared among threads.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

Object = dict[str, Any]

_BUILTIN = {
    "namespaces": ("/api/v1", False), "nodes": ("/api/v1", False), "pods": ("/api/v1", True), "events": ("/api/v1", True),
    "configmaps": ("/api/v1", True), "services": ("/api/v1", True), "deployments": ("/apis/apps/v1", True),
    "replicasets": ("/apis/apps/v1", True), "leases": ("/apis/coordination.k8s.io/v1", True),
    "customresourcedefinitions": ("/apis/apiextensions.k8s.io/v1", False),
}  # fmt: skip


class ApiError(Exception):
    """The server said no: ``code`` (404, 409, …), ``reason`` (``Conflict``, …), and its message."""

    def __init__(self, status: Object) -> None:
        super().__init__(status.get("message", "no message"))
        self.code, self.reason, self.status = status.get("code", 0), status.get("reason", ""), status


class Unreachable(OSError):
    """No answer: refused, reset, or too late."""


def path_of(plural: str, namespace: str = "", name: str = "", sub: str = "") -> str:
    """The address of a collection or an object.

    >>> path_of("pods", "default", "web"), path_of("clusters.fleet.example/v1", name="a")
    ('/api/v1/namespaces/default/pods/web', '/apis/fleet.example/v1/clusters/a')
    """
    if plural in _BUILTIN:
        base = _BUILTIN[plural][0]
    else:
        full, _, version = plural.partition("/")
        plural, _, group = full.partition(".")
        if not group or not version:
            raise ValueError(f"plural={plural!r}: must be one of {', '.join(_BUILTIN)}, or look like sites.lab.example/v1")
        base = f"/apis/{group}/{version}"
    parts = [base, *(("namespaces", namespace) if namespace else ()), plural, *((name,) if name else ()), *((sub,) if sub else ())]
    return "/".join(parts)


class Client:
    """A client of the API server at ``url``. ``agent`` is the field manager of its plain writes. ``timeout`` in seconds."""

    def __init__(self, url: str, *, agent: str = "course", timeout: float = 5.0) -> None:
        self.url, self.agent, self.timeout = url, agent, timeout
        place = urlsplit(url)
        self._host, self._port = place.hostname or "", place.port or 80
        self._local = threading.local()

    def request(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json", timeout: float | None = None, **query: Any
    ) -> Any:  # fmt: skip
        """One request; the answer parsed. Raises :class:`ApiError` or :class:`Unreachable`."""
        for attempt in (1, 2):
            kept = getattr(self._local, "connection", None)
            connection = kept or http.client.HTTPConnection(self._host, self._port)
            connection.timeout = timeout or self.timeout
            if connection.sock is not None:
                connection.sock.settimeout(connection.timeout)
            try:
                answer = self._send(connection, method, path, body, content_type, query)
                text = answer.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self._local.connection = None
                if kept is not None and attempt == 1 and not isinstance(error, TimeoutError):
                    continue
                raise Unreachable(f"{self.url} does not answer: {error or type(error).__name__}") from error
            self._local.connection = connection
            return _parse(answer, text)

    def _send(self, connection: Any, method: str, path: str, body: Any, content_type: str, query: dict[str, Any]) -> Any:
        given = {key: value for key, value in query.items() if value not in (None, "")}
        headers = {"User-Agent": f"{self.agent}/1", "Accept": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = content_type
        connection.request(method, f"{path}?{urlencode(given)}" if given else path, data, headers)
        return connection.getresponse()

    def get(self, plural: str, name: str, namespace: str = "", **query: Any) -> Object:
        return self.request("GET", path_of(plural, namespace, name), **query)

    def list(self, plural: str, namespace: str = "", *, labels: str = "", fields: str = "") -> list[Object]:
        """All objects that match."""
        return self.list_at(plural, namespace, labels=labels, fields=fields)[0]

    def list_at(self, plural: str, namespace: str = "", *, labels: str = "", fields: str = "") -> tuple[list[Object], str]:
        """The objects and the resourceVersion of the list, from which a watch may go on."""
        found = self.request("GET", path_of(plural, namespace), labelSelector=labels, fieldSelector=fields)
        return found["items"], found["metadata"]["resourceVersion"]

    def create(self, plural: str, value: Object, namespace: str = "") -> Object:
        return self.request("POST", path_of(plural, namespace), value)

    def replace(self, plural: str, value: Object, sub: str = "") -> Object:
        """PUT. With the resourceVersion that was read, it fails if somebody wrote in between."""
        meta = value["metadata"]
        return self.request("PUT", path_of(plural, meta.get("namespace", ""), meta["name"], sub), value)

    def patch(self, plural: str, name: str, value: Object, namespace: str = "", sub: str = "") -> Object:
        """A merge patch."""
        path = path_of(plural, namespace, name, sub)
        return self.request("PATCH", path, value, content_type="application/merge-patch+json")

    def apply(self, plural: str, value: Object, *, manager: str, force: bool = False, namespace: str = "") -> Object:
        """Server-side apply."""
        path = path_of(plural, namespace or value["metadata"].get("namespace", ""), value["metadata"]["name"])
        query = {"fieldManager": manager, "force": "true" if force else ""}
        return self.request("PATCH", path, value, content_type="application/apply-patch+yaml", **query)

    def delete(self, plural: str, name: str, namespace: str = "", *, grace: int | None = None) -> Object:
        return self.request("DELETE", path_of(plural, namespace, name), gracePeriodSeconds=grace)

    def ready(self, timeout: float = 0.5) -> bool:
        """Whether the server and its etcd answer."""
        try:
            return self.request("GET", "/readyz", timeout=timeout) == "ok"
        except (Unreachable, ApiError):
            return False

    def watch(
        self, plural: str, namespace: str = "", *, since: str = "", labels: str = "", fields: str = "", seconds: int = 60, bookmarks: bool = True
    ) -> Iterator[tuple[str, Object]]:  # fmt: skip
        """Events from resourceVersion ``since`` on: ("ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK", object).

        Ends after ``seconds``. Raises :class:`ApiError` 410 if ``since`` is too old.
        """
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self.timeout)
        query = {"watch": "true", "resourceVersion": since, "labelSelector": labels, "fieldSelector": fields, "timeoutSeconds": seconds,
                 "allowWatchBookmarks": "true" if bookmarks else ""}  # fmt: skip
        try:
            answer = self._send(connection, "GET", path_of(plural, namespace), None, "", query)
            if answer.status >= 400:
                _parse(answer, answer.read())
            while line := answer.readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ApiError(event["object"])
                yield event["type"], event["object"]
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Unreachable(f"the watch on {self.url} broke: {error or type(error).__name__}") from error
        finally:
            connection.close()


def _parse(answer: Any, text: bytes) -> Any:
    if not answer.headers.get("Content-Type", "").startswith("application/json"):
        if answer.status >= 400:
            raise ApiError({"code": answer.status, "message": text.decode(errors="replace")})
        return text.decode()
    value = json.loads(text)
    if answer.status >= 400:
        raise ApiError(value)
    return value
