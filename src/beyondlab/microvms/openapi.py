"""Requests and answers against a Swagger 2.0 document: the part of it that Firecracker's published API uses."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "string": (str,), "integer": (int,), "boolean": (bool,), "array": (list,), "number": (int, float),
}  # fmt: skip
_U64 = 2**64 - 1
"""The largest integer that Firecracker's parser takes; none of its fields is negative."""


class Invalid(ValueError):
    """A document does not fit its schema; the message says where."""


@cache
def firecracker() -> Mapping[str, Any]:
    """The part of Firecracker's API that the course's monitor honours; source, version and licence are in ``info``."""
    return json.loads(resources.files(__package__).joinpath("firecracker-api.json").read_text("utf-8"))


def operation(method: str, path: str) -> tuple[str, Mapping[str, Any], dict[str, str]] | None:
    """Path template, operation and path parameters of a request; None if the document has no such operation."""
    for template, item in firecracker()["paths"].items():
        names = re.findall(r"{(\w+)}", template)
        match = re.fullmatch(re.sub(r"{\w+}", "([A-Za-z0-9_]+)", template), path)
        if match and method.lower() in item:
            return template, item[method.lower()], dict(zip(names, match.groups(), strict=True))
    return None


def body_schema(found: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema of an operation's body; None if it takes none."""
    return next((part["schema"] for part in found.get("parameters", ()) if part["in"] == "body"), None)


def check(value: Any, schema: Mapping[str, Any], *, partial: bool = False) -> None:
    """Raise :class:`Invalid` unless ``value`` fits ``schema``.

    Fields that the schema does not name are refused, as Firecracker's own parser does, though the document does not say
    so. ``partial``: required fields may be missing at the top, as in a PATCH.
    """
    schema = _resolved(schema)
    kind = schema.get("type", "object")
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        raise Invalid(f"invalid type: {_shown(value)}, expected {kind}")
    if kind == "object":
        _check_object(value, schema, partial)
    elif kind == "array":
        for item in value:
            check(item, schema["items"])
    elif "enum" in schema and value not in schema["enum"]:
        raise Invalid(f"unknown variant `{value}`, expected one of {', '.join(f'`{one}`' for one in schema['enum'])}")
    elif kind == "integer" and not schema.get("minimum", 0) <= value <= schema.get("maximum", _U64):
        raise Invalid(f"invalid value: integer `{value}`, expected {schema.get('minimum', 0)} to {schema.get('maximum', '2**64 - 1')}")


def _check_object(value: dict[str, Any], schema: Mapping[str, Any], partial: bool) -> None:
    known = schema.get("properties", {})
    for name in value:
        if name not in known:
            raise Invalid(f"unknown field `{name}`, expected one of {', '.join(f'`{one}`' for one in known)}")
    for name in () if partial else schema.get("required", ()):
        if name not in value:
            raise Invalid(f"missing field `{name}`")
    for name, held in value.items():
        check(held, known[name])


def _resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in schema:
        schema = firecracker()["definitions"][schema["$ref"].rpartition("/")[2]]
    return schema


def _shown(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "floating point", str: "string", list: "sequence", dict: "map"}
    name = names.get(type(value), "null")
    return name if isinstance(value, (list, dict)) or value is None else f"{name} {json.dumps(value)}"


def check_answer(method: str, path: str, status: int, document: Any) -> None:
    """Raise :class:`Invalid` unless an answer is one that the document allows to this request."""
    found = operation(method, path)
    if found is None:
        raise Invalid(f"{method} {path}: not in the document")
    responses = found[1]["responses"]
    answer = responses.get(str(status), responses["default"])
    if "schema" not in answer:
        if document is not None:
            raise Invalid(f"{method} {path}: status {status} comes without a body; this is {document!r}")
        return
    check(document, answer["schema"])
