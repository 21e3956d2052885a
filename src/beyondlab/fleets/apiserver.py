"""A Kubernetes API server small enough to read: HTTP in front of :class:`beyondlab.fleets.storage.Store`.

What it serves: discovery, OpenAPI v3, create, read, list, replace, patch (merge, JSON, strategic, server-side apply),
delete, delete collection, watch with bookmarks, label and field selectors, the status and scale subresources, binding
of pods, custom resource definitions with validation, tables for kubectl, dry run.

What it leaves out: authentication, authorisation, admission, TLS, protobuf, API versions converted into each other,
orphan and foreground deletion. Run it as a program::

    python -m beyondlab.fleets.apiserver --etcd http://127.0.0.1:2379 --port-file port

It binds a free port of 127.0.0.1 (or ``--port``) and writes it to the file.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import json
import os
import secrets
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tornado.httpserver
import tornado.iostream
import tornado.netutil
import tornado.web
import yaml

from beyondlab.fleets import errors, patches, printing, selectors, validation
from beyondlab.fleets.apply import Conflict, Ownership, leaves, server_side_apply
from beyondlab.fleets.errors import StatusError
from beyondlab.fleets.etcd import Etcd, EtcdError
from beyondlab.fleets.resources import BUILTIN, Registry, Resource, describe, from_definition
from beyondlab.fleets.storage import Store

BOOKMARK_EVERY = 1.0
"""Seconds without a change after which a watch that asked for bookmarks gets one. Kubernetes: about a minute."""

PATCHES = {"application/merge-patch+json", "application/json-patch+json", "application/strategic-merge-patch+json",
           "application/apply-patch+yaml"}  # fmt: skip
NAMESPACES, DEFINITIONS = BUILTIN[0], BUILTIN[-1]
NO_SUCH_THING = StatusError(404, "NotFound", "the server could not find the requested resource")
_KEPT = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Request:
    """What the server needs to know of an HTTP request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""

    @property
    def content_type(self) -> str:
        return self.headers.get("Content-Type", "").partition(";")[0].strip()

    @property
    def manager(self) -> str:
        """The field manager: named, or the first word of the user agent."""
        return self.query.get("fieldManager") or self.headers.get("User-Agent", "unknown").split("/")[0].split(" ")[0]

    @property
    def wants_table(self) -> bool:
        return "as=Table" in self.headers.get("Accept", "")

    @property
    def strict(self) -> bool:
        return self.query.get("fieldValidation") == "Strict"

    def object(self) -> Any:
        """The body, from JSON or YAML. 415 for protobuf, as for every custom resource."""
        if "protobuf" in self.content_type or "cbor" in self.content_type:
            message = "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml"
            raise StatusError(415, "UnsupportedMediaType", message)
        text = self.body.decode(errors="replace")
        try:
            value = json.loads(text) if text.lstrip().startswith(("{", "[")) else yaml.safe_load(text)
        except (ValueError, yaml.YAMLError) as error:
            raise errors.bad_request(f"the body is neither JSON nor YAML: {error}") from None
        if not isinstance(value, (dict, list)):
            raise errors.bad_request("the body must be an object")
        return value


@dataclass(frozen=True)
class Answer:
    """A whole answer: a JSON value, or a text."""

    value: Any
    status: int = 200


Events = AsyncIterator[dict[str, Any] | None]
"""An answer without an end: the events of a watch. None means: nothing new, is the client still there?"""


