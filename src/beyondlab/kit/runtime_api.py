"""AWS Lambda's Runtime API: the HTTP interface between one execution environment and the service.

The runtime inside an environment is the *client*: it asks for the next event with a GET that may hang for hours, and
posts the answer. :class:`RuntimeApi` is the other side, for one environment. AWS's own runtime client, awslambdaric,
runs against it unchanged.

Sources: the "Lambda runtime API" page of the AWS Lambda Developer Guide and its OpenAPI description (version
2018-06-01); for the restore endpoints, the source of awslambdaric 4.2.2.
"""

from __future__ import annotations

import http.server
import json
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from beyondlab.kit import check

VERSION = "2018-06-01"
MAX_RESPONSE_BYTES = 6_291_556
"""The largest synchronous response that Lambda takes: 6 MB and 100 bytes."""


@dataclass(frozen=True)
class Answer:
    """What the runtime posted for one event, or what became of it instead.

    ``kind`` is ``"response"``, ``"error"`` (the handler raised), ``"too-large"``, ``"timeout"`` or ``"closed"`` (the
    runtime went away or the environment was stopped). ``body`` is the posted document as bytes; it is empty for the
    last two. ``seconds`` runs from handing the event over to the answer.
    """

    kind: Literal["response", "error", "too-large", "timeout", "closed"]
    body: bytes
    seconds: float
    request_id: str


class RuntimeApi:
    """The Runtime API of one environment, on a loopback port of its own.

    A context manager. ``snap_start=True`` expects the runtime to stop at ``/restore/next`` after its init, as
    SnapStart does where the snapshot is taken; :meth:`restore` lets it go on.

    All times are ``time.perf_counter()`` values in seconds.
    """

    def __init__(self, *, function_name: str = "function", snap_start: bool = False) -> None:
        self.function_name = function_name
        self.snap_start = snap_start
        self.ready_at: float | None = None
        """When the runtime first asked for work (or, with SnapStart, reached the point of the snapshot)."""
        self.restored_at: float | None = None
        """With SnapStart: when the runtime, restored, first asked for work."""
        self.init_error: dict[str, Any] | None = None
        """The error document that the runtime posted instead of asking for work."""
        self.restore_error: dict[str, Any] | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._gone = False
        self._released = False
        self._work: tuple[str, bytes, int] | None = None
        self._current: str | None = None
        self._answer: Answer | None = None
        self._sent_at = 0.0
        self._server = _Server(("127.0.0.1", 0), _handler_for(self))
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="runtime-api", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        """``host:port``, the value of AWS_LAMBDA_RUNTIME_API in the environment."""
        return f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> RuntimeApi:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the port back and end every call that still waits. May be called twice."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # The service's side

    def settled(self) -> bool:
        """Whether init is over: the runtime asked for work, reached its snapshot, or reported an init error."""
        return self.ready_at is not None or self.init_error is not None

    def restore(self) -> None:
        """Let a runtime that waits at ``/restore/next`` go on, as SnapStart does in each restored copy."""
        if not self.snap_start:
            raise ValueError("snap_start=False: only an environment made with snap_start=True can be restored")
        with self._changed:
            self._released = True
            self._changed.notify_all()

    def invoke(self, event: Any, *, timeout: float) -> Answer:
        """Hand one event to the runtime and wait at most ``timeout`` seconds for its answer.

        Raises ValueError if ``timeout`` is not positive, RuntimeError if an event is in work already: one environment
        serves one request at a time.
        """
        check.positive("timeout", timeout, "seconds")
        body = json.dumps(event).encode()
        with self._changed:
            if self._work is not None or self._current is not None:
                raise RuntimeError("an event is in work already: one environment serves one request at a time")
            self._answer = None
            request_id = str(uuid.uuid4())
            self._work = (request_id, body, int((time.time() + timeout) * 1000))
            self._sent_at = time.perf_counter()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._answer is not None or self._closed or self._gone, timeout)
            answer, self._work = self._answer, None
            if answer is None:
                kind = "closed" if self._closed or self._gone else "timeout"
                answer = Answer(kind, b"", time.perf_counter() - self._sent_at, request_id)
            return answer

    def abandon(self) -> None:
        """Say that the runtime is gone: a waiting :meth:`invoke` returns an answer of kind ``"closed"``."""
        with self._changed:
            self._gone = True
            self._changed.notify_all()

    # The runtime's side, called by the HTTP handler

    def _next(self) -> tuple[str, bytes, int] | None:
        """Block until there is an event; None when the environment is closed."""
        with self._changed:
            now = time.perf_counter()
            if self.ready_at is None:
                self.ready_at = now
            elif self.snap_start and self.restored_at is None:
                self.restored_at = now
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._work is not None or self._closed)
            if self._work is None:
                return None
            work, self._work = self._work, None
            self._current = work[0]
            return work

    def _parked(self) -> bool:
        """Block at the snapshot until restored; False when the environment is closed."""
        with self._changed:
            if self.ready_at is None:
                self.ready_at = time.perf_counter()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._released or self._closed)
            return not self._closed

    def _post(self, request_id: str, kind: Literal["response", "error", "too-large"], body: bytes) -> bool:
        """Record an answer; False if ``request_id`` is not the event in work."""
        with self._changed:
            if request_id != self._current:
                return False
            self._current = None
            self._answer = Answer(kind, body, time.perf_counter() - self._sent_at, request_id)
            self._changed.notify_all()
            return True

    def _post_init_error(self, document: dict[str, Any]) -> None:
        with self._changed:
            self.init_error = document
            self._changed.notify_all()

    def _post_restore_error(self, document: dict[str, Any]) -> None:
        with self._changed:
            self.restore_error = document
            self._changed.notify_all()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A runtime that was stopped in the middle of a call is no error of the server."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _error(error_type: str, message: str) -> dict[str, str]:
    return {"errorMessage": message, "errorType": error_type}


