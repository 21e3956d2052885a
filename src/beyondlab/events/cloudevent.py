"""CloudEvents over HTTP from scratch: binary, structured and batched mode, and what makes an event valid.

After the specification 1.0.2 (cloudevents/spec, ``cloudevents/spec.md``, ``cloudevents/bindings/http-protocol-binding.md``
and ``cloudevents/formats/json-format.md``). NATS messages have headers as HTTP has, so the same mapping carries events
over NATS; the NATS binding 1.0.2 itself defines the structured mode only.

The cases in ``cloudevents-conformance.json`` are those of cloudevents/conformance and the examples of the HTTP binding.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any, Literal

Mode = Literal["binary", "structured", "batched"]

REQUIRED = ("specversion", "id", "source", "type")
"""Attributes that every event has."""

_OPTIONAL = ("datacontenttype", "dataschema", "subject", "time")
_NAME = re.compile(r"[a-z0-9]+")
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(\s*;.*)?")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", re.IGNORECASE)


class InvalidEvent(ValueError):
    """What was given is no valid CloudEvent; the message names the attribute."""


@dataclass(frozen=True)
class Event:
    """One event: its context ``attributes`` and its ``data`` (a JSON value, a text, or bytes)."""

    attributes: Mapping[str, Any]
    data: Any = field(default=None)

    def __post_init__(self) -> None:
        given = {name: value for name, value in self.attributes.items() if value is not None}
        object.__setattr__(self, "attributes", given)
        _check(given)


def _check(given: Mapping[str, Any]) -> None:
    for name in REQUIRED:
        if name not in given:
            raise InvalidEvent(f"{name}: missing; every event has {', '.join(REQUIRED)}")
    for name, value in given.items():
        if not _NAME.fullmatch(name) or name == "data":
            raise InvalidEvent(f"{name!r}: no attribute name; allowed are lower-case letters and digits")
        if name in REQUIRED or name in _OPTIONAL:
            if not isinstance(value, str) or not value:
                raise InvalidEvent(f"{name}={value!r}: must be a text that is not empty")
        elif not isinstance(value, (str, bool, int)):
            raise InvalidEvent(f"{name}={value!r}: an extension is a text, a whole number or a truth value")
    if given["specversion"] != "1.0":
        raise InvalidEvent(f"specversion={given['specversion']!r}: must be '1.0'")
    if "datacontenttype" in given and not _MEDIA_TYPE.fullmatch(given["datacontenttype"]):
        raise InvalidEvent(f"datacontenttype={given['datacontenttype']!r}: no media type such as application/json")
    if "time" in given:
        _check_time(given["time"])


def _check_time(text: str) -> None:
    """RFC 3339: seconds and an offset are there, and every number is in its range."""
    match = _TIME.fullmatch(text)
    try:
        if not match:
            raise ValueError(text)
        datetime.fromisoformat(match[1] + match[3].upper().replace("Z", "+00:00"))
    except ValueError:
        raise InvalidEvent(f"time={text!r}: no RFC 3339 time such as 2018-04-05T17:31:00Z") from None


def content_mode(content_type: str) -> Mode:
    """How a message carries events, by its Content-Type. Batched is asked first: its type has the other as a prefix."""
    kind = content_type.strip().lower()
    if kind.startswith("application/cloudevents-batch"):
        return "batched"
    return "structured" if kind.startswith("application/cloudevents") else "binary"


def encode_header(text: str) -> str:
    """A header value: space, double quote, per cent and all that is not printable ASCII become ``%XY`` of their UTF-8."""
    return "".join(
        c if "!" <= c <= "~" and c not in '"%' else "".join(f"%{byte:02X}" for byte in c.encode()) for c in text
    )


def decode_header(value: str) -> str:
    """The text of a header value: quotes of RFC 7230 undone, then one round of percent-decoding.

    Raises :class:`InvalidEvent` where the bytes are no UTF-8, an overlong encoding among them.
    """
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    raw = re.sub(rb"%([0-9A-Fa-f]{2})", lambda m: bytes([int(m[1], 16)]), value.encode())
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidEvent(f"header value {value!r}: its bytes are no UTF-8") from None


def to_http(event: Event, mode: Literal["binary", "structured"]) -> tuple[dict[str, str], bytes]:
    """Headers and body of a message that carries the event."""
    if mode == "structured":
        return {"content-type": "application/cloudevents+json"}, json.dumps(_document(event)).encode()
    if mode != "binary":
        raise ValueError(f"mode={mode!r}: must be 'binary' or 'structured'")
    headers = {
        f"ce-{name}": encode_header(str(value).lower() if isinstance(value, bool) else str(value))
        for name, value in event.attributes.items()
        if name != "datacontenttype"
    }
    body = event.data
    if "datacontenttype" in event.attributes:
        headers["content-type"] = event.attributes["datacontenttype"]
    elif body is not None and not isinstance(body, (bytes, str)):
        headers["content-type"] = "application/json"
    if body is None:
        return headers, b""
    if isinstance(body, bytes):
        return headers, body
    return headers, (body if isinstance(body, str) and not _is_json(event.attributes) else json.dumps(body)).encode()


def from_http(headers: Mapping[str, str], body: bytes) -> Event:
    """The event that a message carries, in binary or structured mode.

    Raises :class:`InvalidEvent` if it carries none, or a batch, or one that is not valid.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    mode = content_mode(lower.get("content-type", ""))
    if mode == "batched":
        raise InvalidEvent("content-type: a batch carries more than one event; read it with from_batch")
    if mode == "structured":
        return from_json(_loads(body))
    if "ce-datacontenttype" in lower:
        raise InvalidEvent("ce-datacontenttype: must not be there in binary mode; it is the Content-Type")
    attributes = {name[3:]: decode_header(value) for name, value in lower.items() if name.startswith("ce-")}
    if "content-type" in lower:
        attributes["datacontenttype"] = lower["content-type"]
    data: Any = body or None
    if data is not None and _is_json(attributes):
        data = _loads(body)
    return Event(attributes, data)