@dataclass(frozen=True)
class Target:
    """What an address names."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    sub: str = field(default="")


class ApiServer:
    """One cluster's front door. :meth:`answer` is all of it; HTTP itself is in :class:`Handler`."""

    def __init__(self, etcd_url: str) -> None:
        self.registry = Registry()
        self.store = Store(Etcd(etcd_url))

    async def start(self) -> None:
        """Make the namespaces that clients expect, learn the custom resources, and follow etcd from here on."""
        await self.store.start()
        self._following = asyncio.create_task(self.store.run())
        for name in ("default", "kube-system"):
            with contextlib.suppress(StatusError):
                await self._create(Target(NAMESPACES), {"metadata": {"name": name}}, "apiserver")
        await self._define()

    async def answer(self, request: Request) -> Answer | Events:
        """Answer one request. Raises ``errors.StatusError``."""
        match request.path.strip("/").split("/"):
            case ["healthz"] | ["livez"]:
                return Answer("ok")
            case ["readyz"]:
                return await self._ready()
            case ["version"]:
                return Answer({"major": "1", "minor": "37", "gitVersion": "v1.37.0+course", "platform": sys.platform})
            case ["api"]:
                return Answer({"kind": "APIVersions", "apiVersion": "v1", "versions": ["v1"]})
            case ["apis"]:
                return Answer(self.registry.group_list())
            case ["apis", group] if group in self.registry.groups():
                return Answer(self.registry.group(group))
            case ["openapi", "v3"]:
                return Answer(self.registry.openapi_index())
            case ["openapi", "v3", "api", version]:
                return Answer(self.registry.openapi("", version))
            case ["openapi", "v3", "apis", group, version]:
                return Answer(self.registry.openapi(group, version))
            case ["api", version, *rest]:
                return await self._resource(request, "", version, rest)
            case ["apis", group, version, *rest]:
                return await self._resource(request, group, version, rest)
        raise NO_SUCH_THING

    async def _ready(self) -> Answer:
        try:
            await self.store.etcd.call("kv/range", {"key": "AA==", "count_only": True}, timeout=0.5)
        except EtcdError as error:
            return Answer(f"[-]etcd failed: {error}", 500)
        return Answer("ok")

    async def _resource(self, request: Request, group: str, version: str, rest: list[str]) -> Answer | Events:
        if not rest:
            if (found := self.registry.resource_list(group, version)) is None:
                raise NO_SUCH_THING
            return Answer(found)
        namespace = ""
        if rest[0] == "namespaces" and not group and len(rest) == 3 and rest[2] in ("status", "finalize"):
            pass
        elif rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        resource = self.registry.get(group, version, rest[0])
        if resource is None or len(rest) > 3:
            raise NO_SUCH_THING
        target = Target(resource, namespace if resource.namespaced else "", *rest[1:])
        return await (self._object(request, target) if target.name else self._collection(request, target))

    async def _define(self) -> None:
        """Read the custom resource definitions again and serve what they say."""
        crds, *_ = await self.store.list(DEFINITIONS, "", lambda _: True)
        self.registry.define(crds)

    # Reading, and who does the rest

    async def _collection(self, request: Request, target: Target) -> Answer | Events:
        resource, namespace, query = target.resource, target.namespace, request.query
        if request.method == "POST":
            value = request.object()
            _check_kind(resource, value)
            created = await self._create(target, value, request.manager, dry="dryRun" in query, strict=request.strict)
            return Answer(created, 201)
        select = _selection(query)
        if request.method == "DELETE":
            for item in (await self.store.list(resource, namespace, select))[0]:
                with contextlib.suppress(StatusError):
                    await self._delete(Target(resource, item["metadata"].get("namespace", ""), item["metadata"]["name"]), {})
            return Answer({"kind": "Status", "apiVersion": "v1", "status": "Success", "metadata": {}})
        if request.method != "GET":
            raise _not_allowed(request, resource)
        if query.get("watch") in ("1", "true"):
            return await self._watch(request, target, select)
        limit = int(query.get("limit") or 0)
        items, revision, token, left = await self.store.list(resource, namespace, select, limit=limit, token=query.get("continue", ""))
        meta = {"resourceVersion": revision} | ({"continue": token, "remainingItemCount": left} if token else {})
        if request.wants_table:
            return Answer(printing.table(resource, items, meta))
        return Answer({"kind": f"{resource.kind}List", "apiVersion": resource.group_version, "metadata": meta, "items": items})

    async def _object(self, request: Request, target: Target) -> Answer:
        resource, sub = target.resource, target.sub
        if sub == "binding" and resource.plural == "pods" and request.method == "POST":
            return await self._bind(target, request.object())
        if sub not in ("", "status", "scale") or sub and not getattr(resource, sub):
            raise NO_SUCH_THING
        if request.method == "GET":
            value = await self.store.get(resource, target.namespace, target.name)
            if request.wants_table and not sub:
                return Answer(printing.table(resource, [value], {"resourceVersion": value["metadata"]["resourceVersion"]}))
            return Answer(_scale(value) if sub == "scale" else value)
        if request.method == "DELETE" and not sub:
            return Answer(await self._delete(target, {**request.query, **(request.object() if request.body else {})}))
        if request.method not in ("PUT", "PATCH"):
            raise _not_allowed(request, resource)
        value, created = await self._write(request, target)
        return Answer(_scale(value) if sub == "scale" else value, 201 if created else 200)

    # Writes

    async def _create(
        self, target: Target, value: dict[str, Any], manager: str, *, dry: bool = False, strict: bool = False, apply: bool = False
    ) -> dict[str, Any]:  # fmt: skip
        resource, namespace = target.resource, target.namespace
        meta = value["metadata"] = dict(value.get("metadata") or {})
        if resource.namespaced:
            namespace = namespace or meta.get("namespace") or "default"
            meta["namespace"] = namespace
            try:
                place = await self.store.get(NAMESPACES, "", namespace)
            except StatusError:
                raise errors.not_found(NAMESPACES, namespace) from None
            if place["metadata"].get("deletionTimestamp"):
                raise StatusError(403, "Forbidden", f"namespace {namespace} is being terminated")
        if not meta.get("name"):
            if not meta.get("generateName"):
                raise errors.invalid(resource, "", ["metadata.name: Required value: name or generateName is required"])
            meta["name"] = meta["generateName"] + secrets.token_hex(3)
        value |= {"kind": resource.kind, "apiVersion": resource.group_version}
        if resource.status and not resource.namespaced and resource.kind == "Namespace":
            value["status"] = {"phase": "Active"}
        elif resource.status and resource.kind != "Node":
            value.pop("status", None)
        if resource.kind == "Pod":
            value["status"] = {"phase": "Pending"}
        self._default(resource, value)
        self._validate(resource, value, strict)
        if not apply:
            ownership = Ownership()
            ownership.updated((manager, "Update", resource.group_version, ""), {}, leaves(value, resource.merging()))
            meta["managedFields"] = ownership.entries(_now())
        meta |= {"uid": str(uuid.uuid4()), "generation": 1, "creationTimestamp": _now()}
        meta.pop("resourceVersion", None)
        if dry:
            return value
        created = await self.store.create(resource, namespace, value)
        if resource.kind == "CustomResourceDefinition":
            created = await self._establish(resource, created)
        return created

    async def _establish(self, resource: Resource, crd: dict[str, Any]) -> dict[str, Any]:
        """Serve a definition and say so in its status."""
        await self._define()
        served = {"acceptedNames": crd["spec"]["names"], "storedVersions": [v["name"] for v in crd["spec"]["versions"] if v.get("storage", True)],
                  "conditions": [{"type": kind, "status": "True", "reason": "Accepted", "message": "", "lastTransitionTime": _now()}
                                 for kind in ("NamesAccepted", "Established")]}  # fmt: skip
        return (await self.store.change(resource, "", crd["metadata"]["name"], lambda old: {**old, "status": served}))[0]

    def _default(self, resource: Resource, value: dict[str, Any]) -> None:
        spec = value.get("spec")
        if resource.scale and isinstance(spec, dict):
            spec.setdefault("replicas", 1)

    def _validate(self, resource: Resource, value: dict[str, Any], strict: bool) -> None:
        """The schema of a custom resource, and in ``Strict`` validation no field that it does not know."""
        name = value["metadata"].get("name", "")
        if resource.kind == "CustomResourceDefinition":
            try:
                from_definition(value)
            except ValueError as error:
                raise errors.invalid(resource, name, [str(error)]) from None
        if resource.scale and not isinstance((value.get("spec") or {}).get("selector"), dict):
            raise errors.invalid(resource, name, ["spec.selector: Required value"])
        if resource.kind == "Pod" and not (value.get("spec") or {}).get("containers"):
            raise errors.invalid(resource, name, ["spec.containers: Required value"])
        schema = describe(resource)
        if strict and (fields := sorted(validation.unknown(value, schema))):
            raise errors.bad_request("strict decoding error: " + ", ".join(f'unknown field "{field}"' for field in fields))
        validation.prune(value, schema)
        if found := list(validation.faults(value, schema)):
            raise errors.invalid(resource, name, found)

    async def _write(self, request: Request, target: Target) -> tuple[dict[str, Any], bool]:
        """PUT or PATCH. (object, whether it was created)."""
        resource, namespace, name, sub = target.resource, target.namespace, target.name, target.sub
        query, kind, manager = request.query, request.content_type, request.manager
        if request.method == "PATCH" and kind not in PATCHES:
            accepted = ", ".join(sorted(PATCHES))
            raise StatusError(415, "UnsupportedMediaType", f"the body of the request was in an unknown format - accepted media types include: {accepted}")
        body = request.object()
        apply = kind == "application/apply-patch+yaml"
        if apply:
            if not query.get("fieldManager"):
                raise errors.bad_request("PatchOptions.fieldManager: Required value: is required for apply patch")
            body["metadata"] = {**(body.get("metadata") or {}), "name": name} | ({"namespace": namespace} if resource.namespaced else {})
        if apply or request.method == "PUT" and sub != "scale":
            _check_kind(resource, body)
        expect = "" if isinstance(body, list) else (body.get("metadata") or {}).get("resourceVersion") or ""

        def edit(old: dict[str, Any]) -> dict[str, Any] | None:
            if apply:
                try:
                    new = server_side_apply(old, body, manager=manager, schema=resource.merging(), now=_now(),
                                            force=query.get("force") == "true", subresource=sub)  # fmt: skip
                except Conflict as error:
                    causes = [{"reason": "FieldManagerConflict", "message": f"conflict with {m} using {v}", "field": f} for m, v, f in error.fields]
                    raise StatusError(409, "Conflict", str(error), causes=causes) from None
            elif sub == "scale":
                wanted = body if request.method == "PUT" else patches.merge(_scale(old), body)
                new = {**old, "spec": {**old["spec"], "replicas": wanted["spec"]["replicas"]}}
            elif request.method == "PUT":
                new = body
            else:
                how = {"application/merge-patch+json": patches.merge, "application/json-patch+json": patches.json_patch}
                new = how.get(kind, patches.strategic)(old, body)
            return self._settle(target, old, new, manager, apply, request.strict)

        if "dryRun" in query:
            try:
                return edit(await self.store.get(resource, namespace, name)) or {}, False
            except StatusError as error:
                if error.code != 404 or not apply:
                    raise
                return await self._create(target, body, manager, dry=True, apply=True), True
        try:
            value, _ = await self.store.change(resource, namespace, name, edit, expect=expect)
        except StatusError as error:
            if error.code != 404 or not apply or sub:
                raise
            fresh = server_side_apply(None, body, manager=manager, schema=resource.merging(), now=_now())
            return await self._create(target, fresh, manager, strict=request.strict, apply=True), True
        if resource.kind == "CustomResourceDefinition" and not sub:
            await self._define()
        return value, False

    def _settle(
        self, target: Target, old: dict[str, Any], new: dict[str, Any], manager: str, apply: bool, strict: bool
    ) -> dict[str, Any] | None:  # fmt: skip
        """What a write may not change stays; generation and owners follow; None if the last finaliser is gone."""
        resource, sub = target.resource, target.sub
        new = {**new, "kind": resource.kind, "apiVersion": resource.group_version}
        before, meta = old["metadata"], dict(new.get("metadata") or {})
        if meta.get("uid") not in (None, before["uid"]):
            raise errors.conflict(resource, before["name"])
        meta |= {key: before[key] for key in (*_KEPT, "name", "namespace", "resourceVersion") if key in before}
        for key in ("deletionTimestamp", "deletionGracePeriodSeconds"):
            if key not in before:
                meta.pop(key, None)
        new["metadata"] = meta
        if sub == "status":
            meta |= {key: before[key] for key in ("labels", "annotations", "finalizers", "ownerReferences") if key in before}
            new = {**old, "metadata": meta, "status": new.get("status")}
        elif resource.status and not apply or resource.status and apply and "status" in old:
            new.pop("status", None)
            if "status" in old:
                new["status"] = old["status"]
        if new.get("status") is None:
            new.pop("status", None)
        self._validate(resource, new, strict and not sub)
        ignored = ("metadata", "status", "kind", "apiVersion") if resource.status else ("metadata", "kind", "apiVersion")
        if not sub == "status" and any(new.get(key) != old.get(key) for key in {*new, *old} - set(ignored)):
            meta["generation"] = before.get("generation", 0) + 1
        if not apply:
            given = meta.get("managedFields")
            base = before.get("managedFields") or () if given is None else given
            ownership = Ownership(base)
            key = (manager, "Update", resource.group_version, sub)
            schema = resource.merging()
            ownership.updated(key, leaves(old, schema), leaves(new, schema))
            meta["managedFields"] = ownership.entries(_now())
        if meta.get("deletionTimestamp") and not meta.get("finalizers") and not meta.get("deletionGracePeriodSeconds"):
            return None
        return new

    async def _bind(self, target: Target, body: dict[str, Any]) -> Answer:
        """The scheduler's word: this pod runs on that node. Once only."""
        node = (body.get("target") or {}).get("name")

        def edit(pod: dict[str, Any]) -> dict[str, Any]:
            if pod["spec"].get("nodeName"):
                raise errors.conflict(target.resource, target.name)
            pod["spec"]["nodeName"] = node
            return pod

        await self.store.change(target.resource, target.namespace, target.name, edit)
        return Answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201)

    async def _delete(self, target: Target, options: dict[str, Any]) -> dict[str, Any]:
        resource, namespace, name = target.resource, target.namespace, target.name
        if options.get("propagationPolicy") in ("Orphan", "Foreground"):
            raise errors.bad_request(f"propagationPolicy={options['propagationPolicy']}: this server deletes in the background only")
        wanted = options.get("preconditions") or {}
        grace = options.get("gracePeriodSeconds")
        grace = int(grace) if grace is not None else 30

        def edit(old: dict[str, Any]) -> dict[str, Any] | None:
            meta = old["metadata"]
            if wanted.get("uid") not in (None, meta["uid"]) or wanted.get("resourceVersion") not in (None, meta["resourceVersion"]):
                raise errors.conflict(resource, name)
            waits = resource.kind == "Pod" and grace and old["spec"].get("nodeName") and old["status"].get("phase") not in ("Succeeded", "Failed")
            if not meta.get("finalizers") and not waits:
                return None
            meta.setdefault("deletionTimestamp", _now())
            if resource.kind == "Pod":
                meta["deletionGracePeriodSeconds"] = grace
            return old

        if "dryRun" in options:
            return await self.store.get(resource, namespace, name)
        value, gone = await self.store.change(resource, namespace, name, edit)
        if gone and resource.kind == "Namespace":
            await self._empty(name)
        if gone and resource.kind == "CustomResourceDefinition":
            for each in self.registry:
                if (each.group, each.plural) == (value["spec"]["group"], value["spec"]["names"]["plural"]):
                    await self._sweep(each, "")
            await self._define()
        return value

    async def _empty(self, namespace: str) -> None:
        """A namespace takes what is in it along."""
        for resource in self.registry:
            if resource.namespaced:
                await self._sweep(resource, namespace)

    async def _sweep(self, resource: Resource, namespace: str) -> None:
        for item in (await self.store.list(resource, namespace, lambda _: True))[0]:
            with contextlib.suppress(StatusError):
                await self._delete(Target(resource, item["metadata"].get("namespace", ""), item["metadata"]["name"]), {"gracePeriodSeconds": 0})

    # Watching

    async def _watch(self, request: Request, target: Target, select: Any) -> Events:
        query, resource = request.query, target.resource
        initial = query.get("sendInitialEvents") == "true"
        since = 0 if initial else int(query.get("resourceVersion") or 0)
        items: list[dict[str, Any]] = []
        if since == 0:
            items, revision, *_ = await self.store.list(resource, target.namespace, select)
            since = int(revision)
        elif since < self.store.oldest:
            raise errors.expired(since, self.store.oldest)
        return self._events(request, target, select, items, since, initial)

    async def _events(
        self, request: Request, target: Target, select: Any, items: list[dict[str, Any]], since: int, initial: bool
    ) -> Events:  # fmt: skip
        """First what there is, then what changes; bookmarks in between, for those who asked."""
        resource, bookmarks, heads = target.resource, request.query.get("allowWatchBookmarks") == "true", True

        def event(kind: str, value: dict[str, Any]) -> dict[str, Any]:
            nonlocal heads
            if request.wants_table:
                value = printing.table(resource, [value], {"resourceVersion": value["metadata"]["resourceVersion"]}, heads=heads)
                heads = False
            return {"type": kind, "object": value}

        def bookmark(revision: int, **annotations: str) -> dict[str, Any]:
            meta = {"resourceVersion": str(revision), "creationTimestamp": None} | ({"annotations": annotations} if annotations else {})
            return {"type": "BOOKMARK", "object": {"kind": resource.kind, "apiVersion": resource.group_version, "metadata": meta}}

        for item in items:
            yield event("ADDED", item)
        if initial:
            yield bookmark(since, **{"k8s.io/initial-events-end": "true"})
        deadline = asyncio.get_running_loop().time() + float(request.query.get("timeoutSeconds") or 1e9)
        try:
            async for each in self.store.watch(resource, target.namespace, select, since, idle=BOOKMARK_EVERY):
                if not isinstance(each, int):
                    yield event(*each)
                else:
                    yield bookmark(each) if bookmarks else None
                if asyncio.get_running_loop().time() > deadline:
                    return
        except StatusError as error:
            yield {"type": "ERROR", "object": error.document}


