"""Server-side apply: who owns which field, what conflicts, what is removed.

Follows kubernetes.io "Server-Side Apply" and the format of sigs.k8s.io/structured-merge-diff: an object is a set of
paths; every manager owns some of them; applying again without a field gives it up, and what nobody owns goes away.

A path is a tuple of steps: ``("f", name)`` a field, ``("k", ((key, value), …))`` an item of a list of named things,
``("v", value)`` a member of a set.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from beyondlab.fleets.patches import MERGE_KEYS, SETS

Step = tuple[str, Any]
Path = tuple[Step, ...]
ListKind = tuple[str, ...] | str
"""How a list merges: its keys, ``"set"``, or ``"atomic"``."""

Schema = Callable[[tuple[str, ...]], ListKind]
"""From the names of the fields that lead to a list (or object) to how it merges."""

ATOMIC_OBJECTS = {"selector", "nodeSelector", "fieldsV1", "resources.limits"}
_UNTRACKED = {"apiVersion", "kind"}
_UNTRACKED_META = {"name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp",
                   "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "selfLink", "generateName"}  # fmt: skip
_DEFAULTS = {"protocol": "TCP"}


class Conflict(Exception):
    """Somebody else owns fields that this apply would change. ``fields``: (manager, apiVersion, path as text)."""

    def __init__(self, fields: list[tuple[str, str, str]]) -> None:
        self.fields = fields
        count = len(fields)
        owners = sorted({(manager, version) for manager, version, _ in fields})
        if len(owners) == 1 and count == 1:
            text = f"conflict with {owners[0][0]} using {owners[0][1]}: {fields[0][2]}"
        else:
            text = "conflicts " + "\n".join(
                f"with {manager} using {version}:\n" + "\n".join(f"- {f}" for m, v, f in fields if (m, v) == (manager, version))
                for manager, version in owners
            )
        super().__init__(f"Apply failed with {count} conflict{'s' if count > 1 else ''}: {text}")


def builtin_schema(names: tuple[str, ...]) -> ListKind:
    """How lists of the built-in kinds merge. Objects named in ``ATOMIC_OBJECTS`` are one value."""
    last = names[-1]
    if last in SETS:
        return "set"
    return MERGE_KEYS.get(last, "atomic")


def crd_schema(schema: Mapping[str, Any]) -> Schema:
    """The same from the OpenAPI schema of a custom resource (``x-kubernetes-list-type`` and ``-map-keys``)."""

    def look(names: tuple[str, ...]) -> ListKind:
        if names[0] == "metadata":
            return builtin_schema(names)
        node: Any = schema
        for name in names:
            while node.get("type") == "array":
                node = node.get("items", {})
            node = node.get("properties", {}).get(name) or node.get("additionalProperties") or {}
            if not isinstance(node, Mapping):
                return "atomic"
        kind = node.get("x-kubernetes-list-type", "atomic")
        return tuple(node["x-kubernetes-list-map-keys"]) if kind == "map" else kind

    return look


def _names(path: Path) -> tuple[str, ...]:
    return tuple(value for kind, value in path if kind == "f")


def _item_step(item: Mapping[str, Any], keys: tuple[str, ...]) -> Step:
    return ("k", tuple((key, item.get(key, _DEFAULTS.get(key))) for key in keys if key in item or key in _DEFAULTS))


def leaves(value: Mapping[str, Any], schema: Schema) -> dict[Path, Any]:
    """Every field that can be owned, and its value. Items of named lists are there themselves too, with None."""
    found: dict[Path, Any] = {}

    def walk(node: Any, path: Path) -> None:
        names = _names(path)
        if isinstance(node, dict) and node and not (names and names[-1] in ATOMIC_OBJECTS):
            for key, child in node.items():
                if not path and key in _UNTRACKED or names == ("metadata",) and key in _UNTRACKED_META:
                    continue
                walk(child, (*path, ("f", key)))
        elif isinstance(node, list) and (kind := schema(names)) != "atomic":
            for item in node:
                if kind == "set":
                    found[(*path, ("v", item))] = item
                else:
                    step = _item_step(item, kind)
                    found[(*path, step)] = None
                    walk(item, (*path, step))
        elif path and names != ("metadata",):
            found[path] = node

    walk(value, ())
    return found


def to_fields(paths: Iterable[Path]) -> dict[str, Any]:
    """Paths as ``fieldsV1``."""
    tree: dict[str, Any] = {}
    for path in sorted(paths, key=repr):
        node = tree
        for kind, value in path:
            text = dict(value) if kind == "k" else value
            name = f"{kind}:{value if kind == 'f' else json.dumps(text, separators=(',', ':'))}"
            node = node.setdefault(name, {})
        if path and path[-1][0] == "k":
            node.setdefault(".", {})
    return tree


def from_fields(tree: Mapping[str, Any]) -> set[Path]:
    """``fieldsV1`` as paths."""
    found: set[Path] = set()

    def walk(node: Mapping[str, Any], path: Path) -> None:
        if path and (not node or "." in node):
            found.add(path)
        for name, child in node.items():
            if name == ".":
                continue
            kind, _, text = name.partition(":")
            value = text if kind == "f" else json.loads(text)
            walk(child, (*path, (kind, tuple(value.items()) if kind == "k" else value)))

    walk(tree, ())
    return {path for path in found if path[-1][0] != "f" or not any(p != path and p[: len(path)] == path for p in found)}


def text_of(path: Path) -> str:
    """A path as messages show it: ``.spec.containers[name="web"].image``."""
    parts = []
    for kind, value in path:
        if kind == "f":
            parts.append(f".{value}")
        elif kind == "k":
            parts.append("[" + ",".join(f"{key}={json.dumps(each)}" for key, each in value) + "]")
        else:
            parts.append(f"[={json.dumps(value)}]")
    return "".join(parts)


class Ownership:
    """The ``managedFields`` of one object: (manager, operation, apiVersion, subresource) -> the paths it owns."""

    def __init__(self, entries: Iterable[Mapping[str, Any]] = ()) -> None:
        self.sets: dict[tuple[str, str, str, str], set[Path]] = {}
        self.times: dict[tuple[str, str, str, str], str] = {}
        for entry in entries:
            if not entry.get("manager") and not entry.get("fieldsV1"):
                continue
            key = (entry.get("manager", ""), entry.get("operation", "Update"), entry.get("apiVersion", ""), entry.get("subresource", ""))
            self.sets[key] = from_fields(entry.get("fieldsV1") or {})
            self.times[key] = entry.get("time", "")

    def entries(self, now: str) -> list[dict[str, Any]]:
        """As ``metadata.managedFields``; ``now`` is the time of entries that changed."""
        found = []
        for key, paths in self.sets.items():
            if paths:
                manager, operation, version, subresource = key
                entry = {"manager": manager, "operation": operation, "apiVersion": version, "fieldsType": "FieldsV1",
                         "fieldsV1": to_fields(paths), "time": self.times.get(key) or now}  # fmt: skip
                found.append(entry | ({"subresource": subresource} if subresource else {}))
        return found

    def others(self, key: tuple[str, str, str, str]) -> set[Path]:
        return set().union(*(paths for other, paths in self.sets.items() if other != key))

    def updated(self, key: tuple[str, str, str, str], before: Mapping[Path, Any], after: Mapping[Path, Any]) -> None:
        """A plain write: whoever changes a field owns it, alone."""
        missing = object()
        changed = {path for path, value in after.items() if before.get(path, missing) != value}
        gone = before.keys() - after.keys()
        for other, paths in self.sets.items():
            if other != key:
                paths -= changed | gone
        mine = self.sets.setdefault(key, set())
        if changed or mine & gone:
            self.times.pop(key, None)
        mine |= changed
        mine -= gone


def server_side_apply(
    live: Mapping[str, Any] | None, config: Mapping[str, Any], *, manager: str, schema: Schema, now: str,
    force: bool = False, subresource: str = "",
) -> dict[str, Any]:  # fmt: skip
    """The object after ``manager`` applied ``config`` on ``live`` (None: it does not exist yet).

    Raises :class:`Conflict` unless ``force``, where another manager owns a field and wants another value.
    """
    config = copy.deepcopy(dict(config))
    config.get("metadata", {}).pop("managedFields", None)
    key = (manager, "Apply", config.get("apiVersion", ""), subresource)
    wanted = leaves(config, schema)
    if live is None:
        ownership = Ownership()
        ownership.sets[key] = set(wanted)
        config.setdefault("metadata", {})["managedFields"] = ownership.entries(now)
        return config
    ownership = Ownership(live.get("metadata", {}).get("managedFields") or ())
    standing = leaves(live, schema)
    conflicts = []
    for path, value in wanted.items():
        if path in standing and standing[path] == value:
            continue
        for other, paths in ownership.sets.items():
            if other != key and path in paths:
                conflicts.append((other, path))
    if conflicts and not force:
        raise Conflict(sorted((_who(other), other[2], text_of(path)) for other, path in conflicts))
    for other, path in conflicts:
        ownership.sets[other].discard(path)
    merged = _merge(copy.deepcopy(dict(live)), config, schema, ())
    before = ownership.sets.get(key, set())
    theirs = ownership.others(key)
    kept = theirs | wanted.keys()
    given_up = {path for path in before - wanted.keys() if not any(each[: len(path)] == path for each in kept)}
    for path in sorted(given_up, key=len):
        if not any(path[:length] in given_up for length in range(1, len(path))):
            _remove(merged, path, keep=kept)
    if before != set(wanted) or conflicts:
        ownership.times.pop(key, None)
    ownership.sets[key] = set(wanted)
    merged["metadata"]["managedFields"] = ownership.entries(now)
    return merged


def _who(key: tuple[str, str, str, str]) -> str:
    manager, _, _, subresource = key
    return f'"{manager}" with subresource "{subresource}"' if subresource else f'"{manager}"'


def _merge(live: Any, config: Any, schema: Schema, names: tuple[str, ...]) -> Any:
    if isinstance(config, dict) and isinstance(live, dict) and not (names and names[-1] in ATOMIC_OBJECTS):
        for key, value in config.items():
            live[key] = _merge(live.get(key), value, schema, (*names, key))
        return live
    if isinstance(config, list) and isinstance(live, list) and names:
        kind = schema(names)
        if kind == "set":
            return [*live, *(item for item in config if item not in live)]
        if kind != "atomic":
            result = list(live)
            places = {_item_step(item, kind): place for place, item in enumerate(result)}
            for item in config:
                place = places.get(_item_step(item, kind))
                if place is None:
                    result.append(item)
                else:
                    result[place] = _merge(result[place], item, schema, names)
            return result
    return config


def _remove(node: Any, path: Path, *, keep: set[Path], above: Path = ()) -> None:
    """Take out one path, and the objects and lists that it leaves empty, unless somebody wants them to be there."""
    (kind, value), *rest = path
    here = (*above, path[0])
    if kind == "f":
        if not isinstance(node, dict) or value not in node:
            return
        if rest:
            _remove(node[value], tuple(rest), keep=keep, above=here)
            if node[value] in ({}, []) and here not in keep:
                del node[value]
        else:
            del node[value]
    elif isinstance(node, list):
        for item in list(node):
            same = item == value if kind == "v" else all(item.get(k, _DEFAULTS.get(k)) == v for k, v in value)
            if same and rest:
                _remove(item, tuple(rest), keep=keep, above=here)
            elif same:
                node.remove(item)
