"""Structural schemas, as custom resource definitions write them: validate, find unknown fields, prune, default.

The subset of OpenAPI v3 that Kubernetes allows there and that the course's own definitions use: type, properties,
additionalProperties, items, required, enum, minimum, maximum, minLength, maxLength, pattern, default, nullable.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,), "integer": (int,), "number": (int, float),
}  # fmt: skip

OPEN = "x-kubernetes-preserve-unknown-fields"


def faults(value: Any, schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """What is wrong with ``value``, each as ``field: Invalid value: …``."""
    where = path or "object"
    if value is None and schema.get("nullable"):
        return
    wanted = schema.get("type")
    if schema.get("x-kubernetes-int-or-string"):
        wanted = None
    if wanted in _TYPES and (not isinstance(value, _TYPES[wanted]) or isinstance(value, bool) and wanted != "boolean"):
        yield f'{where}: Invalid value: "{type(value).__name__}": must be of type {wanted}'
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: Unsupported value: {value!r}: supported values: {', '.join(map(repr, schema['enum']))}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if "minimum" in schema and value < schema["minimum"]:
            yield f"{where}: Invalid value: {value}: should be greater than or equal to {schema['minimum']}"
        if "maximum" in schema and value > schema["maximum"]:
            yield f"{where}: Invalid value: {value}: should be less than or equal to {schema['maximum']}"
    if isinstance(value, str):
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            yield f"{where}: Invalid value: {value!r}: its length is not allowed"
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{where}: Invalid value: {value!r}: should match '{schema['pattern']}'"
    for child, inner, place in _children(value, schema, path):
        if inner is not None:
            yield from faults(child, inner, place)
    if isinstance(value, dict):
        for name in schema.get("required") or ():
            if name not in value:
                yield f"{path}.{name}: Required value".lstrip(".")


def unknown(value: Any, schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Fields that the schema does not name."""
    for child, inner, place in _children(value, schema, path):
        if inner is None:
            if not schema.get(OPEN):
                yield place
        else:
            yield from unknown(child, inner, place)


def prune(value: Any, schema: Mapping[str, Any]) -> None:
    """In place: drop what the schema does not name, put in its defaults."""
    if isinstance(value, dict):
        for key, child in (schema.get("properties") or {}).items():
            if key not in value and "default" in child:
                value[key] = copy.deepcopy(child["default"])
    for child, inner, place in list(_children(value, schema, "")):
        if inner is not None:
            prune(child, inner)
        elif not schema.get(OPEN):
            del value[place]


def _children(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[tuple[Any, Mapping[str, Any] | None, str]]:
    """(child, its schema or None where there is none, its path)."""
    if isinstance(value, dict):
        properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
        for key, child in value.items():
            inner = properties.get(key, extra if isinstance(extra, Mapping) else {} if extra else None)
            yield child, inner, f"{path}.{key}" if path else key
    elif isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        for index, child in enumerate(value):
            yield child, schema["items"], f"{path}[{index}]"