def _scale(value: dict[str, Any]) -> dict[str, Any]:
    meta = {key: value["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")}
    chosen = ",".join(f"{k}={v}" for k, v in (value["spec"]["selector"].get("matchLabels") or {}).items())
    return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta, "spec": {"replicas": value["spec"].get("replicas", 1)},
            "status": {"replicas": (value.get("status") or {}).get("replicas", 0), "selector": chosen}}  # fmt: skip


def _selection(query: Any) -> Any:
    try:
        by_label, by_field = selectors.labels(query.get("labelSelector", "")), selectors.fields(query.get("fieldSelector", ""))
    except selectors.BadSelector as error:
        raise errors.bad_request(str(error)) from None
    return lambda value: by_label(value["metadata"].get("labels") or {}) and by_field(value)


def _not_allowed(request: Request, resource: Resource) -> StatusError:
    return StatusError(405, "MethodNotAllowed", f"the server does not allow {request.method} on {resource.plural}")


def _check_kind(resource: Resource, value: Any) -> None:
    given = (value.get("apiVersion") or resource.group_version, value.get("kind") or resource.kind) if isinstance(value, dict) else None
    if given != (resource.group_version, resource.kind):
        raise errors.bad_request(f"the object in the body is {given}, the address is of {(resource.group_version, resource.kind)}")


