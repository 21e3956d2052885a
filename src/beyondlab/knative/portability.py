"""One handler, one CloudEvent contract, five places to run it: what each needs around the handler, and what differs.

The contract: a module ``handler`` with ``handle(event)``, a CloudEvent as a mapping (the JSON event format of
CloudEvents 1.0) in, another out. The adapters below are all that is different from place to place.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

PLACES = ("functions-framework", "AWS runtime client", "ASGI", "Wasm", "Lithops")
"""Where the handler runs, in the order of the tables."""

ADAPTERS: dict[str, str] = {
    "functions-framework": '''
import functions_framework
from cloudevents.conversion import to_dict
from cloudevents.http import CloudEvent, from_dict, from_http, to_binary
from handler import handle

@functions_framework.http
def main(request):
    event = to_dict(from_http(request.headers, request.get_data()))
    headers, body = to_binary(from_dict(handle(event)))
    return body, 200, headers
''',
    "AWS runtime client": '''
import base64
from cloudevents.conversion import to_dict
from cloudevents.http import from_dict, from_http, to_binary
from handler import handle

def main(request, context):
    body = request.get("body") or ""
    body = base64.b64decode(body) if request.get("isBase64Encoded") else body.encode()
    event = to_dict(from_http(request["headers"], body))
    headers, body = to_binary(from_dict(handle(event)))
    return {"statusCode": 200, "headers": headers, "body": body.decode()}
''',
    "ASGI": '''
from cloudevents.conversion import to_dict
from cloudevents.http import from_dict, from_http, to_binary
from handler import handle

async def main(scope, receive, send):
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    names = {name.decode(): value.decode() for name, value in scope["headers"]}
    headers, body = to_binary(from_dict(handle(to_dict(from_http(names, body)))))
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 200, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
''',
    "Wasm": '''
import json
import sys

sys.stdout.write(json.dumps(handle(json.loads(sys.stdin.read()))))
''',
    "Lithops": '''
import lithops
from handler import handle

executor = lithops.FunctionExecutor()
answers = executor.get_result(executor.map(handle, [(event,) for event in events]))
''',
}
"""Place -> the code between it and the handler."""

PROBE = '''
calls = 0

def handle(event):
    global calls
    calls += 1
    kind, data = event["type"], event["data"]
    found = {"calls": calls}
    if kind == "probe.identity":
        try:
            import os
            kept = ("K_", "FUNCTION_", "AWS_LAMBDA_", "LITHOPS", "__LITHOPS")
            found["names"] = sorted(name for name in os.environ if name.startswith(kept))
        except AttributeError:
            found["names"] = []
    if kind == "probe.sleep":
        import time
        time.sleep(data["seconds"])
    if kind in ("probe.sleep", "probe.disk"):
        try:
            with open(data["path"], "a") as file:
                file.write("written")
            found["written"] = True
        except OSError:
            found["written"] = False
    if kind == "probe.read":
        try:
            with open(data["path"]) as file:
                found["read"] = file.read()
        except OSError:
            found["read"] = None
    return {"specversion": "1.0", "id": event["id"], "source": "/probe", "type": kind,
            "datacontenttype": "application/json", "data": found}
'''
"""A handler under the same contract that reports what it finds around it."""

STREAMS: dict[str, str] = {
    "functions-framework": '''
import time
import functions_framework
from flask import Response

@functions_framework.http
def stream(request):
    def parts():
        for number in range(4):
            yield f"{number}\\n"
            time.sleep(0.15)
    return Response(parts(), mimetype="text/plain")
''',
    "ASGI": '''
import asyncio

async def stream(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    for number in range(4):
        await send({"type": "http.response.body", "body": b"%d\\n" % number, "more_body": True})
        await asyncio.sleep(0.15)
    await send({"type": "http.response.body", "body": b""})
''',
    "AWS runtime client": '''
def stream(request, context):
    return (f"{number}\\n" for number in range(4))
''',
}
"""Place -> a function that answers in four parts, in the place's own way."""


def code_lines(source: str) -> int:
    """Lines that are neither empty nor only a comment."""
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in source.splitlines())


def moved_share(handler: str, place: str) -> float:
    """Share of the code's lines that move to another place unchanged: the handler's, of handler and adapter together."""
    own = code_lines(handler)
    return own / (own + code_lines(ADAPTERS[place]))


def event(kind: str, data: Any, *, id: str = "1", source: str = "/lab") -> dict[str, Any]:
    """A CloudEvent in the JSON event format."""
    return {"specversion": "1.0", "id": id, "source": source, "type": kind, "datacontenttype": "application/json", "data": data}


def binary(event: Mapping[str, Any]) -> tuple[dict[str, str], bytes]:
    """Headers and body of ``event`` in binary content mode (CloudEvents 1.0.2, HTTP binding, 3.1).

    Raises ValueError if a required attribute is missing.
    """
    _check(event)
    headers = {f"ce-{name}": quote(str(value)) for name, value in event.items() if name not in ("data", "datacontenttype")}
    return headers | {"content-type": event.get("datacontenttype", "application/json")}, json.dumps(event["data"]).encode()


def structured(event: Mapping[str, Any]) -> tuple[dict[str, str], bytes]:
    """Headers and body of ``event`` in structured content mode (3.2). Raises ValueError as :func:`binary`."""
    _check(event)
    return {"content-type": "application/cloudevents+json"}, json.dumps(dict(event)).encode()


def _check(event: Mapping[str, Any]) -> None:
    missing = [name for name in ("specversion", "id", "source", "type") if not event.get(name)]
    if missing:
        raise ValueError(f"event: lacks the required attribute {missing[0]!r}")


def quote(value: str) -> str:
    """A header value as the HTTP binding wants it: space, quote, per cent and what is not printable are percent-encoded."""
    return "".join(c if "!" <= c <= "~" and c not in '"%' else "".join(f"%{b:02X}" for b in c.encode()) for c in value)


def mode(headers: Mapping[str, str]) -> str:
    """``"batch"``, ``"structured"`` or ``"binary"``, by the content type; batch first, for its name begins like structured."""
    kind = next((value for name, value in headers.items() if name.lower() == "content-type"), "").strip().lower()
    if kind.startswith("application/cloudevents-batch"):
        return "batch"
    return "structured" if kind.startswith("application/cloudevents") else "binary"


def as_function_url(headers: Mapping[str, str], body: bytes, *, text: bool = True) -> dict[str, Any]:
    """The same HTTP request as AWS hands it to a function: a function URL's event, payload format 2.0."""
    return {
        "version": "2.0",
        "rawPath": "/",
        "headers": dict(headers),
        "body": body.decode() if text else base64.b64encode(body).decode(),
        "isBase64Encoded": not text,
        "requestContext": {"http": {"method": "POST", "path": "/"}},
    }