def from_batch(body: bytes) -> list[Event]:
    """The events of a JSON batch, which may be empty. Raises :class:`InvalidEvent` if one is not valid."""
    found = _loads(body)
    if not isinstance(found, list):
        raise InvalidEvent(f"batch: must be a JSON array, not {type(found).__name__}")
    return [from_json(document) for document in found]


def from_json(document: Any) -> Event:
    """An event of the JSON event format."""
    if not isinstance(document, dict):
        raise InvalidEvent(f"event: must be a JSON object, not {type(document).__name__}")
    if "data" in document and "data_base64" in document:
        raise InvalidEvent("data, data_base64: an event has one of them at most")
    attributes = {name: value for name, value in document.items() if name not in ("data", "data_base64")}
    data = document.get("data")
    if "data_base64" in document:
        try:
            data = base64.b64decode(document["data_base64"], validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise InvalidEvent("data_base64: no Base64") from None
    return Event(attributes, data)


def _document(event: Event) -> dict[str, Any]:
    if event.data is None:
        return dict(event.attributes)
    if isinstance(event.data, bytes):
        return {**event.attributes, "data_base64": base64.b64encode(event.data).decode()}
    return {**event.attributes, "data": event.data}


def _is_json(attributes: Mapping[str, Any]) -> bool:
    kind = str(attributes.get("datacontenttype", "")).partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def _loads(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise InvalidEvent(f"body: no JSON: {error}") from None


@cache
def conformance_cases() -> tuple[dict[str, Any], ...]:
    """The cases: ``id``, ``group``, ``headers``, ``body``, and ``valid``; of a valid one also what it must give."""
    document = json.loads(resources.files(__package__).joinpath("cloudevents-conformance.json").read_text("utf-8"))
    return tuple(document["cases"])


def judge(case: Mapping[str, Any], attributes: Mapping[str, Any] | None, data: Any = None) -> bool:
    """Whether what a reader made of a case is right: ``attributes`` and ``data``, or None if it refused the message."""
    if not case["valid"] or attributes is None:
        return case["valid"] is (attributes is not None)
    wanted = {name: value for name, value in case["attributes"].items() if value is not None}
    if {name: value for name, value in attributes.items() if value is not None} != wanted:
        return False
    return "data" not in case or data == case["data"]


def ours(case: Mapping[str, Any]) -> bool:
    """Whether this module reads the case as it must be read."""
    try:
        event = from_http(case["headers"], case["body"].encode())
    except InvalidEvent:
        return judge(case, None)
    return judge(case, event.attributes, event.data)


def sdk(case: Mapping[str, Any]) -> bool:
    """Whether the CloudEvents SDK for Python reads the case as it must be read."""
    from cloudevents.exceptions import GenericException
    from cloudevents.http import from_http as sdk_from_http

    try:
        event = sdk_from_http(dict(case["headers"]), case["body"].encode())
    except (GenericException, ValueError, TypeError):
        return judge(case, None)
    data = event.data
    if isinstance(data, bytes):
        data = json.loads(data) if _is_json(event.get_attributes()) else data.decode()
    return judge(case, event.get_attributes(), data)


def scores(cases: Iterable[Mapping[str, Any]] | None = None) -> dict[str, tuple[int, int, int]]:
    """Group of cases -> how many there are, how many this module reads right, how many the SDK."""
    found: dict[str, tuple[int, int, int]] = {}
    for case in conformance_cases() if cases is None else cases:
        total, here, there = found.get(case["group"], (0, 0, 0))
        found[case["group"]] = (total + 1, here + ours(case), there + sdk(case))
    return found
