"""What a cluster serves: the built-in resources, those that custom resource definitions add, and how both are described.

Discovery (``/api``, ``/apis``) and OpenAPI (``/openapi/v3``) are generated from this table, as far as kubectl, kopf and
the official clients need them: paths, verbs, the query parameters, the schema of custom resources.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from beyondlab.fleets.apply import Schema, builtin_schema, crd_schema

VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


@dataclass(frozen=True)
class Resource:
    """One kind of thing. ``columns``: what a table shows, (title, path of field names)."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    status: bool = False
    scale: bool = False
    singular: str = ""
    schema: Mapping[str, Any] | None = None
    columns: tuple[tuple[str, str], ...] = ()
    categories: tuple[str, ...] = field(default=(), compare=False)

    @property
    def group_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def name(self) -> str:
        """``deployments.apps``, as error messages write it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def merging(self) -> Schema:
        """How its lists merge under server-side apply."""
        return crd_schema(self.schema) if self.schema is not None else builtin_schema

    def key(self, namespace: str, name: str = "") -> str:
        """Where it stands in etcd: ``/registry/apps/deployments/default/web``. Without a name, the prefix."""
        parts = ["/registry", self.group or "core", self.plural]
        if self.namespaced and namespace:
            parts.append(namespace)
        return "/".join([*parts, name])


BUILTIN = (
    Resource("", "v1", "namespaces", "Namespace", False, ("ns",), status=True, columns=(("Status", ".status.phase"),)),
    Resource("", "v1", "nodes", "Node", False, ("no",), status=True, columns=(("Status", ".status.phase"),)),
    Resource("", "v1", "pods", "Pod", True, ("po",), status=True, categories=("all",), columns=(
        ("Ready", ".status.ready"), ("Status", ".status.phase"), ("Restarts", ".status.restarts"), ("Node", ".spec.nodeName"))),
    Resource("", "v1", "events", "Event", True, ("ev",), columns=(
        ("Type", ".type"), ("Reason", ".reason"), ("Object", ".involvedObject.name"), ("Message", ".message"))),
    Resource("", "v1", "configmaps", "ConfigMap", True, ("cm",)),
    Resource("", "v1", "services", "Service", True, ("svc",), status=True, categories=("all",), columns=(("Type", ".spec.type"),)),
    Resource("apps", "v1", "deployments", "Deployment", True, ("deploy",), status=True, scale=True, categories=("all",), columns=(
        ("Ready", ".status.readyReplicas"), ("Desired", ".spec.replicas"), ("Available", ".status.availableReplicas"))),
    Resource("apps", "v1", "replicasets", "ReplicaSet", True, ("rs",), status=True, scale=True, categories=("all",), columns=(
        ("Desired", ".spec.replicas"), ("Current", ".status.replicas"), ("Ready", ".status.readyReplicas"))),
    Resource("coordination.k8s.io", "v1", "leases", "Lease", True, (), columns=(("Holder", ".spec.holderIdentity"),)),
    Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False, ("crd", "crds"), status=True),
)  # fmt: skip


def from_definition(crd: Mapping[str, Any]) -> list[Resource]:
    """The resources that one CustomResourceDefinition adds, one for each served version.

    Raises ValueError, naming the field, for a definition that cannot be served.
    """
    spec = crd.get("spec") or {}
    names = spec.get("names") or {}
    for where, key in ((spec, "group"), (spec, "versions"), (names, "plural"), (names, "kind")):
        if not where.get(key):
            raise ValueError(f"spec.{'names.' if where is names else ''}{key}: Required value")
    wanted = f"{names['plural']}.{spec['group']}"
    if crd["metadata"].get("name") != wanted:
        raise ValueError(f'metadata.name: Invalid value: "{crd["metadata"].get("name")}": must be "{wanted}"')
    found = []
    for version in spec["versions"]:
        if not version.get("served", True):
            continue
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if schema is None:
            raise ValueError("spec.versions[*].schema.openAPIV3Schema: Required value: schemas are required")
        extra = tuple((c["name"], c["jsonPath"]) for c in version.get("additionalPrinterColumns") or ())
        subresources = version.get("subresources") or {}
        found.append(Resource(
            spec["group"], version["name"], names["plural"], names["kind"], spec.get("scope", "Namespaced") == "Namespaced",
            tuple(names.get("shortNames") or ()), status="status" in subresources, singular=names.get("singular", ""),
            schema=schema, columns=extra, categories=tuple(names.get("categories") or ()),
        ))  # fmt: skip
    return found


class Registry:
    """The resources of one cluster, found by group, version and plural."""

    def __init__(self) -> None:
        self._found = {(r.group, r.version, r.plural): r for r in BUILTIN}

    def get(self, group: str, version: str, plural: str) -> Resource | None:
        return self._found.get((group, version, plural))

    def __iter__(self):
        return iter(list(self._found.values()))

    def define(self, crds: Iterable[Mapping[str, Any]]) -> None:
        """Serve exactly the built-in resources and those of ``crds``."""
        custom = [resource for crd in crds for resource in from_definition(crd)]
        self._found = {(r.group, r.version, r.plural): r for r in (*BUILTIN, *custom)}

    def groups(self) -> dict[str, list[str]]:
        """Named groups and their versions."""
        found: dict[str, list[str]] = {}
        for resource in self:
            if resource.group and resource.version not in found.setdefault(resource.group, []):
                found[resource.group].append(resource.version)
        return dict(sorted(found.items()))

    def group_list(self) -> dict[str, Any]:
        """``/apis``."""
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [self.group(name) for name in self.groups()]}

    def group(self, name: str) -> dict[str, Any]:
        versions = [{"groupVersion": f"{name}/{v}", "version": v} for v in self.groups()[name]]
        return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": versions, "preferredVersion": versions[0]}

    def resource_list(self, group: str, version: str) -> dict[str, Any] | None:
        """``/api/v1`` or ``/apis/GROUP/VERSION``."""
        entries = []
        for r in self:
            if (r.group, r.version) != (group, version):
                continue
            entry = {"name": r.plural, "singularName": r.singular or r.kind.lower(), "namespaced": r.namespaced, "kind": r.kind, "verbs": VERBS}
            entry |= {"shortNames": list(r.short)} if r.short else {}
            entry |= {"categories": list(r.categories)} if r.categories else {}
            entries.append(entry)
            sub = {"singularName": "", "namespaced": r.namespaced, "kind": r.kind, "verbs": ["get", "patch", "update"]}
            if r.status:
                entries.append({"name": f"{r.plural}/status", **sub})
            if r.scale:
                entries.append({"name": f"{r.plural}/scale", **sub, "kind": "Scale", "group": "autoscaling", "version": "v1"})
        if not entries:
            return None
        gv = f"{group}/{version}" if group else version
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": gv, "resources": entries}

    def openapi_index(self) -> dict[str, Any]:
        """``/openapi/v3``."""
        paths = {"api/v1" if not r.group else f"apis/{r.group_version}" for r in self}
        return {"paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}"} for path in sorted(paths)}}

    def openapi(self, group: str, version: str) -> dict[str, Any]:
        """``/openapi/v3/apis/GROUP/VERSION``: paths with their query parameters, and one schema a kind."""
        base = f"/apis/{group}/{version}" if group else f"/api/{version}"
        text = {"type": "string"}
        query = [{"name": name, "in": "query", "schema": text} for name in ("dryRun", "fieldManager", "fieldValidation")]
        paths, schemas = {}, {}
        for r in self:
            if (r.group, r.version) != (group, version):
                continue
            gvk = {"group": r.group, "version": r.version, "kind": r.kind}
            place = f"{base}/namespaces/{{namespace}}/{r.plural}" if r.namespaced else f"{base}/{r.plural}"
            name = ".".join([*reversed(group.split(".") if group else ["core"]), version, r.kind])
            body = {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}}

            def operation(action: str, gvk=gvk, body=body) -> dict[str, Any]:
                return {"x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk, "parameters": query,
                        "responses": {"200": {"description": "OK", **body}}}  # fmt: skip

            paths[place] = {"get": operation("list"), "post": operation("post")}
            paths[f"{place}/{{name}}"] = {verb: operation(verb) for verb in ("get", "put", "patch", "delete")}
            schemas[name] = {**describe(r), "x-kubernetes-group-version-kind": [gvk]}
        return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.37.0"}, "paths": paths,
                "components": {"schemas": schemas}}  # fmt: skip


_OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def describe(resource: Resource) -> dict[str, Any]:
    """The OpenAPI schema of a kind. Of built-in kinds only the top level is described."""
    top = {
        "apiVersion": {"type": "string", "description": "The version of the schema of this object."},
        "kind": {"type": "string", "description": "The kind of this object."},
        "metadata": {**_OPEN, "description": "Name, namespace, labels, annotations, owners."},
    }
    if resource.schema is not None:
        own = resource.schema
        return {**own, "type": "object", "properties": {**top, **(own.get("properties") or {}), "metadata": top["metadata"]}}
    described = {"spec": {**_OPEN, "description": "What is wanted."}, "status": {**_OPEN, "description": "What was observed."}}
    return {"type": "object", "description": f"{resource.kind}, as this course serves it.", "properties": {**top, **described},
            "x-kubernetes-preserve-unknown-fields": True}  # fmt: skip
