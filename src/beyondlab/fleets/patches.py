"""The three patches that the Kubernetes API takes besides server-side apply. All return a new object.

* JSON merge patch, RFC 7386 (``application/merge-patch+json``)
* JSON patch, RFC 6902 (``application/json-patch+json``)
* strategic merge patch (``application/strategic-merge-patch+json``): a merge patch that knows which lists are sets of
  named things; kubernetes.io "Update API Objects in Place Using kubectl patch"
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

MERGE_KEYS = {
    "containers": ("name",), "initContainers": ("name",), "env": ("name",), "volumes": ("name",),
    "volumeMounts": ("mountPath",), "conditions": ("type",), "ownerReferences": ("uid",),
    "ports": ("containerPort", "protocol"), "imagePullSecrets": ("name",), "addresses": ("type",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"), "containerStatuses": ("name",),
}  # fmt: skip
"""Lists of the built-in kinds that are merged by the value of these keys (``x-kubernetes-list-map-keys``)."""

SETS = {"finalizers"}
"""Lists of the built-in kinds that are sets of texts (``x-kubernetes-list-type: set``)."""


class BadPatch(ValueError):
    """The patch cannot be applied."""


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386: null removes, an object merges, anything else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def strategic(target: Any, patch: Any) -> Any:
    """A strategic merge patch, with ``$patch: delete|replace|merge``, ``$setElementOrder/…``, ``$retainKeys`` and
    ``$deleteFromPrimitiveList/…``."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    if patch.get("$patch") == "replace":
        return copy.deepcopy({key: value for key, value in patch.items() if key != "$patch"})
    result = dict(target) if isinstance(target, dict) else {}
    if "$retainKeys" in patch:
        result = {key: value for key, value in result.items() if key in patch["$retainKeys"]}
    for key, value in patch.items():
        directive, _, field = key.partition("/")
        if directive == "$deleteFromPrimitiveList":
            result[field] = [item for item in result.get(field, []) if item not in value]
        elif key.startswith("$"):
            continue
        elif value is None:
            result.pop(key, None)
        elif isinstance(value, list) and (key in MERGE_KEYS or key in SETS):
            result[key] = _strategic_list(key, result.get(key) or [], value)
        else:
            result[key] = strategic(result.get(key), value)
    for key, order in patch.items():
        directive, _, field = key.partition("/")
        if directive == "$setElementOrder" and isinstance(result.get(field), list):
            result[field] = _ordered(field, result[field], order)
    return result


def _strategic_list(field: str, target: list[Any], patch: list[Any]) -> list[Any]:
    if field in SETS:
        return [*target, *(item for item in patch if item not in target)]
    if any(item.get("$patch") == "replace" for item in patch):
        return copy.deepcopy([item for item in patch if "$patch" not in item])
    key = MERGE_KEYS[field][0]
    result = list(target)
    for item in patch:
        place = next((i for i, old in enumerate(result) if old.get(key) == item.get(key)), None)
        if item.get("$patch") == "delete":
            result = [old for old in result if old.get(key) != item.get(key)]
        elif place is None:
            result.append(strategic({}, item))
        else:
            result[place] = strategic(result[place], item)
    return result


def _ordered(field: str, items: list[Any], order: list[Any]) -> list[Any]:
    """``items`` in the ``order`` given; what it does not name stays behind, in its own order."""
    key = MERGE_KEYS[field][0] if field in MERGE_KEYS else None
    name: Callable[[Any], Any] = (lambda item: item.get(key)) if key else (lambda item: item)
    ranks = {name(item): rank for rank, item in enumerate(order)}
    return sorted(items, key=lambda item: ranks.get(name(item), len(ranks)))


def json_patch(target: Any, operations: list[dict[str, Any]]) -> Any:
    """RFC 6902. Raises :class:`BadPatch` where a path does not exist or a test fails."""
    document = copy.deepcopy(target)
    for operation in operations:
        kind, path = operation.get("op"), operation.get("path")
        if kind in ("move", "copy"):
            value = copy.deepcopy(_get(document, operation["from"]))
            if kind == "move":
                document = _put(document, operation["from"], None, "remove")
            document = _put(document, path, value, "add")
        elif kind == "test":
            if _get(document, path) != operation.get("value"):
                raise BadPatch(f"testing path {path} failed: the value is {_get(document, path)!r}")
        elif kind in ("add", "remove", "replace"):
            document = _put(document, path, copy.deepcopy(operation.get("value")), kind)
        else:
            raise BadPatch(f"op={kind!r}: must be add, remove, replace, move, copy or test")
    return document


def _steps(path: Any) -> list[str]:
    if not isinstance(path, str) or (path and not path.startswith("/")):
        raise BadPatch(f"path={path!r}: must be empty or begin with a slash")
    return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]


def _step(node: Any, step: str, path: str) -> Any:
    try:
        return node[int(step)] if isinstance(node, list) else node[step]
    except (KeyError, IndexError, ValueError, TypeError):
        raise BadPatch(f"path={path!r}: there is no {step!r}") from None


def _get(document: Any, path: str) -> Any:
    for step in _steps(path):
        document = _step(document, step, path)
    return document


def _put(document: Any, path: str, value: Any, kind: str) -> Any:
    steps = _steps(path)
    if not steps:
        return value
    node = document
    for step in steps[:-1]:
        node = _step(node, step, path)
    last = steps[-1]
    if isinstance(node, list):
        if last == "-" and kind == "add":
            node.append(value)
        elif not last.isdigit() or int(last) > len(node) - (kind != "add"):
            raise BadPatch(f"path={path!r}: {last!r} is no place in a list of {len(node)}")
        elif kind == "add":
            node.insert(int(last), value)
        elif kind == "remove":
            del node[int(last)]
        else:
            node[int(last)] = value
    elif not isinstance(node, dict):
        raise BadPatch(f"path={path!r}: leads through a {type(node).__name__}")
    elif kind == "remove":
        if last not in node:
            raise BadPatch(f"path={path!r}: there is no {last!r}")
        del node[last]
    else:
        if kind == "replace" and last not in node:
            raise BadPatch(f"path={path!r}: there is no {last!r} to replace")
        node[last] = value
    return document
