"""Spans: a small collector that takes what OpenTelemetry exporters send, and traces as trees.

The collector speaks OTLP over HTTP with Protobuf bodies (https://opentelemetry.io/docs/specs/otlp/), decoded with
``opentelemetry-proto``. Spans are joined by W3C trace context: ``traceparent: 00-<trace>-<parent span>-01``
(https://www.w3.org/TR/trace-context/).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from beyondlab.kit import processes

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_KINDS = {1: "internal", 2: "server", 3: "client"}


@dataclass(frozen=True)
class Span:
    """One span. Times in seconds; ids in hexadecimal, ``parent`` empty at the root."""

    trace: str
    id: str
    parent: str
    service: str
    kind: str
    name: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start

    def document(self) -> dict[str, Any]:
        """Its fields, with times to the microsecond: for a recording."""
        return {**asdict(self), "start": round(self.start, 6), "end": round(self.end, 6)}


def parse_traceparent(header: str) -> tuple[str, str, bool] | None:
    """Trace id, id of the parent span, and whether it is sampled; None if the header must be ignored.

    The rules are those of W3C Trace Context, section 3.2: version ff is invalid, ids of zeros are invalid, version 00
    has exactly four fields, later versions may have more.
    """
    found = _TRACEPARENT.fullmatch(header.strip())
    if found is None:
        return None
    version, trace, parent, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or set(trace) == {"0"} or set(parent) == {"0"}:
        return None
    return trace, parent, bool(int(flags, 16) & 1)


def decode(body: bytes) -> list[Span]:
    """The spans of an OTLP export request. Raises ``google.protobuf.message.DecodeError`` for anything else."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest.FromString(body)
    found = []
    for resource in request.resource_spans:
        names = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            found.append(Span(
                span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), (names or ["?"])[0],
                _KINDS.get(span.kind, "other"), span.name, span.start_time_unix_nano / 1e9, span.end_time_unix_nano / 1e9,
            ))  # fmt: skip
    return found


class Collector:
    """Collects spans on a loopback port of its own. A context manager."""

    def __enter__(self) -> Collector:
        self._spans: list[Span] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                if self.headers.get("transfer-encoding") == "chunked":
                    body = b""
                    while size := int(self.rfile.readline(), 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                else:
                    body = self.rfile.read(int(self.headers.get("content-length", 0)))
                collector.add(decode(body))
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: Any) -> None:
                """A proxy that is stopped cuts its connection: nothing to report."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="collector", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, spans: Iterable[Span]) -> None:
        """Keep some more spans."""
        self._spans += spans

    def spans(self, trace: str | None = None) -> list[Span]:
        """What came so far, of one trace or of all, by start."""
        return sorted((s for s in list(self._spans) if trace in (None, s.trace)), key=lambda s: s.start)

    def wait(self, trace: str, count: int, *, timeout: float = 30.0) -> list[Span]:
        """The spans of a trace, once there are ``count`` of them."""
        processes.wait_until(lambda: len(self.spans(trace)) >= count, timeout=timeout, interval=0.02,
                             what=f"{count} spans of trace {trace}")  # fmt: skip
        return self.spans(trace)


@contextmanager
def root_span(collector: Collector, service: str = "client") -> Iterator[tuple[str, dict[str, str]]]:
    """A span of OpenTelemetry's own SDK around a request: its trace id, and the headers to send.

    ``x-client-trace-id`` asks Envoy to sample the request, whatever its rate of sampling.
    """
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    class Into(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            collector.add(
                Span(f"{s.context.trace_id:032x}", f"{s.context.span_id:016x}", "", service, "client", s.name,
                     s.start_time / 1e9, s.end_time / 1e9)
                for s in spans
            )  # fmt: skip
            return SpanExportResult.SUCCESS

    provider = TracerProvider(resource=Resource({"service.name": service}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(Into()))
    with provider.get_tracer("beyondlab").start_as_current_span("GET /", kind=SpanKind.CLIENT) as span:
        headers = {"x-client-trace-id": "lab"}
        TraceContextTextMapPropagator().inject(headers)
        yield f"{span.get_span_context().trace_id:032x}", headers
    provider.shutdown()


def depth_first(spans: Iterable[Span]) -> list[tuple[int, Span]]:
    """Depth and span, parents before children, siblings by start: the order of a waterfall.

    A span whose parent is not among them counts as a root: that is what a broken trace looks like.
    """
    spans = sorted(spans, key=lambda span: span.start)
    known = {span.id for span in spans}
    ordered: list[tuple[int, Span]] = []

    def visit(span: Span, depth: int) -> None:
        ordered.append((depth, span))
        for child in spans:
            if child.parent == span.id:
                visit(child, depth + 1)

    for span in spans:
        if span.parent not in known:
            visit(span, 0)
    return ordered


def roots(spans: Iterable[Span]) -> int:
    """How many pieces a trace is in: 1 if every span but one has its parent."""
    return sum(depth == 0 for depth, _ in depth_first(spans))


def self_seconds(spans: Iterable[Span]) -> dict[str, float]:
    """Span id -> its time that is not covered by its children, which do not overlap each other."""
    spans = list(spans)
    return {s.id: s.seconds - sum(child.seconds for child in spans if child.parent == s.id) for s in spans}


def from_start(spans: Iterable[Span]) -> list[Span]:
    """The same spans, with times from the first start."""
    spans = list(spans)
    zero = min(span.start for span in spans)
    return [replace(span, start=span.start - zero, end=span.end - zero) for span in spans]