def _chunks(stream: Any) -> Iterator[bytes]:
    """Decode a chunked request body (RFC 9112, section 7.1)."""
    while size := int(stream.readline().split(b";")[0], 16):
        yield stream.read(size)
        stream.readline()
    while stream.readline().strip():
        pass


def _handler_for(api: RuntimeApi) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one write a response: unbuffered, Nagle's algorithm adds 40 ms to each
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: object) -> None:
            pass

        def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

        def answer_json(self, status: int, document: dict[str, str]) -> None:
            self.answer(status, json.dumps(document).encode(), {"Content-Type": "application/json"})

        def endpoint(self) -> list[str]:
            """The path below ``/2018-06-01/runtime/``, in parts; empty if it is another path."""
            parts = self.path.strip("/").split("/")
            return parts[2:] if parts[:2] == [VERSION, "runtime"] else []

        def body(self) -> bytes:
            if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
                return b"".join(_chunks(self.rfile))
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def do_GET(self) -> None:
            match self.endpoint():
                case ["invocation", "next"]:
                    work = api._next()
                    if work is None:
                        self.close_connection = True
                        return
                    request_id, event, deadline_ms = work
                    arn = f"arn:aws:lambda:local:000000000000:function:{api.function_name}"
                    headers = {
                        "Content-Type": "application/json",
                        "Lambda-Runtime-Aws-Request-Id": request_id,
                        "Lambda-Runtime-Deadline-Ms": str(deadline_ms),
                        "Lambda-Runtime-Invoked-Function-Arn": arn,
                        "Lambda-Runtime-Trace-Id": f"Root=1-{int(time.time()):08x}-{request_id.replace('-', '')[:24]}",
                    }
                    self.answer(200, event, headers)
                case ["restore", "next"]:
                    if api._parked():
                        self.answer(200)
                    else:
                        self.close_connection = True
                case _:
                    self.answer_json(404, _error("NotFound", f"no such endpoint: GET {self.path}"))

        def do_POST(self) -> None:
            body = self.body()
            match self.endpoint():
                case ["invocation", request_id, "response"] if len(body) > MAX_RESPONSE_BYTES:
                    self.finish_event(request_id, "too-large", b"")
                case ["invocation", request_id, ("response" | "error") as kind]:
                    self.finish_event(request_id, kind, body)
                case ["init", "error"]:
                    api._post_init_error(_document(body))
                    self.answer_json(202, {"status": "OK"})
                case ["restore", "error"]:
                    api._post_restore_error(_document(body))
                    self.answer_json(202, {"status": "OK"})
                case _:
                    self.answer_json(404, _error("NotFound", f"no such endpoint: POST {self.path}"))

        def finish_event(self, request_id: str, kind: Any, body: bytes) -> None:
            if not api._post(request_id, kind, body):
                self.answer_json(400, _error("InvalidRequestID", "Invalid request ID"))
            elif kind == "too-large":
                message = f"Exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes)."
                self.answer_json(413, _error("RequestEntityTooLarge", message))
            else:
                self.answer_json(202, {"status": "OK"})

    return Handler


def _document(body: bytes) -> dict[str, Any]:
    """An error document; what is no JSON object is kept as its message."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    return document if isinstance(document, dict) else _error("Unknown", body.decode(errors="replace"))