class Handler(tornado.web.RequestHandler):
    """HTTP: a request in, an answer or a stream of lines out."""

    SUPPORTED_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

    def initialize(self, server: ApiServer) -> None:
        self.server, self.gone = server, False

    def on_connection_close(self) -> None:
        self.gone = True

    async def _serve(self) -> None:
        given = self.request
        query = {name: values[0].decode() for name, values in given.query_arguments.items()}
        request = Request(given.method, given.path, query, dict(given.headers), given.body)
        try:
            answer = await self.server.answer(request)
        except StatusError as error:
            answer = Answer(error.document, error.code)
        except patches.BadPatch as error:
            answer = Answer(StatusError(422, "Invalid", f"the patch cannot be applied: {error}").document, 422)
        except EtcdError as error:
            answer = Answer(StatusError(500, "InternalError", str(error)).document, 500)
        if isinstance(answer, Answer):
            text = answer.value if isinstance(answer.value, str) else json.dumps(answer.value)
            self.set_status(answer.status)
            self.set_header("Content-Type", "text/plain" if isinstance(answer.value, str) else "application/json")
            self.finish(text)
        else:
            self.set_header("Content-Type", "application/json")
            await self._stream(answer)

    async def _stream(self, events: Events) -> None:
        with contextlib.suppress(tornado.iostream.StreamClosedError):
            await self.flush()
            async with contextlib.aclosing(events):
                async for event in events:
                    if self.gone:
                        return
                    if event is not None:
                        self.write(json.dumps(event) + "\n")
                        await self.flush()

    get = post = put = patch = delete = _serve


async def serve(etcd_url: str, port: int, port_file: Path) -> None:
    """Serve for ever on 127.0.0.1. The port goes to ``port_file``, written beside it and renamed."""
    server = ApiServer(etcd_url)
    await server.start()
    app = tornado.web.Application([(r"/.*", Handler, {"server": server})], log_function=lambda _: None)
    sockets = tornado.netutil.bind_sockets(port, "127.0.0.1")
    tornado.httpserver.HTTPServer(app).add_sockets(sockets)
    draft = port_file.with_suffix(".new")
    draft.write_text(str(sockets[0].getsockname()[1]))
    os.replace(draft, port_file)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="A small Kubernetes-compatible API server on etcd.")
    parser.add_argument("--etcd", required=True, help="URL of etcd")
    parser.add_argument("--port", type=int, default=0, help="port of 127.0.0.1; 0 asks for a free one")
    parser.add_argument("--port-file", type=Path, required=True, help="where to write the port")
    given = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(given.etcd, given.port, given.port_file))


if __name__ == "__main__":
    main()
